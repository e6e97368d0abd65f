"""Reading and writing by index, `x[...]`, and by mask; filling and copying."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from operator import index as operator_index
from types import EllipsisType
from typing import Any

import numpy as np

from disttorch import backends
from disttorch.autograd.grad_mode import mode
from disttorch.autograd.record import type_name
from disttorch.autograd.tensor import Tensor, wrap
from disttorch.autograd.views import check_inplace, written
from disttorch.backends import backend_of, device_of, kernels_of
from disttorch.core.dtypes import number_as
from disttorch.ops.define import expect_tensor, operator, plain
from disttorch.ops.registry import both, traced
from disttorch.ops.shape import expand, reshape, row_major
from disttorch.ops.write import (
    before_write,
    check_partial_overlap,
    inplace,
    overlaps_itself,
    rebase,
    store,
    type_label,
    with_out,
    write_directly,
    write_out,
)

__all__ = [
    "argwhere", "fill", "fill_", "index_put", "index_put_", "masked_fill", "masked_scatter", "masked_select", "nonzero",
    "zero_",
]  # fmt: skip
METHODS = """
    argwhere copy_ fill_ index_put index_put_ is_pinned masked_fill masked_scatter masked_select nonzero pin_memory zero_
"""
INPLACE = """
    masked_fill masked_scatter
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
    check_inplace(input, (src,))
    if isinstance(src, (bool, int, float, complex)):
        src = wrap(np.asarray(src))
    expect_tensor(src, "copy_", "src")
    if type(src._a) is not type(input._a) and device_of(src._a) != device_of(input._a):
        src = traced.to_device(src, device_of(input._a), device_of(src._a))
    source = expand(src, input._a.shape)
    if source._a.dtype.kind == "c" and input._a.dtype.kind != "c":
        source = traced.cast(source, input._a.dtype)
    check_partial_overlap(input._a, (source,))
    return write_directly(_copy.op, input, (source,))


def pin_memory(input: Tensor, device: Any = None) -> Tensor:
    """Return the tensor in page-locked memory, from which copies to a GPU are faster: itself if it is there.

    RuntimeError for a tensor on a GPU, and where there is no CUDA device.
    """
    if device_of(input._a).type != "cpu":
        raise RuntimeError(f"cannot pin '{type_name(input)}' only dense CPU tensors can be pinned")
    return input if backends.is_pinned(input._a) else copy_(wrap(backends.empty_like_pinned(input._a)), input)


def is_pinned(input: Tensor, device: Any = None) -> bool:
    """Whether the tensor lies in page-locked memory."""
    return device_of(input._a).type == "cpu" and backends.is_pinned(input._a)


@operator(1, name="fill")
def _fill(xp, x, value, out=None):
    if out is None:
        out = xp.empty_like(x)
    out[...] = plain(xp, value)
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


def fill(input: Tensor, value: Any) -> Tensor:
    """Return a tensor like `input` with one value, a number or a 0-d tensor, everywhere."""
    return fill_(traced.clone(expect_tensor(input, "fill"), False), value)


def zero_(input: Tensor) -> Tensor:
    """Write zeros everywhere."""
    return fill_(input, 0)


# -- x[index] -----------------------------------------------------------------------------------------------------


@operator(1, name="index", grad_name="IndexBackward0")
def _index(xp, x, index):
    return row_major(x[_there(xp, index)])


def _there(xp: Any, index: Any) -> Any:
    """Return an index with its arrays where the array that it is for lies."""
    if xp is np:
        return index
    items = index if isinstance(index, tuple) else (index,)
    return tuple([xp.asarray(i) if type(i) is np.ndarray else i for i in items])


@_index.vjp
def _(F, g, x_shape, index):
    return F.index_grad(g, index, x_shape)


