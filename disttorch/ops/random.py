"""Random tensors, with the numbers that PyTorch draws from the same seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.autograd.views import check_inplace
from disttorch.backends import backend_of
from disttorch.core import dtypes
from disttorch.core.stream import Stream, default_stream
from disttorch.ops.creation import creator, like, shape_from
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.index import copy_
from disttorch.ops.registry import traced
from disttorch.ops.write import with_out, write_out

__all__ = [
    "bernoulli", "multinomial", "normal", "rand", "rand_like", "randint", "randint_like", "randn",
    "randn_like", "randperm",
]  # fmt: skip
METHODS = """
    bernoulli bernoulli_ cauchy_ exponential_ geometric_ log_normal_ multinomial normal_ random_ uniform_
"""

Draw = Callable[[tuple[int, ...]], Any]


def stream_of(generator: Any) -> Stream:
    """Return the stream of a Generator, or the default one for None."""
    return default_stream if generator is None else generator._stream


def _on_host(a: Any) -> np.ndarray:
    """Return an array where the random numbers are made: on the CPU."""
    return a if isinstance(a, np.ndarray) else a.get()


def _float_type(d: np.dtype | None) -> np.dtype:
    return d or dtypes.get_default_dtype().numpy


# -- new tensors --------------------------------------------------------------------------------------------------


@creator
def rand(*sizes: Any, size: Any = None, generator: Any = None, dtype: Any = None) -> Any:
    """Return uniform random numbers in [0, 1)."""
    return stream_of(generator).uniform(shape_from("rand", sizes, size), _float_type(dtype))


@creator
def randn(*sizes: Any, size: Any = None, generator: Any = None, dtype: Any = None) -> Any:
    """Return random numbers of the normal distribution with mean 0 and variance 1."""
    return stream_of(generator).normal(shape_from("randn", sizes, size), _float_type(dtype))


@creator
def randint(
    *values: Any, low: Any = 0, high: Any = None, size: Any = None, generator: Any = None, dtype: Any = None
) -> Any:
    """Return random whole numbers from `low` (0 unless given) up to but without `high`: `randint(10, (2, 3))`."""
    bounds = list(values)
    if size is None and bounds:
        size = bounds.pop()
    if high is None and bounds:
        high = bounds.pop()
    if bounds:
        low = bounds.pop()
    if high is None or bounds:
        raise TypeError("randint(): expected randint(high, size) or randint(low, high, size)")
    shape = shape_from("randint", (), size)
    return stream_of(generator).randint(int(low), int(high), shape, dtype or np.dtype(np.int64))


@creator
def randperm(n: int, *, generator: Any = None, dtype: Any = None) -> Any:
    """Return the numbers 0 to n - 1 in random order."""
    return stream_of(generator).randperm(n, dtype or np.dtype(np.int64))


def _in_memory_order(array: Any, draw: Draw) -> Any:
    """Return drawn numbers in the shape of an array: PyTorch fills memory from front to back, whatever the strides."""
    xp = backend_of(array).namespace
    if array.flags.c_contiguous:
        return xp.asarray(draw(array.shape))
    order = sorted(range(array.ndim), key=lambda k: -array.strides[k])
    values = draw(tuple(array.shape[k] for k in order))
    return xp.asarray(values).transpose(tuple(order.index(k) for k in range(array.ndim)))


@like
def rand_like(array: Any, *, generator: Any = None) -> None:
    """Return uniform random numbers in [0, 1) with the shape and type of `input`."""
    array[...] = _in_memory_order(array, lambda shape: stream_of(generator).uniform(shape, array.dtype))


@like
def randn_like(array: Any, *, generator: Any = None) -> None:
    """Return normal random numbers with the shape and type of `input`."""
    array[...] = _normal(array, 0.0, 1.0, generator)


@like
def randint_like(array: Any, low: Any = None, high: Any = None, *, generator: Any = None) -> None:
    """Return random whole numbers with the shape and type of `input`: below `low`, or from `low` up to but without `high`."""
    first, end = (0, low) if high is None else (low or 0, high)
    array[...] = _in_memory_order(
        array, lambda shape: stream_of(generator).randint(int(first), int(end), shape, array.dtype)
    )


def _normal(array: Any, mean: float, std: float, generator: Any) -> Any:
    contiguous = array.flags.c_contiguous
    return _in_memory_order(array, lambda shape: stream_of(generator).normal(shape, array.dtype, mean, std, contiguous))


# -- drawn by the elements of other tensors -----------------------------------------------------------------------


@operator(2, name="normal")
def _drawn_normal(xp, mean, std, noise):
    return xp.asarray(noise)


@_drawn_normal.vjp("mean")
def _(F, g):
    return g * 0


@_drawn_normal.vjp("std")
def _(F, g):
    return g * 0


@creator
def _normal_of_numbers(mean: float, std: float, size: Any, *, generator: Any = None, dtype: Any = None) -> Any:
    return stream_of(generator).normal(shape_from("normal", (), size), _float_type(dtype), float(mean), float(std))


@with_out
def _normal_of_tensors(mean: Any, std: Any, generator: Any) -> Tensor:
    given = mean if isinstance(mean, Tensor) else std
    if isinstance(std, Tensor):
        if std._a.dtype.kind == "c":
            raise RuntimeError("normal expects standard deviation to be non-complex")
        if (std._a < 0).any():
            raise RuntimeError("normal expects all elements of std >= 0.0")
    elif not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    mean_array, std_array = (v._a if isinstance(v, Tensor) else v for v in (mean, std))
    shape = np.broadcast_shapes(getattr(mean_array, "shape", ()), getattr(std_array, "shape", ()))
    noise = backend_of(given._a).namespace.asarray(stream_of(generator).normal(shape, given._a.dtype))
    noise *= std_array
    noise += mean_array
    operands = [v if isinstance(v, Tensor) else None for v in (mean, std)]
    return traced.normal(*operands, noise)


def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Any = None, **options: Any) -> Tensor:
    """Return normal random numbers; `mean` and `std` are tensors that broadcast, or numbers with a `size`."""
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        return _normal_of_tensors(mean, std, generator, **options)
    if size is None:
        raise TypeError("normal() of two numbers needs a size, e.g. normal(0.0, 1.0, (2, 3))")
    return _normal_of_numbers(mean, std, size, generator=generator, **options)


@operator(1, name="bernoulli")
def _drawn(xp, x, values):
    return xp.asarray(values)


@_drawn.vjp
def _(F, g):
    return g * 0


@with_out
def bernoulli(input: Tensor, p: float | None = None, *, generator: Any = None) -> Tensor:
    """Return ones with probability input[i] (or `p` everywhere) and zeros otherwise."""
    stream, a = stream_of(generator), expect_tensor(input, "bernoulli")._a
    return _drawn(input, stream.bernoulli_array(_on_host(a)) if p is None else stream.bernoulli(p, a.shape, a.dtype))


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None, out: Tensor | None = None
) -> Tensor:
    """Return indices drawn with probabilities proportional to `input`, [categories] or [rows, categories]."""
    if out is not None and out._a.dtype != np.int64:
        raise RuntimeError(f"multinomial expects Long tensor out, got: {out.dtype}")
    result = wrap(stream_of(generator).multinomial(_on_host(input._a), num_samples, replacement))
    result = traced.constant(input, result._a)
    return result if out is None else write_out(out, result, "multinomial")


# -- in place -----------------------------------------------------------------------------------------------------


def _refill(input: Tensor, draw: Draw) -> Tensor:
    check_inplace(input)
    return copy_(input, wrap(_in_memory_order(input._a, draw)))


def uniform_(input: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Any = None, **named: float) -> Tensor:
    """Fill with uniform random numbers in [a, b): `x.uniform_(0, 1)` or `x.uniform_(**{"from": 0, "to": 1})`."""
    low, high = _named_bounds("uniform_", named, a, b)
    return _refill(input, lambda shape: stream_of(generator).uniform(shape, input._a.dtype, low, high))


def _named_bounds(function: str, named: dict[str, Any], low: Any, high: Any) -> tuple[Any, Any]:
    """Return the bounds given by position, or by PyTorch's names `from` and `to`."""
    found = named.pop("from", low), named.pop("to", high)
    if named:
        raise TypeError(f"{function}() got an unexpected keyword argument '{next(iter(named))}'")
    return found


