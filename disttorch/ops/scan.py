"""Running totals and differences along a dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of, kernels_of
from disttorch.core import dtypes
from disttorch.ops.arithmetic import not_for
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.join import cat
from disttorch.ops.logic import logical_xor
from disttorch.ops.reduce import reduced_dims, sum, summable
from disttorch.ops.registry import traced
from disttorch.ops.shape import reshape, row_major, wrap_dim
from disttorch.ops.views import narrow
from disttorch.ops.write import with_out

__all__ = [
    "cummax", "cummin", "cumprod", "cumsum", "cumulative_trapezoid", "diff", "gradient", "logcumsumexp", "trapezoid",
    "trapz",
]  # fmt: skip
METHODS = """
    cummax cummin cumprod cumsum diff logcumsumexp
"""
INPLACE = """
    cumprod cumsum
"""

# -- building blocks of derivatives ---------------------------------------------------------------------------------


@operator(1, name="delay")
def _delay(xp, x, dim, reverse, fill):
    """Return x moved by one place along `dim` (towards the front if `reverse`), with `fill` in the free place."""
    result = xp.full_like(x, fill)
    late = (slice(None),) * dim + (slice(1, None),)
    early = (slice(None),) * dim + (slice(None, -1),)
    result[early if reverse else late] = x[late if reverse else early]
    return result


@_delay.vjp
def _(F, g, dim, reverse):
    return F.delay(g, dim, not reverse, 0)


@operator(2, name="recurrence")
def _recurrence(xp, a, b, dim, reverse):
    """Return y with y[k] = a[k] * y[k - 1] + b[k] along `dim`, and nothing before the first (from the end if `reverse`).

    Spans of 1, 2, 4, ... places are joined: a span multiplies what comes before it by a factor and adds a term.
    """
    order = slice(None, None, -1) if reverse else slice(None)
    factor, total = xp.array(xp.moveaxis(a, dim, 0)[order]), xp.array(xp.moveaxis(b, dim, 0)[order])
    span = 1
    while span < len(total):
        total[span:] += factor[span:] * total[:-span]
        factor[span:] = factor[span:] * factor[:-span]
        span *= 2
    return row_major(xp.moveaxis(total[order], 0, dim))


@_recurrence.vjp
def _(F, g, a, out, dim, reverse):
    through = F.recurrence(F.delay(F.conj(a), dim, not reverse, 0), g, dim, not reverse)
    return through * F.conj(F.delay(out, dim, reverse, 0)), through


# -- sums and products ------------------------------------------------------------------------------------------------


@operator(1, name="cumsum")
def _cumsum(xp, x, dim):
    return row_major(xp.cumsum(x, dim, dtype=x.dtype)) if x.ndim else x.copy()


@_cumsum.vjp
def _(F, g, dim):
    return F.flip(F.cumsum(F.flip(g, (dim,)), dim), (dim,)) if g.ndim else g


@with_out
def cumsum(input: Tensor, dim: int, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return the running sum along `dim`. Integers and bools are summed as int64."""
    return _cumsum(summable(input, dtype), wrap_dim(dim, input._a.ndim))


@operator(1, name="cumprod")
def _cumprod(xp, x, dim):
    return row_major(xp.cumprod(x, dim, dtype=x.dtype)) if x.ndim else x.copy()


@_cumprod.vjp
def _(F, g, x, out, dim):
    if not g.ndim:
        return g
    after = F.recurrence(F.delay(F.conj(x), dim, True, 0), g, dim, True)
    return after * F.conj(F.delay(out, dim, False, 1))