def _index_grad(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Add up the gradients of x[index] where they belong; without the copy that `index_put` makes of the zeros."""
    xp = np if type(g) is np.ndarray else backend_of(g).namespace
    result = xp.zeros(shape, g.dtype)
    kernels_of(result).reduce_at(result, _there(xp, index), g)
    return result


both("index_grad", _index_grad, lambda g, index, shape: traced.index_put(traced.zeros_from(g, shape), g, index, True))


@operator(2, name="index_put")
def _index_put(xp, x, values, index, accumulate):
    result, index = x.copy(), _there(xp, index)
    if accumulate:
        kernels_of(result).reduce_at(result, index, values)
    else:
        result[index] = values
    return result


@_index_put.vjp("x")
def _(F, g, values_shape, index, accumulate):
    return g if accumulate else F.index_put(g, F.zeros_from(g, ()), index, False)


@_index_put.vjp("values")
def _(F, g, index):
    return F.index(g, index)


_ALL = slice(None)
_PLAIN = frozenset((int, bool, slice, type(None), EllipsisType))
_INDEX_TYPES = frozenset(map(np.dtype, (bool, np.uint8, np.int32, np.int64)))


def _listed(index: Any) -> Sequence[Any]:
    return index if isinstance(index, tuple) or _stands_for_a_tuple(index) else (index,)


def _stands_for_a_tuple(index: Any) -> bool:
    """Whether a list means one index for each dimension, as PyTorch decides it: by what is in it."""
    several = (Tensor, list, tuple, slice, EllipsisType, type(None))
    return isinstance(index, list) and len(index) < 32 and any(isinstance(i, several) for i in index)


def _entry(item: Any, tensors_only: bool) -> Any:
    """Return an entry that is no plain one as an array, or as the Python number that an array of no dimension stands for."""
    if isinstance(item, Tensor):
        array = item._a
    elif isinstance(item, (list, tuple, range)):
        array = np.asarray(item) if len(item) else np.zeros(0, np.int64)
    elif isinstance(item, (np.ndarray, np.generic)):
        array = np.asarray(item)
    else:
        return item
    if array.dtype not in _INDEX_TYPES:
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if array.dtype == np.uint8:
        array = array.astype(bool)
    return array if array.ndim or tensors_only else array.item()


def _slice(item: slice) -> slice:
    parts = [None if p is None else operator_index(p) for p in (item.start, item.stop, item.step)]
    if parts[2] is not None and parts[2] <= 0:
        raise ValueError("step must be greater than zero")
    return slice(*parts)


def _position(item: Any, size: int, dim: int) -> int:
    try:
        position = operator_index(item)
    except TypeError:
        error = TypeError if isinstance(item, str) else IndexError
        raise error(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
            f"(got {type(item).__name__})"
        ) from None
    if not -size <= position < size:
        raise IndexError(f"index {position} is out of bounds for dimension {dim} with size {size}")
    return position


def _width(item: Any) -> int:
    """Return how many dimensions an index entry takes."""
    if item is None or item is Ellipsis or type(item) is bool:
        return 0
    return item.ndim if hasattr(item, "dtype") and item.dtype == bool else 1


def split_index(
    shape: tuple[int, ...], index: Any, tensors_only: bool = False
) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    """Split an index into a basic part, applied first as a view, and an advanced part (None where there is none).

    PyTorch applies ints, slices and None before the index tensors; the advanced part then has only arrays and `:`. An
    integer tensor with no dimension is an int, except in `index_put` (`tensors_only`).
    """
    items = [item if type(item) in _PLAIN else _entry(item, tensors_only) for item in _listed(index)]
    dots = [k for k, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    missing = len(shape) - sum([_width(item) for item in items])
    if missing < 0:
        raise IndexError(f"too many indices for tensor of dimension {len(shape)}")
    basic: list[Any] = []
    advanced: list[Any] = []
    dim = 0
    for item in items:
        if item is Ellipsis:
            basic += [_ALL] * missing
            advanced += [_ALL] * missing
            dim += missing
        elif item is None or type(item) is bool:
            basic.append(None)
            advanced.append(_ALL if item is None else np.asarray([item]))
        elif type(item) is slice:
            basic.append(_slice(item))
            advanced.append(_ALL)
            dim += 1
        elif hasattr(item, "dtype"):
            _check_array(item, shape, dim)
            width = _width(item)
            basic += [_ALL] * width
            advanced.append(item)
            dim += width
        else:
            basic.append(_position(item, shape[dim], dim))
            dim += 1
    if all([type(a) is slice for a in advanced]):
        return (*basic, Ellipsis), None
    return (*basic, Ellipsis), tuple(advanced)


def _check_array(array: Any, shape: tuple[int, ...], dim: int) -> None:
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
        worst = array[(array < -size) | (array >= size)][0]
        raise IndexError(f"index {worst} is out of bounds for dimension {dim} with size {size}")


def _is_whole(basic: tuple[Any, ...]) -> bool:
    return all([b is Ellipsis or (type(b) is slice and b == _ALL) for b in basic])


def _pick(input: Tensor, basic: tuple[Any, ...]) -> Tensor:
    return input if _is_whole(basic) else traced.slice(input, basic)


def getitem(input: Tensor, index: Any) -> Tensor:
    """Return input[index]: a view for ints, slices, None and `...`, a copy where an index is a tensor or a list."""
    if type(index) is int and 0 <= index < (input._a.shape or (0,))[0]:
        return traced.slice(input, (index, Ellipsis))
    if type(index) is int and not input._a.ndim:
        raise IndexError(
            "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a 0-dim "
            "tensor to a number"
        )
    basic, advanced = split_index(input._a.shape, index)
    if advanced is None:
        return traced.slice(input, basic)
    return _index(_pick(input, basic), frozen(advanced, input))


def setitem(input: Tensor, index: Any, value: Any) -> None:
    """Write `value`, broadcast and cast, into input[index]; gradients flow to `value`."""
    basic, advanced = split_index(input._a.shape, index)
    check_inplace(input, (value,))
    target = input if advanced is not None and _is_whole(basic) else traced.slice(input, basic)
    if not isinstance(value, Tensor):
        if advanced is None and input._a.dtype.itemsize > 2:
            fill_(target, as_number(value))
            return
        narrow = input._a.dtype.itemsize == 2
        value = wrap(backend_of(input._a).namespace.asarray(number_as(as_number(value), input._a.dtype, narrow)))
    if advanced is None:
        copy_(target, _without_leading_ones(value, target._a.ndim))
        return
    before = before_write(target)
    value = _as_written(input, value, advanced)
    result = _put_values(before, value, frozen(advanced, input, value), False)
    if overlaps_itself(target._a):
        _write_into_expanded(target, advanced, value, result)
    else:
        store(target, result)


def _write_into_expanded(target: Tensor, index: tuple[Any, ...], value: Tensor, result: Tensor) -> None:
    """Write into memory where several elements lie at one place, which PyTorch still allows here."""
    warnings.warn(
        "Use of index_put_ on expanded tensors is deprecated. Please clone() the tensor before performing this operation. This "
        "also applies to advanced indexing e.g. tensor[indices] = tensor",
        UserWarning,
        stacklevel=3,
    )
    target._a[index] = value._a
    written(target)
    if result._requires_grad:
        rebase(target, result)


def _as_written(input: Tensor, values: Tensor, index: tuple[Any, ...]) -> Tensor:
    """Return the values to write: they have the input's type, except for one number to be written where a mask holds."""
    if values._a.dtype == input._a.dtype:
        return values
    masks = [i for i in index if not isinstance(i, slice)]
    if values._a.size == 1 and len(masks) == 1 and masks[0].dtype == bool:
        return one_value("masked_fill", input, reshape(values, ()))
    raise RuntimeError(
        f"Index put requires the source and destination dtypes match, got {type_label(input._a.dtype)} for the destination "
        f"and {type_label(values._a.dtype)} for the source."
    )


def _put_values(input: Tensor, values: Tensor, index: tuple[Any, ...], accumulate: bool) -> Tensor:
    try:
        return _index_put(input, values, index, accumulate)
    except (ValueError, TypeError):  # TypeError: of several dimensions, for a mask
        wanted = list(input._a[index].shape)
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(values._a.shape)} cannot be broadcast to indexing result of shape "
            f"{wanted}"
        ) from None


