"""Reductions and normalizations over the elements that a mask selects.

Elsewhere the elements are replaced by one that leaves the result as it is: 0 in a sum, minus infinity in a maximum. A mask
broadcasts to the input and is True where an element counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.core import dtypes
from disttorch.ops import order, reduce, scan
from disttorch.ops.distance import norm as norm_of_all
from disttorch.ops.reduce import Dims, reduced_dims
from disttorch.ops.registry import traced
from disttorch.ops.rounding import clamp_min, maximum
from disttorch.ops.shape import broadcast_to, reshape, wrap_dim

__all__ = [
    "amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp", "logsumexp", "mean", "median",
    "norm", "normalize", "prod", "softmax", "softmin", "std", "sum", "var",
]  # fmt: skip

_INFINITY = float("inf")


def _full_mask(input: Tensor, mask: Tensor) -> Tensor:
    if mask._a.ndim > input._a.ndim:
        raise IndexError(
            f"expected a mask that broadcasts to the input of {input._a.ndim} dimensions, got one of {mask._a.ndim}"
        )
    return broadcast_to(mask, input._a.shape).to(dtypes.bool_)


def _lowest(d: np.dtype) -> Any:
    return np.iinfo(d).min if d.kind in "iu" else -_INFINITY


def _highest(d: np.dtype) -> Any:
    return np.iinfo(d).max if d.kind in "iu" else _INFINITY


def _kept(input: Tensor, mask: Tensor | None, filler: Any) -> Tensor:
    """Return the input with `filler` (or what it gives for the input's type) where the mask is False."""
    if mask is None:
        return input
    value = filler(input._a.dtype) if callable(filler) else filler
    return traced.where(_full_mask(input, mask), input, wrap(np.asarray(value, input._a.dtype)))


def _as(result: Tensor, input: Tensor, dtype: dtypes.dtype | None) -> Tensor:
    return result.to(input.dtype if dtype is None else dtype)


# -- sums, products, extrema ------------------------------------------------------------------------------------------


def sum(
    input: Tensor,
    dim: Dims = None,
    *,
    keepdim: bool = False,
    dtype: dtypes.dtype | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the sum of the elements that count, over all or over `dim`; 0 where there are none."""
    return reduce.sum(_kept(input, mask, 0), dim, bool(keepdim), dtype=dtype)


def prod(
    input: Tensor,
    dim: Dims = None,
    *,
    keepdim: bool = False,
    dtype: dtypes.dtype | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the product of the elements that count, over all or over `dim`; 1 where there are none."""
    result = reduce.summable(_kept(input, mask, 1), dtype)
    for d in reversed(reduced_dims(dim, input._a.ndim)):
        result = reduce.prod(result, d, bool(keepdim))
    return result


def _reduction(function: Callable[..., Tensor], filler: Any, name: str, doc: str) -> Callable[..., Tensor]:
    """Return the masked form of a reduction whose result has the input's type."""

    def masked(
        input: Tensor,
        dim: Any = None,
        *,
        keepdim: bool = False,
        dtype: dtypes.dtype | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        if dim is None and not name.startswith("arg"):
            dim = reduced_dims(None, input._a.ndim)
        return _as(function(_kept(input, mask, filler), dim, bool(keepdim)), input, dtype)

    masked.__name__ = masked.__qualname__ = name
    masked.__doc__ = doc
    return masked


amax = _reduction(reduce.amax, _lowest, "amax", "Return the largest element that counts, over all or over `dim`.")
amin = _reduction(reduce.amin, _highest, "amin", "Return the smallest element that counts, over all or over `dim`.")
argmax = _reduction(reduce.argmax, _lowest, "argmax", "Return where the largest element that counts is.")
argmin = _reduction(reduce.argmin, _highest, "argmin", "Return where the smallest element that counts is.")
logsumexp = _reduction(
    reduce.logsumexp, _lowest, "logsumexp", "Return log(sum(exp(input))) of the elements that count, without overflow."
)


def _scan(function: Callable[..., Tensor], filler: Any, name: str, doc: str) -> Callable[..., Tensor]:
    """Return the masked form of a running total."""

    def masked(input: Tensor, dim: int, *, dtype: dtypes.dtype | None = None, mask: Tensor | None = None) -> Tensor:
        return _as(function(_kept(input, mask, filler), dim, dtype=dtype), input, dtype)

    masked.__name__ = masked.__qualname__ = name
    masked.__doc__ = doc
    return masked


cumsum = _scan(scan.cumsum, 0, "cumsum", "Return the running sum along `dim` of the elements that count.")
cumprod = _scan(scan.cumprod, 1, "cumprod", "Return the running product along `dim` of the elements that count.")


def logaddexp(
    input: Tensor,
    other: Tensor,
    *,
    dtype: dtypes.dtype | None = None,
    input_mask: Tensor | None = None,
    other_mask: Tensor | None = None,
) -> Tensor:
    """Return log(exp(input) + exp(other)), each term only where its mask is True."""
    result = traced.logaddexp(_kept(input, input_mask, _lowest), _kept(other, other_mask, _lowest))
    return _as(result, input, dtype)


# -- means, medians, norms --------------------------------------------------------------------------------------------


def _total_and_count(
    input: Tensor, dim: Dims, keepdim: bool, dtype: dtypes.dtype | None, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    counted = traced.eq(input, input) | True if mask is None else _full_mask(input, mask)
    return sum(input, dim, keepdim=keepdim, dtype=dtype, mask=mask), reduce.sum(counted, dim, bool(keepdim))


def mean(
    input: Tensor,
    dim: Dims = None,
    *,
    keepdim: bool = False,
    dtype: dtypes.dtype | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the mean of the elements that count, over all or over `dim`; NaN where there are none."""
    asked = input.dtype if dtype is None else dtype
    if asked.kind in ("bool", "integer"):
        raise ValueError(
            f"mean(): Could not infer output dtype. {'Input' if dtype is None else 'Optional'} dtype must be either a "
            f"floating point or complex dtype. Got: {asked!r}"
        )
    total, count = _total_and_count(input, dim, keepdim, asked, mask)
    return total / count


def median(
    input: Tensor,
    dim: int = -1,
    *,
    keepdim: bool = False,
    dtype: dtypes.dtype | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the median along `dim` of the elements that count, the lower one of two; NaN where there are none."""
    is_float = input._a.dtype.kind in "fV"
    values = _kept(input if is_float else input.to(dtypes.float32), mask, float("nan"))
    result = order.nanmedian(values, wrap_dim(dim, input._a.ndim), keepdim).values
    if is_float:
        return result
    if (result._a != result._a).any():
        raise ValueError("masked median expects no fully masked out rows if dtype is not floating point")
    return _as(result, input, dtype)


def norm(
    input: Tensor,
    ord: float | None = 2.0,
    dim: Dims = None,
    *,
    keepdim: bool = False,
    dtype: dtypes.dtype | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the norm of order `ord` of the elements that count, over all or over `dim`; 0 where there are none."""
    p = 2.0 if ord is None else float(ord)
    values = _kept(input, mask, _INFINITY if p == -_INFINITY else 0)
    return norm_of_all(values if dtype is None else values.to(dtype), p, dim, bool(keepdim))


def _variance(
    input: Tensor,
    dim: Dims,
    unbiased: bool | None,
    correction: float | None,
    keepdim: bool,
    dtype: dtypes.dtype | None,
    mask: Tensor | None,
) -> Tensor:
    if dtype is None:
        dtype = dtypes.float32 if input.dtype.kind in ("bool", "integer") else input.dtype
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    total, count = _total_and_count(input, dim, True, dtype, mask)
    centred = input - total / count
    squares = sum(centred * traced.conj(centred), dim, keepdim=keepdim, dtype=dtype, mask=mask)
    count = reshape(count, squares._a.shape)
    if correction:
        count = clamp_min(count.to(dtypes.from_numpy_dtype(squares.real._a.dtype)) - correction, 0)
    return squares / count


def var(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
    dtype: dtypes.dtype | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the variance of the elements that count, over all or over `dim`; NaN where there are none."""
    return _variance(input, dim, unbiased, correction, keepdim, dtype, mask)


def std(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
    dtype: dtypes.dtype | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the standard deviation of the elements that count, over all or over `dim`; NaN where there are none."""
    return traced.sqrt(_variance(input, dim, unbiased, correction, keepdim, dtype, mask))


# -- normalizations -----------------------------------------------------------------------------------------------


def softmax(input: Tensor, dim: int, *, dtype: dtypes.dtype | None = None, mask: Tensor | None = None) -> Tensor:
    """Return exp(input) divided by its sum along `dim`, as if the elements that do not count were not there."""
    return _kept(input, mask, _lowest).softmax(dim, dtype=input.dtype if dtype is None else dtype)


def log_softmax(input: Tensor, dim: int, *, dtype: dtypes.dtype | None = None, mask: Tensor | None = None) -> Tensor:
    """Return the logarithm of `softmax`."""
    return _kept(input, mask, _lowest).log_softmax(dim, dtype=input.dtype if dtype is None else dtype)


def softmin(input: Tensor, dim: int, *, dtype: dtypes.dtype | None = None, mask: Tensor | None = None) -> Tensor:
    """Return `softmax` of the negative input."""
    return (-_kept(input, mask, _highest)).softmax(dim, dtype=input.dtype if dtype is None else dtype)


def normalize(
    input: Tensor,
    ord: float,
    dim: int,
    *,
    eps: float = 1e-12,
    dtype: dtypes.dtype | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the elements that count divided by their norm along `dim` (by `eps` at least), 0 elsewhere."""
    size = norm(input, ord, dim, keepdim=True, dtype=input.dtype if dtype is None else dtype, mask=mask)
    return _kept(input, mask, 0) / maximum(size, wrap(np.asarray(eps, size._a.dtype)))
