"""Reading and writing by index: `x[...]`, gather and scatter, masks."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.autograd.views import check_inplace
from disttorch.backends import backend_of
from disttorch.core.dtypes import number_as
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.registry import traced
from disttorch.ops.shape import expand, row_major, wrap_dim
from disttorch.ops.write import before_write, inplace, store, type_label, write_directly, write_out

__all__ = [
    "gather", "index_add", "index_put", "index_select", "masked_fill", "masked_select", "nonzero", "scatter",
    "scatter_add",
]  # fmt: skip
METHODS = """
    copy_ fill_ gather index_add index_add_ index_put index_put_ index_select masked_fill masked_fill_
    masked_select nonzero scatter scatter_ scatter_add scatter_add_ zero_
"""

# -- filling and copying ------------------------------------------------------------------------------------------


@operator(2, name="copy", grad_name="CopyBackwards")
def _copy(xp, x, y, out=None):
    if out is None:
        out = xp.empty_like(x)
    out[...] = y
    return out


@_copy.vjp("x")
def _(F, g):
    return g * 0


@_copy.vjp("y")
def _(F, g):
    return g


def copy_(input: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Write `src`, broadcast and cast, into the tensor; gradients flow to `src`."""
    check_inplace(input)
    if isinstance(src, (bool, int, float, complex)):
        src = wrap(np.asarray(src))
    expect_tensor(src, "copy_", "src")
    source = expand(src, input._a.shape)
    if source._a.dtype.kind == "c" and input._a.dtype.kind != "c":
        source = traced.cast(source, input._a.dtype)
    return write_directly(_copy.op, input, (source,))


@operator(1, name="fill")
def _fill(xp, x, value, out=None):
    if out is None:
        out = xp.empty_like(x)
    out[...] = value
    return out


@_fill.vjp
def _(F, g):
    return g * 0


def fill_(input: Tensor, value: Any) -> Tensor:
    """Write one value, a number or a 0-d tensor, everywhere."""
    if isinstance(value, Tensor):
        if value._a.ndim:
            raise RuntimeError(
                f"fill_ only supports 0-dimension value tensor but got tensor with {value._a.ndim} dimensions."
            )
        return copy_(input, value)
    check_inplace(input)
    if value != 0:
        value = number_as(value, input._a.dtype)
    return write_directly(_fill.op, input, (value,))


def zero_(input: Tensor) -> Tensor:
    """Write zeros everywhere."""
    return fill_(input, 0)


# -- x[index] -----------------------------------------------------------------------------------------------------


@operator(1, name="index", grad_name="IndexBackward0")
def _index(xp, x, index):
    return row_major(x[index])


@_index.vjp
def _(F, g, x_shape, index):
    return F.index_put(F.zeros_from(g, x_shape), g, index, True)


@operator(2, name="index_put")
def _index_put(xp, x, values, index, accumulate):
    result = x.copy()
    if accumulate:
        xp.add.at(result, index, values)
    else:
        result[index] = values
    return result


@_index_put.vjp("x")
def _(F, g, values_shape, index, accumulate):
    return g if accumulate else F.index_put(g, F.zeros_from(g, ()), index, False)


@_index_put.vjp("values")
def _(F, g, index):
    return F.index(g, index)


def _is_advanced(item: Any) -> bool:
    return isinstance(item, (Tensor, np.ndarray, list, tuple, bool, np.bool_, range))


def _listed(index: Any) -> list[Any]:
    return list(index) if isinstance(index, tuple) or _stands_for_a_tuple(index) else [index]


def _stands_for_a_tuple(index: Any) -> bool:
    """Whether a list means one index for each dimension, as PyTorch decides it: by what is in it."""
    several = (Tensor, list, tuple, slice, EllipsisType, type(None))
    return isinstance(index, list) and len(index) < 32 and any(isinstance(i, several) for i in index)


def _as_index_array(item: Any) -> Any:
    array = item._a if isinstance(item, Tensor) else np.asarray([] if isinstance(item, range) and not item else item)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)
    if array.dtype.kind not in "biu":
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    return array.astype(bool) if array.dtype == np.uint8 else array


def _width(item: Any) -> int:
    """Return how many dimensions an index entry takes."""
    if item is None or item is Ellipsis or isinstance(item, (bool, np.bool_)):
        return 0
    if _is_advanced(item):
        array = _as_index_array(item)
        return array.ndim if array.dtype == bool else 1
    return 1


