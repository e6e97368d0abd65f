"""Reading from and writing to positions along a dimension: gather, scatter, `index_add` and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of, kernels_of
from disttorch.core.dtypes import from_numpy_dtype, iinfo, number_as
from disttorch.ops.arithmetic import not_for
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.index import common_shape, frozen, lifted, one_value, with_same_out
from disttorch.ops.registry import traced
from disttorch.ops.shape import expand, reshape, wrap_dim
from disttorch.ops.write import with_out

__all__ = [
    "gather", "index_add", "index_copy", "index_fill", "index_reduce", "index_select", "put", "scatter", "scatter_add",
    "scatter_reduce", "take", "take_along_dim",
]  # fmt: skip
METHODS = " ".join(__all__)
INPLACE = """
    index_add index_copy index_fill index_reduce put scatter scatter_add scatter_reduce
"""

_POSITIONS = frozenset((np.dtype(np.int32), np.dtype(np.int64)))

# -- the operators ------------------------------------------------------------------------------------------------


@operator(1, name="gather")
def _gather(xp, x, dim, index):
    if not index.size:  # of any shape
        return xp.empty(index.shape, x.dtype)
    if not x.ndim:
        return x.reshape(1)[index.reshape(-1)].reshape(index.shape)
    corner = tuple([slice(None) if k == dim else slice(n) for k, n in enumerate(index.shape)])
    return xp.take_along_axis(x[corner], index, dim)


@_gather.vjp
def _(F, g, x_shape, dim, index):
    return F.scatter_add(F.zeros_from(g, x_shape), g, dim, index)


@operator(2, name="scatter_add")
def _scatter_add(xp, x, src, dim, index):
    result = x.copy()
    if not index.size:
        return result
    if x.ndim:
        kernels_of(result).reduce_at(result, _places(index, dim), _corner(src, index.shape))
    else:
        result += src.sum(dtype=src.dtype)
    return result


@_scatter_add.vjp("x")
def _(F, g):
    return g


@_scatter_add.vjp("src")
def _(F, g, dim, index, src_shape):
    return _padded(F, F.gather(g, dim, index), src_shape)


@operator(2, name="scatter", grad_name="ScatterBackward0")
def _scatter(xp, x, src, dim, index):
    result = x.copy()
    if index.size:
        result[_places(index, dim)] = _corner(src, index.shape)
    return result


@_scatter.vjp("x")
def _(F, g, dim, index):
    return F.scatter(g, F.zeros_from(g, ()), dim, index)


@_scatter.vjp("src")
def _(F, g, dim, index, src_shape):
    return _padded(F, F.gather(g, dim, index), src_shape)


def _corner(src: Any, shape: tuple[int, ...]) -> Any:
    """Return the part of a source that an index of a smaller shape speaks of."""
    return src[tuple([slice(n) for n in shape])] if src.ndim else src


def _padded(F: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """Return a gradient of the used corner as one of the whole source."""
    if 0 in g.shape:  # of an index of any shape
        return F.zeros_from(g, shape)
    if tuple(g.shape) == tuple(shape) or not shape:
        return g
    corner = (tuple(slice(n) for n in g.shape),)
    return F.view_scatter(F.zeros_from(g, shape), g, ((traced.slice.op, 0, corner),))


def _places(index: Any, dim: int) -> tuple[Any, ...]:
    """Return as an index of all dimensions what `index` says of one."""
    grids = backend_of(index).namespace.ogrid[tuple(slice(n) for n in index.shape)]
    return (*grids[:dim], index, *grids[dim + 1 :])


@operator(2, name="reduce_at", grad_name="ScatterReduceBackward0")
def _reduce_at(xp, x, src, index, reduce):
    """Combine `src` with x[index] by "prod", "amin" or "amax", once for every time that a position occurs."""
    result = x.copy()
    kernels_of(result).reduce_at(result, index, src, reduce)
    return result


@_reduce_at.vjp
def _(F, g, x, src, out, index, reduce):
    if reduce == "prod":
        return _product_gradients(F, g, x, src, out, index)
    mine, theirs = (x == out) * 1.0, (src == F.index(out, index)) * 1.0
    share = g / F.index_put(mine, theirs, index, True)
    return mine * share, theirs * F.index(share, index)


def _product_gradients(F: Any, g: Any, x: Any, src: Any, out: Any, index: Any) -> tuple[Any, Any]:
    """Return what the other factors of each product are: a quotient, except where the factor is the only zero."""
    x_is_zero, is_zero = x == 0, src == 0
    mine = g * F.conj(F.reduce_at(F.where(x_is_zero, 1.0, x), src, index, "prod") / F.where(x_is_zero, 1.0, x))
    count = F.index_put(F.zeros_from(g, x.shape), is_zero * 1.0 + F.zeros_from(g, ()), index, True)
    only = is_zero & (F.index(count, index) == 1)
    others = F.index(F.reduce_at(x, F.where(only, 1.0, src), index, "prod"), index)
    quotient = F.index(out, index) / F.where(is_zero, 1.0, src)
    return mine, F.index(g, index) * F.conj(F.where(only, others, quotient))


# -- along a dimension: an index for each element -----------------------------------------------------------------


def _along(function: str, input: Tensor, dim: int, index: Tensor, *others: Any) -> tuple[int, Any]:
    """Return the dimension and the index array (none of dimension 0); raise for an index that does not fit `input`."""
    expect_tensor(input, function)
    expect_tensor(index, function, "index")
    d = wrap_dim(dim, input._a.ndim)
    a = index._a if index._a.ndim else index._a.reshape(1)
    shape = input._a.shape or (1,)
    if not a.size:
        return d, a.astype(np.int64)
    if a.dtype not in _POSITIONS:
        raise RuntimeError(f"{function}(): Expected dtype int32/int64 for index, but got {index.dtype!r}")
    if a.ndim != len(shape):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for k, n in enumerate(a.shape):
        if k != d and n > shape[k]:
            raise RuntimeError(
                f"Size does not match at dimension {k} expected index {list(a.shape)} to be no larger than self "
                f"{list(shape)} apart from dimension {d}"
            )
    _check_bounds(a, shape[d], d, RuntimeError)
    return d, frozen((a,), input, *others)[0]


def _check_bounds(a: Any, size: int, dim: int, error: type[Exception], least: int = 0) -> None:
    if a.size and (a.min() < least or a.max() >= size):
        worst = a[(a < least) | (a >= size)][0]
        raise error(f"index {worst} is out of bounds for dimension {dim} with size {size}")


def _source(input: Tensor, src: Tensor, index: Any) -> Tensor:
    """Return the source of a scatter; RuntimeError where its type or its shape does not fit."""
    if src._a.dtype != input._a.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    given, src = src._a.ndim, lifted(src)
    if not index.size:
        return src
    if src._a.ndim != index.ndim:
        error = IndexError if 0 < given < index.ndim else RuntimeError
        raise error("Index tensor must have the same number of dimensions as src tensor")
    if any(n > m for n, m in zip(index.shape, src._a.shape)):
        raise RuntimeError(
            f"Expected index {list(index.shape)} to be no larger than src {list(src._a.shape)} in every dimension"
        )
    return src


@with_same_out
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """Return out[i][j] = input[index[i][j]][j] (for dim 0, and so on); the result has the shape of `index`."""
    d, a = _along("gather", input, dim, index)
    found = _gather(lifted(input), d, a)
    return found if index._a.ndim else reshape(found, ())


@with_out
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Return `gather(input, dim, indices)` after broadcasting both apart from `dim`; without `dim`, of the flat tensor."""
    expect_tensor(indices, "take_along_dim", "indices")
    if indices._a.dtype != np.int64:
        raise RuntimeError(f"torch.take_along_dim(): dtype of indices should be Long but got {indices.dtype!r}")
    if dim is None:
        return gather(reshape(input, -1), 0, reshape(indices, -1))
    if input._a.ndim != indices._a.ndim:
        raise RuntimeError(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
            f"{input._a.ndim} dimensions for input, and {indices._a.ndim} dimensions for indices"
        )
    d = wrap_dim(dim, input._a.ndim)
    size = input._a.shape[d] if input._a.ndim else 1
    indices = wrap(indices._a % size) if size else indices  # as PyTorch does, any integer stands for a position
    source, index = [_spread_around(x, d, other) for x, other in ((input, indices), (indices, input))]
    return gather(source, d, index)


