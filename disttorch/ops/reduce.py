"""Sums, products, means, extrema and logic over all elements or along dimensions: from many elements to few."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod as _product
from typing import Any, NamedTuple

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.core import dtypes
from disttorch.ops.arithmetic import not_for
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.registry import raw, traced
from disttorch.ops.rounding import maximum, minimum
from disttorch.ops.shape import row_major, wrap_dim
from disttorch.ops.write import type_label, with_out, write_out

__all__ = [
    "all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "count_nonzero", "logsumexp", "max", "mean", "min",
    "nanmean", "nansum", "prod", "sum",
]  # fmt: skip
METHODS = """
    all amax amin aminmax any argmax argmin count_nonzero logsumexp max mean min nanmean nansum prod sum
"""

Dims = int | Sequence[int] | None


def reduced_dims(dim: Dims, ndim: int) -> tuple[int, ...]:
    """Return the dimensions to reduce, counted from the front; None or an empty sequence means all."""
    if dim is None:
        return tuple(range(ndim))
    listed = [wrap_dim(d, ndim) for d in ([dim] if isinstance(dim, int) else dim)]
    if len(set(listed)) != len(listed):
        raise RuntimeError(f"dim {listed[-1]} appears multiple times in the list of dims")
    if not ndim:
        return ()
    return tuple(sorted(listed)) or tuple(range(ndim))


def spread(F: Any, g: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    """Return a reduced gradient with the reduced dimensions back, of size 1."""
    if keepdim or not dims or (not g.ndim and len(dims) == 0):
        return g
    shape = list(g.shape)
    for d in dims:
        shape.insert(d, 1)
    return F.reshape(g, tuple(shape))


# -- sums ---------------------------------------------------------------------------------------------------------


@operator(1, name="sum")
def _sum(xp, x, dims, keepdim):
    if x.dtype.itemsize == 2 and x.dtype.kind not in "iu":
        return row_major(xp.add.reduce(x, dims, np.float32, None, keepdim).astype(x.dtype))
    return row_major(xp.add.reduce(x, dims, x.dtype, None, keepdim) if xp is np else x.sum(dims, keepdims=keepdim))


@_sum.vjp
def _(F, g, x_shape, dims, keepdim):
    return F.expand(spread(F, g, dims, keepdim), x_shape)


def summable(input: Tensor, dtype: dtypes.dtype | None) -> Tensor:
    """Return what a sum or product adds up: the input as `dtype`, else as int64 if it holds integers or bools."""
    expect_tensor(input, "sum")
    if dtype is not None:
        return input.to(dtype)
    return traced.cast(input, np.dtype(np.int64)) if input._a.dtype.kind in "biu" else input


def sum(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: dtypes.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return the sum over all elements, or over `dim`. Integers and bools are summed as int64."""
    result = _sum(summable(input, dtype), reduced_dims(dim, input._a.ndim), keepdim)
    return result if out is None else write_out(out, result, "sum")


@operator(1, name="mean")
def _mean(xp, x, dims, keepdim):
    total = raw.sum(x, dims, keepdim)
    count = _product(x.shape[d] for d in dims)
    return total * x.dtype.type(1 / count) if count else total * x.dtype.type(float("nan"))


@_mean.vjp
def _(F, g, x_shape, dims, keepdim):
    count = _product(x_shape[d] for d in dims)
    return F.expand(spread(F, g, dims, keepdim) * (1 / count), x_shape)