def _check(item: Any, size: int, dim: int) -> Any:
    """Return an index entry for NumPy; IndexError or ValueError in PyTorch's words."""
    if isinstance(item, slice):
        parts = [None if p is None else int(p) for p in (item.start, item.stop, item.step)]
        if parts[2] is not None and parts[2] <= 0:
            raise ValueError("step must be greater than zero")
        return slice(*parts)
    if item is None or item is Ellipsis:
        return item
    try:
        position = item.__index__()
    except (AttributeError, TypeError):
        raise TypeError(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
            f"(got {type(item).__name__})"
        ) from None
    if not -size <= position < size:
        raise IndexError(f"index {position} is out of bounds for dimension {dim} with size {size}")
    return position


def split_index(shape: tuple[int, ...], index: Any) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    """Split an index into a basic part, applied first as a view, and an advanced part (None where there is none).

    PyTorch applies ints, slices and None before the index tensors; the advanced part then has only arrays and `:`.
    """
    items = [
        item._a.item()
        if isinstance(item, Tensor) and not item._a.ndim and item._a.dtype.kind in "iu" and item._a.dtype != np.uint8
        else item
        for item in _listed(index)
    ]
    ellipses = sum(item is Ellipsis for item in items)
    if ellipses > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    used = sum(_width(item) for item in items)
    if used > len(shape):
        raise IndexError(f"too many indices for tensor of dimension {len(shape)}")
    if not ellipses:
        items.append(Ellipsis)
    k = next(i for i, item in enumerate(items) if item is Ellipsis)
    items[k : k + 1] = [slice(None)] * (len(shape) - used)
    basic: list[Any] = []
    advanced: list[Any] = []
    dim = 0
    for item in items:
        if _is_advanced(item):
            array = _as_index_array(item)
            if isinstance(item, (bool, np.bool_)):
                basic.append(None)
                advanced.append(np.asarray([bool(item)]))
                continue
            width = array.ndim if array.dtype == bool else 1
            _check_array(array, shape, dim, width)
            basic += [slice(None)] * width
            advanced.append(array)
            dim += width
        else:
            checked = _check(item, shape[dim] if dim < len(shape) else 0, dim)
            basic.append(checked)
            if not isinstance(checked, int):
                advanced.append(slice(None))
            dim += checked is not None
    if not any(_is_advanced(a) for a in advanced):
        return (*basic, Ellipsis), None
    return (*basic, Ellipsis), tuple(advanced)


def _check_array(array: Any, shape: tuple[int, ...], dim: int, width: int) -> None:
    if array.dtype == bool:
        for k, n in enumerate(array.shape):
            if n != shape[dim + k]:
                raise IndexError(
                    f"The shape of the mask {list(array.shape)} at index {k} does not match the shape of the indexed tensor "
                    f"{list(shape)} at index {dim + k}"
                )
        return
    size = shape[dim]
    if array.size and (array.min() < -size or array.max() >= size):
        worst = array[(array < -size) | (array >= size)].flat[0]
        raise IndexError(f"index {worst} is out of bounds for dimension {dim} with size {size}")


def _is_whole(basic: tuple[Any, ...]) -> bool:
    return all((isinstance(b, slice) and b == slice(None)) or b is Ellipsis for b in basic)


def _pick(input: Tensor, basic: tuple[Any, ...]) -> Tensor:
    return input if _is_whole(basic) else traced.slice(input, basic)


def getitem(input: Tensor, index: Any) -> Tensor:
    """Return input[index]: a view for ints, slices, None and `...`, a copy where an index is a tensor or a list."""
    if type(index) is int and 0 <= index < (input._a.shape or (0,))[0]:
        return traced.slice(input, (index, Ellipsis))
    if not input._a.ndim and index not in ((), Ellipsis, None) and type(index) is int:
        raise IndexError(
            "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a 0-dim "
            "tensor to a number"
        )
    basic, advanced = split_index(input._a.shape, index)
    if advanced is None:
        return traced.slice(input, basic)
    return _index(_pick(input, basic), advanced)


def setitem(input: Tensor, index: Any, value: Any) -> None:
    """Write `value`, broadcast and cast, into input[index]; gradients flow to `value`."""
    basic, advanced = split_index(input._a.shape, index)
    check_inplace(input)
    target = input if advanced is not None and _is_whole(basic) else traced.slice(input, basic)
    if not isinstance(value, Tensor):
        narrow = input._a.dtype.itemsize == 2
        value = wrap(backend_of(input._a).namespace.asarray(number_as(as_number(value), input._a.dtype, narrow)))
    if advanced is None:
        copy_(target, _without_leading_ones(value, target._a.ndim))
        return
    if value._a.dtype != input._a.dtype:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got {type_label(input._a.dtype)} for the destination and "
            f"{type_label(value._a.dtype)} for the source."
        )
    try:
        store(target, _index_put(before_write(target), value, advanced, False))
    except ValueError as error:
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(value._a.shape)} cannot be broadcast to the indexed elements: {error}"
        ) from None