def _spread_around(tensor: Tensor, dim: int, other: Tensor) -> Tensor:
    """Return the tensor broadcast with another in all dimensions but one."""
    shape = list(other._a.shape)
    if shape:
        shape[dim] = tensor._a.shape[dim]
    return expand(tensor, common_shape(tensor._a.shape, tuple(shape)))


_REDUCE_NAMES = {"add": "sum", "multiply": "prod"}


@with_out
def scatter(
    input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Tensor:
    """Return a copy with out[index[i][j]][j] = src[i][j] (for dim 0); `src` is a tensor or a number.

    `reduce` "add" or "multiply" combines with what is there.
    """
    d, a = _along("scatter", input, dim, index, *[x for x in (src, value) if isinstance(x, Tensor)])
    given = value if src is None else src
    if reduce is not None and reduce not in _REDUCE_NAMES:
        raise RuntimeError("reduce argument must be either add or multiply.")
    if isinstance(given, Tensor) and (given._a.ndim or src is not None):
        given = _source(input, given, a)
    else:
        number = given.item() if isinstance(given, Tensor) else given
        given = wrap(backend_of(input._a).namespace.asarray(number_as(number, input._a.dtype)))
    if reduce is not None and a.size:
        values = _cropped(given if given._a.ndim else expand(given, a.shape), a.shape)
        return _reduced(input, values, _places(a, d), _REDUCE_NAMES[reduce], True)
    return reshape(_scatter(lifted(input), given, d, a), input._a.shape)


@with_out
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """Return a copy with src[i][j] added to out[index[i][j]][j] (for dim 0)."""
    expect_tensor(src, "scatter_add", "src")
    d, a = _along("scatter_add", input, dim, index, src)
    added = _scatter_add(lifted(input), _source(input, src, a), d, a)
    return added if input._a.ndim else reshape(added, ())


@with_out
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Return a copy with src[i][j] combined into out[index[i][j]][j] (for dim 0).

    `reduce` is "sum", "prod", "mean", "amax" or "amin"; with `include_self` the elements of `input` take part.
    """
    expect_tensor(src, "scatter_reduce", "src")
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    d, a = _along("scatter", input, dim, index, src)
    if not a.size:
        return traced.clone(input, False)
    values = _cropped(_source(input, src, a), a.shape)
    return _reduced(input, values, _places(a, d), reduce, include_self)


def _cropped(src: Tensor, shape: tuple[int, ...]) -> Tensor:
    return src if src._a.shape == shape else traced.slice(src, tuple([slice(n) for n in shape]))


def _reduced(input: Tensor, values: Tensor, index: Any, reduce: str, include_self: bool) -> Tensor:
    """Combine `values` into input[index], with what is there or without."""
    not_for(f"scatter_reduce {reduce}", input._a, {"amin": "c", "amax": "c", "mean": "b"}.get(reduce, ""))
    start = lifted(input)
    if not include_self:
        start = traced.index_put(start, wrap(_neutral(start._a, reduce)), index, False)
    if reduce not in ("sum", "mean"):
        return reshape(_reduce_at(start, values, index, reduce), input._a.shape)
    total = traced.index_put(start, values, index, True)
    if reduce == "mean":
        total = _divided(total, _counts(start._a, index, include_self))
    return reshape(total, input._a.shape)


def _counts(like: Any, index: Any, include_self: bool) -> Any:
    """Return how many elements come together at each position."""
    xp = backend_of(like).namespace
    counts = xp.ones(like.shape, like.real.dtype if like.dtype != bool else np.int64)
    if not include_self:
        counts[index] = 0
    kernels_of(counts).reduce_at(counts, index, xp.ones((), counts.dtype))
    return counts


def _divided(total: Tensor, counts: Any) -> Tensor:
    if total._a.dtype.kind in "biu":
        return traced.cast(traced.floor_divide(total, wrap(counts)), total._a.dtype)
    return total / wrap(counts)


def _neutral(like: Any, reduce: str) -> Any:
    """Return the element that changes nothing, as an array of no dimension."""
    if reduce in ("sum", "mean", "prod"):
        return np.asarray(reduce == "prod", like.dtype)
    if like.dtype.kind in "fV":
        return np.asarray(float("inf") if reduce == "amin" else float("-inf"), like.dtype)
    limits = iinfo(from_numpy_dtype(like.dtype)) if like.dtype != bool else None
    ends = (False, True) if limits is None else (limits.min, limits.max)
    return np.asarray(ends[reduce == "amin"], like.dtype)


# -- along a dimension: a list of positions -----------------------------------------------------------------------


_LIST_ERRORS: dict[
    str, Any
] = {  # for a type that is no index, several dimensions, a position that is none, another shape
    "index_select": (RuntimeError, IndexError, IndexError, None),
    "index_add": (RuntimeError, IndexError, RuntimeError, RuntimeError),
    "index_copy": (RuntimeError, IndexError, IndexError, RuntimeError),
    "index_fill": (IndexError, RuntimeError, IndexError, None),
    "index_reduce": (RuntimeError, IndexError, IndexError, RuntimeError),
}


def _listed(function: str, input: Tensor, dim: int, index: Tensor, *others: Any) -> tuple[int, Any]:
    """Return the dimension and the index array for lists of positions; raise for an index that is none."""
    expect_tensor(input, function)
    expect_tensor(index, function, "index")
    of_type, of_dimensions, of_bounds, _ = _LIST_ERRORS[function]
    d = wrap_dim(dim, input._a.ndim)
    if index._a.ndim > 1:
        raise of_dimensions(f"{function}(): Index is supposed to be a vector, but got {index._a.ndim} dimensions")
    long_only = function in ("index_copy", "index_fill")
    if index._a.dtype not in _POSITIONS or (long_only and index._a.dtype != np.int64):
        raise of_type(f"{function}(): Expected dtype {'int64' if long_only else 'int32/int64'} for index but got "
                      f"{index.dtype!r}")  # fmt: skip
    a = index._a.reshape(-1)
    size = (input._a.shape or (1,))[d]
    _check_bounds(a, size, d, of_bounds, -size if function == "index_fill" else 0)
    return d, frozen((a,), input, *others)[0]


def _rows(function: str, input: Tensor, d: int, a: Any, source: Tensor) -> Tensor:
    """Return the source of a write of `a.size` positions of dimension `d`; raise where its type or shape does not fit."""
    if source._a.dtype != input._a.dtype:
        raise RuntimeError(
            f"{function}_(): self and source expected to have the same dtype, but got (self) {input.dtype!r} and (source) "
            f"{source.dtype!r}"
        )
    have, want = source._a.shape, input._a.shape
    of_shape = _LIST_ERRORS[function][-1]
    if function == "index_copy" and have and want and len(have) != len(want):
        raise IndexError(
            f"index_copy_(): When source and destination are not scalars, their dimensionality must match: {len(have)}, "
            f"{len(want)}"
        )
    if a.size != (have[d] if d < len(have) else 1):
        error = IndexError if function == "index_copy" else of_shape
        raise error(
            f"{function}_(): Number of indices ({a.size}) should be equal to source.size(dim) of shape {list(have)}"
        )
    if (have[:d] + have[d + 1 :] != want[:d] + want[d + 1 :]) or (len(have) != len(want) and have and want):
        raise of_shape(
            f"source tensor shape must match self tensor shape, excluding the specified dimension. Got self.shape = "
            f"{list(want)} source.shape = {list(have)}"
        )
    return lifted(source)


def _at(d: int, a: Any) -> tuple[Any, ...]:
    return (slice(None),) * d + (a,)


@with_same_out
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """Return the positions of `dim` that `index` lists."""
    d, a = _listed("index_select", input, dim, index)
    if not input._a.ndim and a.size != 1:
        raise RuntimeError(f"index_select(): Index to scalar can have only 1 value, got {a.size} value(s)")
    return traced.index(input, _at(d, a)) if input._a.ndim else traced.clone(input, False)


@with_out
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: complex = 1) -> Tensor:
    """Return a copy with alpha * source[k] added at position index[k] of `dim`."""
    d, a = _listed("index_add", input, dim, index, expect_tensor(source, "index_add", "source"))
    rows = _rows("index_add", input, d, a, source)
    scaled_rows = rows if alpha == 1 else rows * number_as(alpha, rows._a.dtype).item()
    return reshape(traced.index_put(lifted(input), scaled_rows, _at(d, a), True), input._a.shape)


@with_out
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """Return a copy with source[k] at position index[k] of `dim`."""
    d, a = _listed("index_copy", input, dim, index, expect_tensor(source, "index_copy", "source"))
    rows = _rows("index_copy", input, d, a, source)
    return reshape(traced.index_put(lifted(input), rows, _at(d, a), False), input._a.shape)


@with_out
def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Return a copy with source[k] combined into position index[k] of `dim`, by "prod", "mean", "amax" or "amin"."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce(): reduce argument must be either prod, mean, amax or amin, got {reduce}.")
    d, a = _listed("index_reduce", input, dim, index, expect_tensor(source, "index_reduce", "source"))
    rows = _rows("index_reduce", input, d, a, source)
    return _reduced(input, rows, _at(d, a), reduce, include_self)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """Return a copy with `value`, a number or a 0-d tensor, at the positions of `dim` that `index` lists."""
    d, a = _listed("index_fill", input, dim, index)
    filler = one_value("index_fill_", input, value)
    once = backend_of(a).namespace.unique(a)  # or the derivative would count a position several times
    return reshape(traced.index_put(lifted(input), filler, _at(d, once), False), input._a.shape)


# -- in the flattened tensor --------------------------------------------------------------------------------------


def _flat_positions(function: str, input: Tensor, index: Tensor, *others: Any) -> Any:
    expect_tensor(index, function, "index")
    if index._a.dtype != np.int64:
        raise RuntimeError(f"{function}(): Expected a long tensor for index, but got {index.dtype!r}")
    size = input._a.size
    if not size and index._a.size:
        raise IndexError(f"{function}(): tried to take from an empty tensor")
    a = index._a
    if a.size and (a.min() < -size or a.max() >= size):
        worst = a[(a < -size) | (a >= size)][0]
        raise IndexError(f"out of range: tried to access index {worst} on a tensor of {size} elements.")
    return frozen((a,), input, *others)


@with_same_out
def take(input: Tensor, index: Tensor) -> Tensor:
    """Return the elements of the flattened tensor at `index`, in the shape of `index`."""
    return traced.index(reshape(input, -1), _flat_positions("take", input, index))


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """Return a copy with `source` written at (or, with `accumulate`, added to) positions of the flattened tensor."""
    expect_tensor(source, "put", "source")
    positions = _flat_positions("put_", input, index, source)
    if source._a.dtype != input._a.dtype:
        raise RuntimeError(
            f"put_(): self and source expected to have the same dtype: {input.dtype!r}, {source.dtype!r}"
        )
    if source._a.size != index._a.size:
        raise IndexError(
            f"put_(): Expected source and index to have the same number of elements, but got {source._a.size} and "
            f"{index._a.size}"
        )
    values = reshape(source, index._a.shape)
    return reshape(traced.index_put(reshape(input, -1), values, positions, accumulate), input._a.shape)
