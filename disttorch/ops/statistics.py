"""Statistics of elements: variances, quantiles, histograms, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of, kernels_of
from disttorch.ops.arithmetic import lerp, not_for
from disttorch.ops.creation import linspace
from disttorch.ops.define import operator
from disttorch.ops.diagonals import diagonal
from disttorch.ops.linalg import matmul
from disttorch.ops.order import sort
from disttorch.ops.reduce import Dims, mean, reduced_dims, sum
from disttorch.ops.registry import traced
from disttorch.ops.rounding import clamp
from disttorch.ops.shape import movedim, reshape, squeeze, unsqueeze, wrap_dim
from disttorch.ops.write import with_out

__all__ = [
    "bincount", "corrcoef", "cov", "histc", "histogram", "histogramdd", "nanquantile", "quantile", "std", "std_mean", "var",
    "var_mean",
]  # fmt: skip
METHODS = """
    bincount corrcoef cov histc histogram nanquantile quantile std var
"""

# -- variance -----------------------------------------------------------------------------------------------------


def _var_and_mean(
    input: Tensor, dim: Any, unbiased: bool | None, keepdim: bool, correction: float | None
) -> tuple[Tensor, Tensor]:
    if isinstance(dim, bool):  # var(input, unbiased)
        unbiased, dim = dim, None
    if unbiased is not None:
        correction = int(unbiased)
    if input._a.dtype.kind in "biu":
        raise RuntimeError("std and var only support floating point and complex dtypes")
    dims = reduced_dims(dim, input._a.ndim)
    middle = mean(input, dims, True) if dims else traced.clone(input, False)
    centred = input - middle
    squares = centred * traced.conj(centred)
    if squares._a.dtype.kind == "c":
        squares = squares.real
    count = prod(input._a.shape[d] for d in dims)
    variance = traced.sum(squares, dims, keepdim) / max(count - (1 if correction is None else correction), 0)
    return variance, middle if keepdim or not dims else squeeze(middle, dims)


@operator(1, name="root_of_variance", grad_name="StdBackward0")
def _root(xp, x):
    return xp.sqrt(x)


@_root.vjp
def _(F, g, out):
    return F.where(out == 0, 0.0, g / (F.where(out == 0, 1.0, out) * 2))


@with_out
def var(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = 1,
) -> Tensor:
    """Return the variance: the squared distance from the mean, summed and divided by (count - correction)."""
    return _var_and_mean(input, dim, unbiased, keepdim, correction)[0]


@with_out
def std(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = 1,
) -> Tensor:
    """Return the standard deviation, the square root of `var`."""
    return _root(_var_and_mean(input, dim, unbiased, keepdim, correction)[0])


def var_mean(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = 1,
) -> tuple[Tensor, Tensor]:
    """Return `var` and the mean."""
    return _var_and_mean(input, dim, unbiased, keepdim, correction)


def std_mean(
    input: Tensor,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = 1,
) -> tuple[Tensor, Tensor]:
    """Return `std` and the mean."""
    variance, middle = _var_and_mean(input, dim, unbiased, keepdim, correction)
    return _root(variance), middle


# -- quantiles ----------------------------------------------------------------------------------------------------

_ROUND = {"lower": traced.floor, "higher": traced.ceil, "nearest": traced.round}


def _check_quantile(function: str, input: Tensor, q: Any, interpolation: str) -> Tensor:
    """Return q as a tensor of the input's type."""
    if input._a.dtype.char not in "fd":
        raise RuntimeError(f"{function}() input tensor must be either float or double dtype")
    if not input._a.size:
        raise RuntimeError(f"{function}() input tensor must be non-empty")
    if interpolation not in ("linear", "midpoint", *_ROUND):
        raise RuntimeError(
            f"{function}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}"
        )
    if not isinstance(q, Tensor):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{function}() q must be in the range [0, 1] but got {q}")
        return wrap(backend_of(input._a).namespace.asarray(q, input._a.dtype))
    if q._a.ndim > 1:
        raise RuntimeError(f"{function}() q must be a scalar or 1D tensor")
    if q._a.dtype != input._a.dtype:
        raise RuntimeError(f"{function}() q tensor must be same dtype as the input tensor")
    if not ((q._a >= 0) & (q._a <= 1)).all():
        raise RuntimeError(f"{function}() q values must be in the range [0, 1]")
    return q


