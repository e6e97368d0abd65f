"""Random tensors, with the numbers that PyTorch draws from the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.autograd.views import check_inplace
from disttorch.core import dtypes
from disttorch.core.stream import Stream, default_stream
from disttorch.ops.creation import DeviceLike, finish
from disttorch.ops.index import copy_
from disttorch.ops.shape import sizes_of

__all__ = [
    "bernoulli", "multinomial", "normal", "rand", "rand_like", "randint", "randn", "randn_like",
    "randperm",
]  # fmt: skip
METHODS = """
    bernoulli bernoulli_ exponential_ multinomial normal_ random_ uniform_
"""


def stream_of(generator: Any) -> Stream:
    """Return the stream of a Generator, or the default one for None."""
    return default_stream if generator is None else generator._stream


def _float_type(d: dtypes.dtype | None) -> np.dtype:
    return (d or dtypes.get_default_dtype()).numpy


# -- new tensors --------------------------------------------------------------------------------------------------


def rand(
    *size: Any,
    generator: Any = None,
    dtype: dtypes.dtype | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return uniform random numbers in [0, 1)."""
    return finish(stream_of(generator).uniform(sizes_of(size), _float_type(dtype)), device, requires_grad)


def randn(
    *size: Any,
    generator: Any = None,
    dtype: dtypes.dtype | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return random numbers of the normal distribution with mean 0 and variance 1."""
    return finish(stream_of(generator).normal(sizes_of(size), _float_type(dtype)), device, requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Any = None,
    dtype: dtypes.dtype | None = None,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return random whole numbers from `low` (0 unless given) up to but without `high`: `randint(10, (2, 3))`."""
    if size is None:
        low, high, size = 0, low, high
    d = (dtype or dtypes.int64).numpy
    return finish(stream_of(generator).randint(low, high, sizes_of((size,)), d), device, requires_grad)


def randperm(
    n: int,
    *,
    generator: Any = None,
    dtype: dtypes.dtype = dtypes.int64,
    device: DeviceLike = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return the numbers 0 to n - 1 in random order."""
    return finish(stream_of(generator).randperm(n, dtype.numpy), device, requires_grad)


def rand_like(input: Tensor, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return uniform random numbers in [0, 1) with the shape and type of `input`."""
    return rand(input._a.shape, dtype=dtype or input.dtype, device=input.device)


def randn_like(input: Tensor, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return normal random numbers with the shape and type of `input`."""
    return randn(input._a.shape, dtype=dtype or input.dtype, device=input.device)


def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None) -> Tensor:
    """Return normal random numbers; `mean` and `std` are tensors that broadcast, or numbers with a `size`."""
    if size is None and not isinstance(mean, Tensor) and not isinstance(std, Tensor):
        raise TypeError("normal() of two numbers needs a size, e.g. normal(0.0, 1.0, (2, 3))")
    if size is not None:
        return wrap(stream_of(generator).normal(sizes_of((size,)), _float_type(None), float(mean), float(std)))
    shape = np.broadcast_shapes(*(v._a.shape for v in (mean, std) if isinstance(v, Tensor)))
    given = mean if isinstance(mean, Tensor) else std
    if isinstance(std, Tensor) and (std._a < 0).any():
        raise RuntimeError("normal expects all elements of std >= 0.0")
    noise = stream_of(generator).normal(shape, given._a.dtype)
    return wrap(noise) * std + mean


def bernoulli(input: Tensor, p: float | None = None, *, generator: Any = None) -> Tensor:
    """Return ones with probability input[i] (or `p` everywhere) and zeros otherwise."""
    if p is not None:
        return wrap(stream_of(generator).bernoulli(p, input._a.shape, input._a.dtype))
    return wrap(stream_of(generator).bernoulli_array(input._a))


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Tensor:
    """Return indices drawn with probabilities proportional to `input`, [categories] or [rows, categories]."""
    return wrap(stream_of(generator).multinomial(input._a, num_samples, replacement))


# -- in place -----------------------------------------------------------------------------------------------------


def _refill(input: Tensor, values: Any) -> Tensor:
    return copy_(input, wrap(values))


def uniform_(input: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Any = None, **named: float) -> Tensor:
    """Fill with uniform random numbers in [a, b): `x.uniform_(0, 1)` or `x.uniform_(**{"from": 0, "to": 1})`."""
    low, high = named.pop("from", a), named.pop("to", b)
    if named:
        raise TypeError(f"uniform_() got an unexpected keyword argument '{next(iter(named))}'")
    check_inplace(input)
    return _refill(input, stream_of(generator).uniform(input._a.shape, input._a.dtype, low, high))


def normal_(input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fill with random numbers of the normal distribution."""
    check_inplace(input)
    contiguous = input._a.flags.c_contiguous
    return _refill(input, stream_of(generator).normal(input._a.shape, input._a.dtype, mean, std, contiguous))


def random_(input: Tensor, a: int | None = None, b: int | None = None, *, generator: Any = None) -> Tensor:
    """Fill with random whole numbers: of the type's whole range, below `a`, or from `a` up to but without `b`."""
    check_inplace(input)
    stream, shape, d = stream_of(generator), input._a.shape, input._a.dtype
    if a is None:
        return _refill(input, stream.random(shape, d))
    low, high = (0, a) if b is None else (a, b)
    return _refill(input, stream.randint(low, high, shape, d))


def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:
    """Fill with ones with probability `p` (a number or a tensor) and zeros otherwise."""
    check_inplace(input)
    stream = stream_of(generator)
    if isinstance(p, Tensor):
        return _refill(input, stream.bernoulli_array(np.broadcast_to(p._a, input._a.shape), input._a.dtype))
    return _refill(input, stream.bernoulli(p, input._a.shape, input._a.dtype))


def exponential_(input: Tensor, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fill with random numbers of density lambd * exp(-lambd * x)."""
    check_inplace(input)
    return _refill(input, stream_of(generator).exponential(input._a.shape, input._a.dtype, lambd))