def normal_(input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fill with random numbers of the normal distribution."""
    check_inplace(input)
    return copy_(input, wrap(_normal(input._a, mean, std, generator)))


def random_(
    input: Tensor, a: int | None = None, b: int | None = None, *, generator: Any = None, **named: Any
) -> Tensor:
    """Fill with random whole numbers: of the type's whole range, below `a`, or from `a` up to but without `b`."""
    stream, d = stream_of(generator), input._a.dtype
    first, end = _named_bounds("random_", named, a, b)
    if first is None and end is None:
        return _refill(input, lambda shape: stream.random(shape, d))
    low, high = (0, first) if end is None and "from" not in named else (first or 0, end)
    return _refill(input, lambda shape: stream.randint(low, high, shape, d))


def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:
    """Fill with ones with probability `p` (a number or a tensor) and zeros otherwise."""
    stream, a = stream_of(generator), input._a
    if not isinstance(p, Tensor):
        return _refill(input, lambda shape: stream.bernoulli(p, shape, a.dtype))
    chances = np.broadcast_to(_on_host(p._a), a.shape)
    order = sorted(range(a.ndim), key=lambda k: -a.strides[k])
    return _refill(input, lambda shape: stream.bernoulli_array(chances.transpose(order).reshape(shape), a.dtype))


def _distribution(name: str, draw: Callable[..., Any], doc: str) -> Callable[..., Tensor]:
    """Make a method that fills a tensor with numbers of a distribution; `draw(stream, ...)` returns a function of a shape and a
    type."""

    def function(input: Tensor, *args: float, generator: Any = None, **named: float) -> Tensor:
        fill = draw(stream_of(generator), *args, **named)
        return _refill(input, lambda shape: fill(shape, input._a.dtype))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


exponential_ = _distribution(
    "exponential_",
    lambda stream, lambd=1.0: lambda shape, d: stream.exponential(shape, d, lambd),
    "Fill with random numbers of density lambd * exp(-lambd * x).",
)
cauchy_ = _distribution(
    "cauchy_",
    lambda stream, median=0.0, sigma=1.0: lambda shape, d: stream.cauchy(shape, d, median, sigma),
    "Fill with random numbers of the Cauchy distribution, median + sigma * tan(pi * (u - 1/2)).",
)
log_normal_ = _distribution(
    "log_normal_",
    lambda stream, mean=1.0, std=2.0: lambda shape, d: stream.log_normal(shape, d, mean, std),
    "Fill with e to the power of random numbers of the normal distribution.",
)
geometric_ = _distribution(
    "geometric_",
    lambda stream, p: lambda shape, d: stream.geometric(p, shape, d),
    "Fill with random numbers of trials up to the first success, each with probability `p`.",
)