def _quantile(
    function: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, ignore_nan: bool
) -> Tensor:
    q = _check_quantile(function, input, q, interpolation)
    ndim = input._a.ndim
    rows = reshape(input, -1) if dim is None else movedim(input, wrap_dim(dim, ndim), -1) if ndim else reshape(input, 1)
    rows = sort(rows, -1).values
    found = _at_ranks(rows, reshape(q, -1), interpolation, ignore_nan)
    if keepdim:
        found = (
            reshape(found, (1,) * ndim + (-1,)) if dim is None else unsqueeze(found, wrap_dim(dim, ndim) if ndim else 0)
        )
        found = reshape(found, -1) if not ndim else found
    return movedim(found, -1, 0) if q._a.ndim else squeeze(found, -1)


def _at_ranks(rows: Tensor, q: Tensor, interpolation: str, ignore_nan: bool) -> Tensor:
    """Return the elements [..., m] of the sorted rows [..., n] at the fractions q [m] of the way."""
    a, last = rows._a, rows._a.ndim - 1
    xp = backend_of(a).namespace
    numbers = (a == a).sum(-1, keepdims=True)
    ends = xp.maximum(numbers - 1, 0) if ignore_nan else xp.full_like(numbers, a.shape[-1] - 1)
    ranks = q * wrap(ends.astype(a.dtype))
    if not ignore_nan:
        ranks = traced.where(wrap(numbers < a.shape[-1]), wrap(ends.astype(a.dtype)), ranks)
    if interpolation in _ROUND:
        return traced.gather(rows, last, _ROUND[interpolation](ranks)._a.astype(np.int64))
    below = xp.floor(ranks._a)
    weight = ranks - wrap(below) if interpolation == "linear" else 0.5
    low, high = (traced.gather(rows, last, xp.asarray(r, np.int64)) for r in (below, xp.ceil(ranks._a)))
    return lerp(low, high, weight)


@with_out
def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """Return the q-th quantiles of all elements or along `dim`; q is a number or a tensor [m], the result's first dimension.

    Between two elements the result is interpolated: "linear", "lower", "higher", "midpoint" or "nearest".
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@with_out
def nanquantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """Return `quantile` of the elements that are not NaN."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


# -- correlation --------------------------------------------------------------------------------------------------


def _check_weights(name: str, weights: Tensor | None, input: Tensor, kinds: str, kind: str) -> None:
    if weights is None:
        return
    count = input._a.shape[-1] if input._a.ndim else 1
    if weights._a.ndim > 1:
        raise RuntimeError(f"cov(): expected {name} to have one or fewer dimensions but got {weights._a.ndim}")
    if weights._a.dtype.kind not in kinds:
        raise RuntimeError(f"cov(): expected {name} to have {kind} dtype but got {name} with {weights.dtype!r}")
    if weights._a.size != count:
        raise RuntimeError(f"cov(): expected {name} to have the same numel as there are observations, {count}")
    if (weights._a < 0).any():
        raise RuntimeError(f"cov(): {name} cannot be negative")