@with_out
def cumprod(input: Tensor, dim: int, *, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return the running product along `dim`. Integers and bools are multiplied as int64."""
    return _cumprod(summable(input, dtype), wrap_dim(dim, input._a.ndim))


@operator(1, name="logcumsumexp")
def _logcumsumexp(xp, x, dim):
    not_for("logcumsumexp_out_cpu", x, "biu")
    return row_major(kernels_of(x).running_logsumexp(x, dim)) if x.ndim else x.copy()


@_logcumsumexp.vjp
def _(F, g, x, out, dim):
    # exp(x[k]) takes part in every later total: the sum of g[i] * exp(x[k] - out[i]), by factors that are at most 1.
    if not g.ndim:
        return g
    step = out - F.delay(out, dim, True, float("inf"))
    share = x - out
    after = F.recurrence(F.exp(F.conj(F.where(step == step, step, 0.0))), g, dim, True)
    return after * F.exp(F.conj(F.where(share == share, share, x)))


@with_out
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """Return log(cumsum(exp(input))) along `dim`, without overflow."""
    return _logcumsumexp(input, wrap_dim(dim, input._a.ndim))


# -- extrema ------------------------------------------------------------------------------------------------------


class CumulativeResult(NamedTuple):
    values: Tensor
    indices: Tensor


def _running_extreme(input: Tensor, dim: int, largest: bool, function: str) -> CumulativeResult:
    a, d = expect_tensor(input, function)._a, wrap_dim(dim, input._a.ndim)
    not_for(f"{function}_cpu", a, "c")
    xp, kernels = backend_of(a).namespace, kernels_of(a)
    if not a.ndim:
        return CumulativeResult(traced.clone(input, False), wrap(xp.zeros((), xp.int64)))
    best = kernels.running_extreme(a, d, largest)
    places = xp.arange(a.shape[d]).reshape((-1,) + (1,) * (a.ndim - 1 - d))
    found = xp.where((a == best) | (a != a), places, 0)  # the last of equal elements counts, and so does the last NaN
    indices = row_major(kernels.running_extreme(found, d, True))
    return CumulativeResult(traced.gather(input, d, indices), wrap(indices))


@with_out
def cummax(input: Tensor, dim: int) -> CumulativeResult:
    """Return the largest element up to each place along `dim`, and where it was (the last of equal ones)."""
    return _running_extreme(input, dim, True, "cummax")


@with_out
def cummin(input: Tensor, dim: int) -> CumulativeResult:
    """Return the smallest element up to each place along `dim`, and where it was (the last of equal ones)."""
    return _running_extreme(input, dim, False, "cummin")


# -- differences --------------------------------------------------------------------------------------------------


def _part(x: Tensor, dim: int, begin: int, end: int) -> Tensor:
    """Return x[begin:end] along `dim`; an end of 0 or less counts from the back."""
    size = x._a.shape[dim]
    end = end if end > 0 else size + end
    return narrow(x, dim, begin, end - begin)


@with_out
def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """Return the n-th differences of neighbours along `dim`; `prepend` and `append` are joined to the input first."""
    if not input._a.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    if n == 0:
        return traced.clone(input, True)
    d = wrap_dim(dim, input._a.ndim)
    ends = [x for x in (prepend, input, append) if x is not None]
    result = cat(ends, d) if len(ends) > 1 else input
    subtract = logical_xor if result._a.dtype == bool else traced.sub
    for _ in range(min(n, result._a.shape[d])):
        result = subtract(_part(result, d, 1, 0), _part(result, d, 0, -1))
    return result


# -- integration --------------------------------------------------------------------------------------------------


def _trapezoids(y: Tensor, x: Any, dx: Any, dim: int, function: str) -> tuple[Tensor, int]:
    """Return twice the area above each step along `dim`, and that dimension."""
    d = wrap_dim(dim, y._a.ndim)
    if x is not None and dx is not None:
        raise TypeError(f"{function}(): expected x or dx, got both")
    if any(isinstance(v, Tensor) and v._a.dtype == bool for v in (y, x)):
        raise RuntimeError(f"{function}: received a bool input for `x` or `y`, but bool is not supported")
    if not y._a.ndim:
        raise IndexError(f"{function}(): expected y to have at least one dimension")
    if not y._a.shape[d]:
        return y, d
    pairs = _part(y, d, 1, 0) + _part(y, d, 0, -1)
    if x is None:
        return pairs * (1 if dx is None else dx), d
    return pairs * _widths(y, x, d, function), d


def _widths(y: Tensor, x: Tensor, d: int, function: str) -> Tensor:
    if not x._a.ndim:
        raise IndexError(f"{function}: expected x to have at least one dimension")
    if x._a.ndim > 1:
        along = d - y._a.ndim
        return diff(x if x._a.ndim >= -along else reshape(x, (1,) * (-along - x._a.ndim) + x._a.shape), dim=along)
    if x._a.shape[0] != y._a.shape[d]:
        raise RuntimeError(f"{function}: There must be one `x` value for each sample point")
    return reshape(diff(x), (-1,) + (1,) * (y._a.ndim - 1 - d))


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """Return the integral of y along `dim` by the trapezoidal rule, at points `x` or `dx` (1) apart."""
    if x is None and y._a.dtype.kind in "iu":
        y = y.to(dtypes.get_default_dtype())
    areas, d = _trapezoids(y, x, dx, dim, "trapezoid")
    return sum(areas, d) / 2


def trapz(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """Return `trapezoid(y, x, dx=dx, dim=dim)`."""
    return trapezoid(y, x, dx=dx, dim=dim)


def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """Return the running integral of y along `dim` by the trapezoidal rule, one element shorter than y."""
    areas, d = _trapezoids(y, x, dx, dim, "cumulative_trapezoid")
    return cumsum(areas, d) / 2


# -- derivatives of sampled functions -----------------------------------------------------------------------------


def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """Return the derivative along each of `dim` by central differences, exact for parabolas inside.

    `spacing` is the distance of the samples, or for each dimension a distance or a tensor of coordinates. At the edges
    a line (`edge_order` 1) or a parabola (2) is drawn through the outermost samples.
    """
    dims = [dim] if isinstance(dim, int) else list(range(input._a.ndim) if dim is None else dim)
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    reduced_dims(dims, input._a.ndim)
    steps = list(spacing) if isinstance(spacing, Sequence) else [1 if spacing is None else spacing] * len(dims)
    if len(steps) != len(dims):
        raise RuntimeError(
            "torch.gradient expected spacing to be unspecified, a scalar or a list of length equal to the number of "
            f"dimensions, {len(dims)}, got a list of length {len(steps)}"
        )
    return tuple(_slopes(input, step, wrap_dim(d, input._a.ndim), edge_order) for step, d in zip(steps, dims))


def _gaps(x: Tensor, step: Any, d: int) -> Any:
    """Return the distances of neighbouring samples along `d`: a number, or a tensor that broadcasts to the secants."""
    if not isinstance(step, Tensor) or not step._a.ndim:
        return step
    if step._a.ndim != 1 or step._a.shape[0] != x._a.shape[d]:
        raise RuntimeError(
            "torch.gradient expected each element of spacing to have one dimension and one element for each sample, got "
            f"shape {list(step._a.shape)} for {x._a.shape[d]} samples"
        )
    return reshape(diff(step), (-1,) + (1,) * (x._a.ndim - 1 - d))


def _slopes(x: Tensor, step: Any, d: int, edge_order: int) -> Tensor:
    size = x._a.shape[d]
    if size <= edge_order:
        raise RuntimeError(f"torch.gradient expected each dimension size to be at least edge_order+1, got size {size}")
    gaps = _gaps(x, step, d)
    if x._a.dtype == bool and isinstance(gaps, Tensor):
        x = x.to(dtypes.get_default_dtype())
    secants = (_part(x, d, 1, 0) - _part(x, d, 0, -1)) / gaps
    if isinstance(gaps, Tensor) and gaps._a.ndim:
        before, after = _part(gaps, 0, 0, -1), _part(gaps, 0, 1, 0)
        share = before / (before + after)
        inside = _part(secants, d, 0, -1) * (1 - share) + _part(secants, d, 1, 0) * share
    else:
        inside = (_part(x, d, 2, 0) - _part(x, d, 0, -2)) / (2 * gaps)
    first, last = _part(secants, d, 0, 1), _part(secants, d, size - 2, 0)
    if edge_order == 2:  # the slope of a parabola is linear, and a secant's is the mean of those at its ends
        first, last = first * 2 - _part(inside, d, 0, 1), last * 2 - _part(inside, d, size - 3, 0)
    return cat([first, inside, last], d)