def frozen(index: tuple[Any, ...], *tensors: Tensor) -> tuple[Any, ...]:
    """Return the index with arrays of its own where a derivative will need them: the user's may be changed by then."""
    if not mode.enabled or not any([t.requires_grad for t in tensors]):
        return index
    return tuple([i.copy() if not isinstance(i, slice) else i for i in index])


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


def index_put(input: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    """Return a copy with `values` written at (or, with `accumulate`, added to) the positions that `indices` give."""
    expect_tensor(input, "index_put")
    expect_tensor(values, "index_put", "values")
    if isinstance(indices, Tensor):
        raise TypeError("index_put(): argument 'indices' must be tuple of Tensors, not Tensor")
    items = [slice(None) if i is None else i for i in indices]
    basic, advanced = split_index(input._a.shape, tuple(items), tensors_only=True)
    if advanced is None:
        raise IndexError("index_put(): expected at least one index tensor")
    values = _as_written(input, values, advanced)
    return _put_values(_pick(input, basic), values, frozen(advanced, input, values), accumulate)


index_put_ = inplace(index_put)


# -- masks --------------------------------------------------------------------------------------------------------


def lifted(input: Tensor) -> Tensor:
    """Return a tensor with no dimension as one with a single element."""
    return input if input._a.ndim else reshape(input, 1)


def common_shape(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape to which two shapes broadcast; RuntimeError where there is none."""
    try:
        return np.broadcast_shapes(left, right)
    except ValueError:
        raise RuntimeError(f"the shapes {list(left)} and {list(right)} cannot be broadcast to a common one") from None


def one_value(function: str, input: Tensor, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        return wrap(backend_of(input._a).namespace.asarray(number_as(value, input._a.dtype)))
    if value._a.ndim:
        raise RuntimeError(
            f"{function} only supports a 0-dimensional value tensor, but got tensor with {value._a.ndim} dimension(s)."
        )
    if value._a.dtype.kind == "c" and input._a.dtype.kind != "c":
        raise RuntimeError(f"value cannot be converted to type {input._a.dtype.name} without overflow")
    return value if value._a.dtype == input._a.dtype else traced.cast(value, input._a.dtype)


def with_same_out(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Give a function `out=`, a tensor of the input's type in memory of its own."""
    writing = with_out(function)

    @functools.wraps(function)
    def checked(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = kwargs.get("out")
        if isinstance(out, Tensor):
            if out._a.dtype != input._a.dtype:
                raise RuntimeError(f"Expected out tensor to have dtype {input.dtype!r}, but got {out.dtype!r} instead")
            operands = [x for x in (input, *args, *kwargs.values()) if isinstance(x, Tensor) and x is not out]
            if out is input or any(np.may_share_memory(out._a, x._a) for x in operands):
                raise RuntimeError(
                    "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single "
                    "memory location. Please clone() the tensor before performing the operation."
                )
        return writing(input, *args, **kwargs)

    return checked


def _mask(function: str, mask: Tensor) -> Any:
    expect_tensor(mask, function, "mask")
    if mask._a.dtype != bool:
        raise RuntimeError(f"{function} only supports boolean masks, but got mask with dtype {mask.dtype!r}")
    return mask._a


@with_same_out
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """Return the elements where the mask holds (both broadcast), as one dimension."""
    where = _mask("masked_select", mask)
    shape = common_shape(input._a.shape, where.shape)
    spread = backend_of(where).namespace.broadcast_to(where, shape)
    return traced.index(lifted(expand(input, shape)), frozen((spread if shape else spread.reshape(1),), input))


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """Return `input` with `value`, a number or a 0-d tensor, where the mask holds."""
    _mask("masked_fill", mask)
    filler = one_value("masked_fill", input, value)
    try:
        return traced.select_by(mask, filler, input if input._a.flags.c_contiguous else traced.clone(input, True))
    except ValueError:
        common_shape(input._a.shape, mask._a.shape)  # says what does not fit
        raise


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """Return `input` with the elements of `source`, in order, where the mask holds."""
    where = _mask("masked_scatter", mask)
    if source._a.dtype != input._a.dtype:
        raise RuntimeError(
            f"masked_scatter: expected self and source to have same dtypes but got {input.dtype!r} and {source.dtype!r}"
        )
    shape = common_shape(input._a.shape, where.shape)
    spread = backend_of(where).namespace.broadcast_to(where, shape).reshape(shape or (1,))
    count = int(spread.sum())
    if count > source._a.size:
        raise RuntimeError("masked_scatter: expected the number of elements of source >= number of ones in mask")
    values = traced.slice(reshape(source, -1), (slice(count),))
    put_there = traced.index_put(lifted(expand(input, shape)), values, frozen((spread,), input, source), False)
    return reshape(put_there, shape)


def nonzero(input: Tensor, *, as_tuple: bool = False, out: Tensor | None = None) -> Any:
    """Return the positions of nonzero elements, one a row [n, ndim]; `as_tuple` gives one tensor for each dimension."""
    expect_tensor(input, "nonzero")
    if as_tuple:
        return tuple(wrap(row_major(f.astype(np.int64, copy=False))) for f in lifted(input)._a.nonzero())
    return argwhere(input) if out is None else write_out(out, argwhere(input), "nonzero")


traced.nonzero_tuple = lambda input: nonzero(input, as_tuple=True)


def argwhere(input: Tensor) -> Tensor:
    """Return the positions of nonzero elements, one a row [n, ndim]."""
    a = expect_tensor(input, "argwhere")._a
    xp = backend_of(a).namespace
    if not a.ndim:
        return wrap(xp.zeros((int(bool(a)), 0), np.int64))
    return wrap(xp.stack(a.nonzero(), 1).astype(np.int64, copy=False))