def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """Return the covariances of the rows of `input` [variables, observations] as a square matrix.

    `fweights` [observations] counts each observation, `aweights` says how much it matters.
    """
    if input._a.ndim > 2:
        raise RuntimeError(f"cov(): expected input to have two or fewer dimensions but got {input._a.ndim}")
    if input._a.dtype == bool:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    _check_weights("fweights", fweights, input, "iu", "integral")
    _check_weights("aweights", aweights, input, "fV", "floating point")
    rows = input if input._a.ndim == 2 else reshape(input, 1, -1)
    given = [reshape(w, -1) for w in (fweights, aweights) if w is not None]
    weights = given[0] * given[1] if len(given) == 2 else given[0] if given else None
    total: Any = rows._a.shape[1] if weights is None else sum(weights)
    weighted = rows if weights is None else rows * weights
    centred = rows - sum(weighted, 1, True) / total
    divisor = total - correction
    if aweights is not None and correction:
        divisor = total - correction * sum(weights * aweights) / total
    if divisor <= 0:
        divisor = divisor * 0
    weighted = centred if weights is None else centred * weights
    products = matmul(centred, traced.conj(weighted).mT)
    return squeeze(products / divisor)


def corrcoef(input: Tensor) -> Tensor:
    """Return the correlation coefficients of the rows of `input` [variables, observations] as a square matrix."""
    if input._a.ndim > 2:
        raise RuntimeError(f"corrcoef(): expected input to have two or fewer dimensions but got {input._a.ndim}")
    c = cov(input)
    if not c._a.ndim:
        return c / c
    spread = diagonal(c)
    spread = traced.sqrt(spread.real if c._a.dtype.kind == "c" else spread)
    c = c / unsqueeze(spread, 1) / unsqueeze(spread, 0)
    if c._a.dtype.kind == "c":
        return clamp(c.real, -1, 1) + clamp(c.imag, -1, 1) * 1j
    return clamp(c, -1, 1)


# -- counting -----------------------------------------------------------------------------------------------------


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """Return how often each integer from 0 on occurs in `input` [n], or the sums of `weights` [n] at its places."""
    a = input._a
    not_for("bincount_cpu", a, "bfcV")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if a.ndim != 1 or (a.size and a.min() < 0):
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    xp = backend_of(a).namespace
    if weights is None:
        return wrap(xp.bincount(a, minlength=minlength).astype(np.int64, copy=False))
    if weights._a.shape != a.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    counts = xp.bincount(a, weights._a, minlength)
    return wrap(counts.astype(np.float32 if weights._a.dtype == np.float32 else np.float64, copy=False))


class HistogramResult(NamedTuple):
    hist: Tensor
    bin_edges: Tensor


class HistogramddResult(NamedTuple):
    hist: Tensor
    bin_edges: tuple[Tensor, ...]


def _limits(function: str, x: Any, low: float, high: float, margin: float) -> tuple[float, float]:
    """Return the outer edges of a histogram: those given, else of what there is."""
    if low == high and x.size:
        low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RuntimeError(f"{function}: range of [{low}, {high}] is not finite")
    if low > high:
        raise RuntimeError(f"{function}: min should not be larger than max, got {low} and {high}")
    return (low - margin, high + margin) if low == high else (low, high)