def mean(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: dtypes.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return the mean over all elements, or over `dim`."""
    expect_tensor(input, "mean")
    asked = input._a.dtype if dtype is None else dtype.numpy
    if asked.kind in "biu":
        raise RuntimeError(
            f"mean(): could not infer output dtype. {'Input' if dtype is None else 'Optional'} dtype must be either a "
            f"floating point or complex dtype. Got: {type_label(asked)}"
        )
    input = input if dtype is None else input.to(dtype)
    result = _mean(input, reduced_dims(dim, input._a.ndim), keepdim)
    return result if out is None else write_out(out, result, "mean")


# -- without NaN, and how many ---------------------------------------------------------------------------------------


@with_out
def nansum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return the sum over all elements, or over `dim`, with NaN counted as 0."""
    if input._a.dtype.kind == "c":
        raise RuntimeError("nansum on CPU does not support complex inputs")
    if input._a.dtype.kind not in "biu":
        input = traced.where(input != input, 0.0, input)
    return sum(input, dim, keepdim, dtype=dtype)


@with_out
def nanmean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return the mean over all elements, or over `dim`, that are not NaN."""
    if input._a.dtype.kind in "biu":
        raise RuntimeError(
            f"nanmean(): expected input to have floating point or complex dtype but got {type_label(input._a.dtype)}"
        )
    return nansum(input, dim, keepdim, dtype=dtype) / sum(input == input, dim, keepdim)


def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """Return how many elements, along `dim` if given, are not zero."""
    found = backend_of(input._a).namespace.count_nonzero(input._a, axis=reduced_dims(dim, input._a.ndim))
    return wrap(np.asarray(found, np.int64) if np.isscalar(found) else found)


# -- products and log-sum-exp -----------------------------------------------------------------------------------------


@operator(1, name="prod")
def _prod(xp, x, dims, keepdim):
    return row_major(x.prod(dims, dtype=x.dtype, keepdims=keepdim))


@_prod.vjp
def _(F, g, x, dims, keepdim):
    if not dims:
        return g
    return spread(F, g, dims, keepdim) * F.conj(F.product_of_others(x, dims))


@operator(1, name="product_of_others")
def _product_of_others(xp, x, dims):
    """Return for each element the product of the others along `dims`, exact where elements are zero."""
    rest = tuple(d for d in range(x.ndim) if d not in dims)
    order = (*rest, *dims)
    count = _product(x.shape[d] for d in dims)
    rows = x.transpose(order).reshape(*(x.shape[d] for d in rest), count)
    before, after = xp.ones_like(rows), xp.ones_like(rows)
    before[..., 1:] = xp.cumprod(rows[..., :-1], -1)
    after[..., :-1] = xp.cumprod(rows[..., :0:-1], -1)[..., ::-1]
    others = (before * after).reshape(tuple(x.shape[d] for d in order))
    return others.transpose(tuple(int(i) for i in np.argsort(order)))


@_product_of_others.vjp
def _(F, g, x, dims):
    # Element k takes part in the product of every other element j, once for each pair (j, k) of one row.
    rest = tuple(d for d in range(x.ndim) if d not in dims)
    order = (*rest, *dims)
    lead = tuple(x.shape[d] for d in rest)
    n = _product(x.shape[d] for d in dims)
    rows = F.reshape(F.permute(x, order), (*lead, n))
    weights = F.reshape(F.permute(g, order), (*lead, n))
    square = (*lead, n, n)
    same = F.constant(x, np.eye(n, dtype=bool))
    held_out = F.where(same, 1.0, F.expand(F.reshape(rows, (*lead, 1, n)), square))
    pairs = F.where(same, 0.0, F.product_of_others(held_out, (len(lead) + 1,)))
    total = F.sum(F.conj(pairs) * F.reshape(weights, (*lead, n, 1)), (len(lead),), False)
    shaped = F.reshape(total, tuple(x.shape[d] for d in order))
    return F.permute(shaped, tuple(int(i) for i in np.argsort(order)))


@with_out
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return the product over all elements, or over `dim`. Integers and bools are multiplied as int64."""
    return _prod(summable(input, dtype), reduced_dims(dim, input._a.ndim), keepdim)


@operator(1, name="logsumexp")
def _logsumexp(xp, x, dims, keepdim):
    x = row_major(x)
    if x.dtype.itemsize == 2:
        return raw.logsumexp(x.astype(np.float32), dims, keepdim).astype(x.dtype)
    top = x.real.max(dims, keepdims=True) if x.size else xp.zeros((), x.dtype)
    top = xp.where(xp.isfinite(top), top, 0)
    total = xp.log(xp.exp(x - top).sum(dims, keepdims=True)) + top
    return total if keepdim else total.reshape(tuple(n for d, n in enumerate(x.shape) if d not in dims))


@_logsumexp.vjp
def _(F, g, x, out, dims, keepdim):
    return spread(F, g, dims, keepdim) * F.conj(F.exp(x - spread(F, out, dims, keepdim)))


@with_out
def logsumexp(input: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """Return log(sum(exp(input))) over `dim`, without overflow."""
    if input._a.dtype.kind in "biu":
        input = input.to(dtypes.get_default_dtype())
    return _logsumexp(input, reduced_dims(dim, input._a.ndim), keepdim)


# -- extrema ------------------------------------------------------------------------------------------------------


class MaxResult(NamedTuple):
    values: Tensor
    indices: Tensor


class AminmaxResult(NamedTuple):
    min: Tensor
    max: Tensor


@operator(1, name="extreme", grad_name="MaxBackward1")
def _extreme(xp, x, largest, dims, keepdim):
    not_for("max_values_cpu", x, "c")
    return row_major(x.max(dims, keepdims=keepdim) if largest else x.min(dims, keepdims=keepdim))


@_extreme.vjp
def _(F, g, x, out, dims, keepdim):
    best = spread(F, out, dims, keepdim)
    mask = (x == best) * 1.0
    return spread(F, g, dims, keepdim) * (mask / F.sum(mask, dims, True))


def _check_not_empty(function: str, input: Tensor, dims: tuple[int, ...], named: bool) -> None:
    """Raise PyTorch's error for a reduction over nothing; `named` says whether the user named the dimensions."""
    empty = [d for d in dims if not input._a.shape[d]]
    if empty and named:
        raise IndexError(f"{function}(): Expected reduction dim {empty[0]} to have non-zero size.")
    if empty:
        raise RuntimeError(
            f"{function}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the "
            "'dim' argument."
        )


def _given(dim: Dims) -> bool:
    return dim is not None and dim != () and dim != []


@with_out
def amax(input: Tensor, dim: Dims = (), keepdim: bool = False) -> Tensor:
    """Return the largest element; a gradient is shared equally between equal ones."""
    dims = reduced_dims(dim, input._a.ndim)
    _check_not_empty("amax", input, dims, _given(dim))
    return _extreme(input, True, dims, keepdim)


@with_out
def amin(input: Tensor, dim: Dims = (), keepdim: bool = False) -> Tensor:
    """Return the smallest element; a gradient is shared equally between equal ones."""
    dims = reduced_dims(dim, input._a.ndim)
    _check_not_empty("amin", input, dims, _given(dim))
    return _extreme(input, False, dims, keepdim)


@with_out
def _aminmax(input: Tensor, dim: int | None, keepdim: bool) -> AminmaxResult:
    dims = reduced_dims(dim, input._a.ndim)
    _check_not_empty("aminmax", input, dims, _given(dim))
    return AminmaxResult(_extreme(input, False, dims, keepdim), _extreme(input, True, dims, keepdim))


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False, out: Any = None) -> AminmaxResult:
    """Return the smallest and the largest element; a gradient is shared equally between equal ones."""
    for written in out or ():
        if written.dtype != input.dtype:
            raise RuntimeError(f"Expected out tensor to have dtype {input.dtype!r}, but got {written.dtype!r} instead")
    return _aminmax(input, dim, keepdim, out=out)


def _positions(a: Any, largest: bool, dim: int) -> Any:
    return (a.argmax(dim) if largest else a.argmin(dim)) if a.ndim else backend_of(a).namespace.zeros((), np.int64)


def _best(input: Tensor, largest: bool, dim: int, keepdim: bool, function: str) -> MaxResult:
    d = wrap_dim(dim, input._a.ndim)
    if input._a.dtype.kind == "c":
        raise RuntimeError(f"{function}(): does not support complex input")
    if input._a.ndim:
        _check_not_empty(function, input, (d,), True)
    xp = backend_of(input._a).namespace
    if not input._a.ndim:
        return MaxResult(traced.clone(input, False), wrap(xp.zeros((), np.int64)))
    where = xp.expand_dims(_positions(input._a, largest, d), d)
    values, indices = traced.gather(input, d, where), wrap(where)
    return MaxResult(values, indices) if keepdim else MaxResult(values.squeeze(d), indices.squeeze(d))


def _whole(input: Tensor, largest: bool, function: str) -> Tensor:
    dims = tuple(range(input._a.ndim))
    _check_not_empty(function, input, dims, False)
    return _extreme(input, largest, dims, False)


@with_out
def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """Return the largest element; with `dim` the values and indices along it; with a tensor the larger of each pair."""
    other = dim if isinstance(dim, Tensor) else other
    if other is not None:
        return maximum(expect_tensor(input, "max"), other)
    return _whole(input, True, "max") if dim is None else _best(input, True, dim, keepdim, "max")


@with_out
def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """Return the smallest element; with `dim` the values and indices along it; with a tensor the smaller of each pair."""
    other = dim if isinstance(dim, Tensor) else other
    if other is not None:
        return minimum(expect_tensor(input, "min"), other)
    return _whole(input, False, "min") if dim is None else _best(input, False, dim, keepdim, "min")


def _arg(input: Tensor, dim: int | None, keepdim: bool, largest: bool) -> Tensor:
    a = input._a
    name, xp = "argmax" if largest else "argmin", backend_of(a).namespace
    if a.dtype.kind in "cb":
        raise RuntimeError(f"{name}(): does not support {'complex' if a.dtype.kind == 'c' else 'bool'} input")
    if dim is None:
        if not a.size:
            raise IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")
        flat = a.reshape(-1)
        found = xp.asarray(flat.argmax() if largest else flat.argmin())
        return wrap(found.reshape((1,) * a.ndim) if keepdim else found)
    d = wrap_dim(dim, a.ndim)
    if a.ndim:
        _check_not_empty(name, input, (d,), True)
    found = xp.asarray(_positions(a, largest, d))
    return wrap(xp.expand_dims(found, d) if keepdim and a.ndim else found)


@with_out
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return the position of the largest element, in the flattened tensor or along `dim`."""
    return _arg(input, dim, keepdim, True)


@with_out
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return the position of the smallest element, in the flattened tensor or along `dim`."""
    return _arg(input, dim, keepdim, False)


# -- logic --------------------------------------------------------------------------------------------------------


def _logical(input: Tensor, dim: Dims, keepdim: bool, function: str) -> Tensor:
    xp = backend_of(input._a).namespace
    found = getattr(xp, function)(input._a, axis=reduced_dims(dim, input._a.ndim), keepdims=keepdim)
    return wrap(xp.asarray(found, np.uint8 if input._a.dtype == np.uint8 else bool))


@with_out
def all(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether every element, along `dim` if given, is nonzero."""
    return _logical(input, dim, keepdim, "all")


@with_out
def any(input: Tensor, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """Whether some element, along `dim` if given, is nonzero."""
    return _logical(input, dim, keepdim, "any")