def as_number(value: Any) -> complex:
    """Return what is to be written as a Python number; TypeError for anything else."""
    if isinstance(value, (np.generic, np.ndarray)) and value.size == 1:
        return value.item()
    if isinstance(value, (bool, int, float, complex)):
        return value
    raise TypeError(f"can't assign a {type(value).__name__} to a tensor: expected a number or a tensor")


def _without_leading_ones(value: Tensor, ndim: int) -> Tensor:
    while value._a.ndim > ndim and value._a.shape[0] == 1:
        value = traced.reshape(value, value._a.shape[1:])
    return value


# -- along a dimension --------------------------------------------------------------------------------------------


def _cropped(x: Any, index: Any, dim: int) -> Any:
    """Return the part of x that an index of a smaller shape speaks of."""
    return x[tuple(slice(None) if k == dim else slice(n) for k, n in enumerate(index.shape))]


@operator(1, name="gather")
def _gather(xp, x, dim, index):
    if not x.ndim:
        return x.reshape(1)[index.reshape(-1)].reshape(index.shape)
    return xp.take_along_axis(_cropped(x, index, dim), index, dim)


@_gather.vjp
def _(F, g, x_shape, dim, index):
    return F.scatter_add(F.zeros_from(g, x_shape), g, dim, index)


@operator(2, name="scatter_add")
def _scatter_add(xp, x, src, dim, index):
    result = x.copy()
    if not x.ndim:
        result += src.sum(dtype=src.dtype)
        return result
    xp.add.at(result, _places(xp, index, dim), src[tuple(slice(n) for n in index.shape)])
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
    if not x.ndim:
        result[...] = src.reshape(-1)[-1] if src.size else result
        return result
    result[_places(xp, index, dim)] = src[tuple(slice(n) for n in index.shape)] if src.ndim else src
    return result


@_scatter.vjp("x")
def _(F, g, dim, index):
    return F.scatter(g, F.zeros_from(g, ()), dim, index)


@_scatter.vjp("src")
def _(F, g, dim, index, src_shape):
    return _padded(F, F.gather(g, dim, index), src_shape)


def _padded(F: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """Return a gradient of the used corner as one of the whole source."""
    if tuple(g.shape) == tuple(shape) or not shape:
        return g
    corner = (tuple(slice(n) for n in g.shape),)
    return F.view_scatter(F.zeros_from(g, shape), g, ((traced.slice.op, 0, corner),))


def _places(xp: Any, index: Any, dim: int) -> tuple[Any, ...]:
    grids = xp.ogrid[tuple(slice(n) for n in index.shape)]
    return (*grids[:dim], index, *grids[dim + 1 :])


def _checked_index(function: str, input: Tensor, dim: int, index: Tensor) -> tuple[int, Any]:
    expect_tensor(index, function, "index")
    if index._a.dtype.kind != "i":
        raise RuntimeError(f"{function}(): Expected dtype int32/int64 for index, but got {index.dtype!r}")
    d = wrap_dim(dim, input._a.ndim)
    if max(index._a.ndim, 1) != max(input._a.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    size = input._a.shape[d] if input._a.ndim else 1
    a = index._a
    if a.size and (a.min() < 0 or a.max() >= size):
        worst = a[(a < 0) | (a >= size)].flat[0]
        raise RuntimeError(f"index {worst} is out of bounds for dimension {d} with size {size}")
    return d, a


def _check_extent(function: str, input: Tensor, d: int, index: Any) -> None:
    for k, n in enumerate(index.shape):
        if k != d and input._a.ndim and n > input._a.shape[k]:
            raise RuntimeError(
                f"Size does not match at dimension {k} expected index {list(index.shape)} to be no larger than self "
                f"{list(input._a.shape)} apart from dimension {d}"
            )


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False, out: Tensor | None = None) -> Tensor:
    """Return out[i][j] = input[index[i][j]][j] (for dim 0, and so on); the result has the shape of `index`."""
    d, a = _checked_index("gather", input, dim, index)
    _check_extent("gather", input, d, a)
    result = _gather(input, d, a)
    return result if out is None else write_out(out, result, "gather")


def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None) -> Tensor:
    """Return a copy with out[index[i][j]][j] = src[i][j] (for dim 0); `src` is a tensor or a number."""
    d, a = _checked_index("scatter", input, dim, index)
    given = value if src is None else src
    if not isinstance(given, Tensor):
        given = wrap(backend_of(input._a).namespace.asarray(given).astype(input._a.dtype))
    elif given._a.dtype != input._a.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    return _scatter(input, given, d, a)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """Return a copy with src[i][j] added to out[index[i][j]][j] (for dim 0)."""
    d, a = _checked_index("scatter_add", input, dim, index)
    if src._a.dtype != input._a.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    return _scatter_add(input, src, d, a)