@with_out
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Return how many elements lie in each of `bins` equal parts of [min, max] (of the range there is, if both are equal)."""
    a = input._a
    not_for("histogram_cpu", a, "biuc")
    if bins <= 0:
        raise RuntimeError("torch.histc(): bins must be > 0")
    xp = backend_of(a).namespace
    low, high = _limits("torch.histc", a, min, max, 1)
    inside = a[(a >= low) & (a <= high)]
    places = ((inside - a.dtype.type(low)) * (bins / (high - low))).astype(np.int64)
    return wrap(xp.bincount(xp.minimum(places, bins - 1), minlength=bins).astype(a.dtype))


def _places(xp: Any, edges: Any, x: Any) -> Any:
    """Return how many edges a binary search finds up to each x, also where the edges are not in order."""
    if (edges[1:] >= edges[:-1]).all():
        return kernels_of(edges).searchsorted(edges, x, True)
    first, length = xp.zeros(x.shape, np.int64), xp.full(x.shape, edges.size, np.int64)
    while length.any():
        half = length // 2
        further = (length > 0) & (x >= edges[xp.minimum(first + half, edges.size - 1)])
        first = xp.where(further, first + half + 1, first)
        length = xp.where(further, length - half - 1, half)
    return first


def _edges(function: str, x: Any, bins: Any, limits: Any) -> Any:
    if isinstance(bins, Tensor):
        return bins._a
    if bins <= 0:
        raise RuntimeError(f"{function}(): bins must be > 0, but got {bins}")
    low, high = (0, 1) if limits is None and not x.size else limits or (0, 0)
    low, high = _limits(function, x, low, high, 0.5)
    return traced.constant(wrap(x), linspace(low, high, bins + 1, dtype=wrap(x).dtype)._a)._a


def _count(x: Any, edges: list[Any], weight: Any, density: bool) -> Any:
    """Return the histogram of points x [n, d] in the boxes between the edges of each dimension."""
    xp = backend_of(x).namespace
    inside, places = xp.ones(len(x), bool), xp.zeros(len(x), np.int64)
    for k, edge in enumerate(edges):
        inside &= (x[:, k] >= edge[0]) & (x[:, k] <= edge[-1])
        places = places * (edge.size - 1) + xp.clip(_places(xp, edge, x[:, k]) - 1, 0, edge.size - 2)
    shape = tuple(edge.size - 1 for edge in edges)
    counts = xp.bincount(places[inside], None if weight is None else weight[inside], prod(shape)).reshape(shape)
    if density:
        volumes = 1
        for edge in edges:
            volumes = xp.multiply.outer(volumes, xp.diff(edge))
        counts = counts / counts.sum() / volumes
    return counts.astype(x.dtype)


def _check_histogram(function: str, input: Tensor, weight: Tensor | None, shape: tuple[int, ...]) -> None:
    not_for("histogramdd", input._a, "biuc")
    if weight is None:
        return
    if weight._a.dtype != input._a.dtype:
        raise RuntimeError(f"torch.{function}(): input tensor and weight tensor should have the same dtype")
    if weight._a.shape != shape:
        raise RuntimeError(
            f"torch.{function}(): weight tensor should have shape {list(shape)}, got {list(weight.shape)}"
        )


@with_out
def histogram(
    input: Tensor,
    bins: Any,
    *,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> HistogramResult:
    """Return the summed weights (1 each) of the elements in each bin, and the edges of the bins.

    `bins` is a tensor of edges or a number of equal bins, in `range` or the range of the elements. With `density`, the
    result is scaled so that its integral is 1.
    """
    _check_histogram("histogram", input, weight, input._a.shape)
    x = input._a.reshape(-1)
    edges = _edges("torch.histogram", x, bins, range)
    counts = _count(x[:, None], [edges], None if weight is None else weight._a.reshape(-1), density)
    return HistogramResult(wrap(counts), bins if isinstance(bins, Tensor) else wrap(edges))


def histogramdd(
    input: Tensor,
    bins: Any,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> HistogramddResult:
    """Return the histogram of points [..., d] in d dimensions, and the edges along each; see `histogram`.

    `bins` is a number of bins for each dimension (or one for all) or a tensor of edges for each; `range` has a lower and
    an upper end for each dimension, in one list.
    """
    if input._a.ndim < 2:
        raise RuntimeError("torch.histogramdd: input tensor should have at least 2 dimensions")
    width = input._a.shape[-1]
    _check_histogram("histogramdd", input, weight, input._a.shape[:-1])
    given = [bins] * width if isinstance(bins, int) else list(bins)
    if len(given) != width:
        raise RuntimeError("histogramdd: The size of bins must be equal to the innermost dimension of the input.")
    x = input._a.reshape(prod(input._a.shape[:-1]), width)
    limits = [None] * width if range is None else [tuple(range[2 * k : 2 * k + 2]) for k in np.arange(width)]
    edges = [_edges("torch.histogramdd", x[:, k], given[k], limits[k]) for k in np.arange(width)]
    counts = _count(x, edges, None if weight is None else weight._a.reshape(-1), density)
    return HistogramddResult(wrap(counts), tuple(wrap(e) for e in edges))