def _checked_list(function: str, input: Tensor, dim: int, index: Tensor) -> tuple[int, Any]:
    expect_tensor(index, function, "index")
    if index._a.ndim > 1:
        raise IndexError(f"{function}(): Index is supposed to be a vector")
    if index._a.dtype.kind != "i":
        raise RuntimeError(f"{function}(): Expected dtype int32 or int64 for index")
    d = wrap_dim(dim, input._a.ndim)
    size = input._a.shape[d] if input._a.ndim else 1
    a = index._a.reshape(-1)
    if a.size and (a.min() < 0 or a.max() >= size):
        raise IndexError("index out of range in self")
    return d, a


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """Return the positions of `dim` that `index` lists."""
    d, a = _checked_list("index_select", input, dim, index)
    return _index(input, (slice(None),) * d + (a,)) if input._a.ndim else traced.clone(input, False)


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: complex = 1) -> Tensor:
    """Return a copy with alpha * source[k] added at position index[k] of `dim`."""
    d, a = _checked_list("index_add", input, dim, index)
    if source._a.dtype != input._a.dtype:
        raise RuntimeError("index_add_(): self and source expected to have the same dtype, but got "
                           f"(self) {input.dtype!r} and (source) {source.dtype!r}")  # fmt: skip
    return _index_put(input, source if alpha == 1 else source * alpha, (slice(None),) * d + (a,), True)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """Return the elements where the mask holds (both broadcast), as one dimension."""
    if mask._a.dtype != bool:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = np.broadcast_shapes(input._a.shape, mask._a.shape)
    return _index(expand(input, shape), (backend_of(mask._a).namespace.broadcast_to(mask._a, shape),))


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """Return `input` with `value`, a number or a 0-d tensor, where the mask holds."""
    if mask._a.dtype != bool:
        raise RuntimeError("masked_fill only supports boolean masks, but got mask with dtype " + repr(mask.dtype))
    if isinstance(value, Tensor):
        if value._a.ndim:
            raise RuntimeError(
                f"masked_fill only supports a 0-dimensional value tensor, but got tensor with {value._a.ndim} dimension(s)."
            )
        filler = traced.cast(value, input._a.dtype)
    else:
        filler = wrap(number_as(value, input._a.dtype))
    return traced.select_by(mask, filler, input if input._a.flags.c_contiguous else traced.clone(input, True))


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Return the positions of nonzero elements, one a row [n, ndim]; `as_tuple` gives one tensor for each dimension."""
    xp = backend_of(input._a).namespace
    if not input._a.ndim:
        count = int(bool(input._a))
        return (wrap(np.zeros(count, np.int64)),) if as_tuple else wrap(np.zeros((count, 0), np.int64))
    found = xp.nonzero(input._a)
    if as_tuple:
        return tuple(wrap(row_major(f.astype(np.int64, copy=False))) for f in found)
    return wrap(xp.stack(found, 1).astype(np.int64, copy=False))


traced.nonzero_tuple = lambda input: nonzero(input, as_tuple=True)


scatter_, scatter_add_ = inplace(scatter), inplace(scatter_add)
index_add_, masked_fill_ = inplace(index_add), inplace(masked_fill)


def index_put(input: Tensor, indices: Sequence[Tensor], values: Tensor, accumulate: bool = False) -> Tensor:
    """Return a copy with `values` written at (or, with `accumulate`, added to) the positions that `indices` give."""
    basic, advanced = split_index(input._a.shape, tuple(indices))
    if advanced is None:
        raise IndexError("index_put(): expected at least one index tensor")
    return _index_put(_pick(input, basic), values, advanced, accumulate)


index_put_ = inplace(index_put)
