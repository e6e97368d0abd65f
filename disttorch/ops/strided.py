"""Views by stride, windows, and writing into a copy through a view."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.backends import address, backend_of
from disttorch.core.layout import check_format, contiguous_format, is_in_format, row_major_strides
from disttorch.ops.define import expect_tensor, operator, view_operator
from disttorch.ops.registry import traced
from disttorch.ops.shape import changed_in_place, reshape, sizes_of, whole, wrap_dim
from disttorch.ops.write import with_out

__all__ = [
    "as_strided", "as_strided_", "as_strided_scatter", "resize_as_", "select_scatter", "slice_scatter",
]  # fmt: skip
METHODS = """
    as_strided as_strided_ as_strided_scatter resize resize_ resize_as resize_as_ select_scatter slice_scatter unfold
"""

# -- strides ------------------------------------------------------------------------------------------------------


def memory_of(xp: Any, a: Any) -> tuple[Any, int]:
    """Return all of the memory that an array is a part of, as one dimension, and where in it the array starts."""
    owner = a
    while True:
        # `as_strided` of NumPy keeps the array behind an object that is none
        base = owner.base if isinstance(owner.base, type(a)) else getattr(owner.base, "base", None)
        if not isinstance(base, type(a)):
            break
        owner = base
    if not owner.size:
        return owner.reshape(-1).view(a.dtype), 0
    extent = sum((n - 1) * s for n, s in zip(owner.shape, owner.strides)) // owner.itemsize + 1
    flat = xp.lib.stride_tricks.as_strided(owner, (extent,), (owner.itemsize,)).view(a.dtype)
    return flat, (address(a) - address(flat)) // a.itemsize


def _strided(xp: Any, flat: Any, shape: tuple[int, ...], stride: tuple[int, ...], begin: int) -> Any:
    """Return a view of the memory `flat`; PyTorch's error where it would reach beyond its end."""
    end = begin + sum((n - 1) * s for n, s in zip(shape, stride)) + 1 if 0 not in shape else begin
    if begin < 0 or end > flat.size:
        raise RuntimeError(
            f"setStorage: sizes {list(shape)}, strides {list(stride)}, storage offset {begin}, and itemsize {flat.itemsize} "
            f"requiring a storage size of {end * flat.itemsize} are out of bounds for storage of size {flat.nbytes}"
        )
    return xp.lib.stride_tricks.as_strided(flat[begin:], shape, tuple(s * flat.itemsize for s in stride))


@view_operator(name="as_strided")
def _as_strided(xp, x, size, stride, shift, x_stride):
    """`shift` is the distance from the first element of x, `x_stride` are the strides of x, both in elements."""
    if any(n > 1 and s != t for n, s, t in zip(x.shape, _strides_of(x), x_stride)):
        raise RuntimeError("as_strided: a change through a view by stride needs a tensor that is contiguous in memory")
    flat, begin = memory_of(xp, x)
    return _strided(xp, flat, size, stride, begin + shift)


@_as_strided.vjp
def _(F, g, x_shape, size, stride, shift, x_stride):
    """Add up what went to each place in memory; elements of x at one place share it equally."""
    ours, theirs = _places(x_shape, x_stride), _places(size, stride) + shift
    if not ours.size:
        return F.zeros_from(g, x_shape)
    low = min(int(ours.min()), int(theirs.min()) if theirs.size else 0)
    count = max(int(ours.max()), int(theirs.max()) if theirs.size else 0) - low + 1
    memory = F.index_put(F.zeros_from(g, (count,)), g, (_beside(g, theirs - low),), True)
    uses = np.bincount((ours - low).ravel(), minlength=count)[ours - low]
    found = F.index(memory, (_beside(g, ours - low),))
    return found if uses.max() == 1 else found * F.constant(g, (1.0 / uses).astype(_array(g).real.dtype))


def _array(x: Any) -> Any:
    return x._a if isinstance(x, Tensor) else x


def _beside(x: Any, positions: np.ndarray) -> Any:
    """Return positions as an array on the device of x."""
    return backend_of(_array(x)).namespace.asarray(positions)


def _places(shape: tuple[int, ...], stride: tuple[int, ...]) -> Any:
    places = np.zeros(shape, np.int64)
    for k, s in enumerate(stride):
        places += (np.arange(shape[k]) * s).reshape((-1,) + (1,) * (len(shape) - k - 1))
    return places


def _strides_of(a: Any) -> tuple[int, ...]:
    return tuple(s // a.itemsize for s in a.strides)


def _check_strides(function: str, size: Any, stride: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    shape, steps = sizes_of((size,)), sizes_of((stride,))
    if len(shape) != len(steps):
        raise RuntimeError(f"mismatch in length of strides and shape: {list(steps)} and {list(shape)}")
    if any(s < 0 for s in steps):
        raise RuntimeError(f"{function}: Negative strides are not supported at the moment, got strides: {list(steps)}")
    return shape, steps


def as_strided(input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """Return a view of the memory: element (i, j) is `storage_offset` + i * stride[0] + j * stride[1] elements behind its
    start (without `storage_offset`: behind the first element of `input`)."""
    a = expect_tensor(input, "as_strided")._a
    shape, steps = _check_strides("as_strided", size, stride)
    shift = 0 if storage_offset is None else storage_offset - memory_of(backend_of(a).namespace, a)[1]
    return _as_strided(input, shape, steps, shift, _strides_of(a))


as_strided_ = changed_in_place(as_strided)


@operator(2, name="as_strided_scatter")
def _as_strided_scatter(xp, x, src, size, stride, shift):
    flat, begin = memory_of(xp, x)
    flat = flat.copy()
    _strided(xp, flat, size, stride, begin + shift)[...] = src
    return _strided(xp, flat, x.shape, _strides_of(x), begin)


@_as_strided_scatter.vjp("x")
def _(F, g, size, stride, shift):
    return F.as_strided_scatter(F.clone(g, True), F.zeros_from(g, size), size, stride, shift)


@_as_strided_scatter.vjp("src")
def _(F, g, size, stride, shift):
    g = F.clone(g, True)
    return F.as_strided(g, size, stride, shift, row_major_strides(tuple(g.shape)))


@with_out
def as_strided_scatter(
    input: Tensor, src: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """Return a copy of `input` (and its memory) with `src` in the place of the view that `as_strided` returns."""
    a = expect_tensor(input, "as_strided_scatter")._a
    shape, steps = _check_strides("as_strided_scatter", size, stride)
    _check_place(expect_tensor(src, "as_strided_scatter", "src"), shape)
    shift = 0 if storage_offset is None else storage_offset - memory_of(backend_of(a).namespace, a)[1]
    return _as_strided_scatter(input, src, shape, steps, shift)


# -- windows ------------------------------------------------------------------------------------------------------


@view_operator(name="unfold")
def _unfold(xp, x, dim, size, step):
    if not x.ndim:
        return x.reshape(1)[:size]
    count = (x.shape[dim] - size) // step + 1
    shape = (*x.shape[:dim], count, *x.shape[dim + 1 :], size)
    strides = (*x.strides[:dim], x.strides[dim] * step, *x.strides[dim + 1 :], x.strides[dim])
    return xp.lib.stride_tricks.as_strided(x, shape, strides)


@_unfold.vjp
def _(F, g, x_shape, dim, size, step):
    if not x_shape:
        return F.reshape(g, ()) if size else F.zeros_from(g, ())
    places = np.arange(g.shape[dim])[:, None] * step + np.arange(size)
    last = len(x_shape)
    order = (*range(dim + 1), last, *range(dim + 1, last))
    return F.index_put(F.zeros_from(g, x_shape), F.permute(g, order), (*whole(dim), _beside(g, places)), True)


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Return a view of windows of `size` positions of a dimension, every `step` one starts; they become the last dimension."""
    d = wrap_dim(dimension, input._a.ndim)
    most = input._a.shape[d] if input._a.ndim else 1
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if size > most:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {most} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    return _unfold(input, d, size, step)


# -- writing into a copy ------------------------------------------------------------------------------------------


def _check_place(src: Tensor, shape: tuple[int, ...]) -> None:
    if src._a.shape != shape:
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = {list(src._a.shape)}, slice size = {list(shape)}"
        )


def scattered(input: Tensor, src: Tensor, link: Any) -> Tensor:
    """Return a copy of `input` with `src` in the place of a view; `link` is (view operator, output, attributes)."""
    op, _, attrs = link
    place = op.kernel(backend_of(input._a).namespace, input._a, *attrs)
    _check_place(src, place.shape)
    return traced.view_scatter(input, src, (link,))


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """Return a copy of `input` with `src` at one position of `dim`."""
    if not input._a.ndim:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, input._a.ndim)
    n = input._a.shape[d]
    if not -n <= index < n:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(input._a.shape)} at dimension {d}"
        )
    return scattered(input, src, (traced.slice.op, 0, ((*whole(d), index % n, Ellipsis),)))


@with_out
def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """Return a copy of `input` with `src` at the positions start, start + step, ... below `end` of `dim`."""
    if not input._a.ndim:
        raise RuntimeError("slice() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, input._a.ndim)
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    return scattered(input, src, (traced.slice.op, 0, ((*whole(d), slice(start, end, step)),)))


# -- another size -------------------------------------------------------------------------------------------------


def resize_(input: Tensor, *sizes: Any, size: Any = None, memory_format: Any = contiguous_format) -> Tensor:
    """Give the tensor another shape: the same memory if there is enough of it, else new memory with its elements first.

    Elements that were not there before are not set.
    """
    if input.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    a = input._a
    shape = sizes_of(sizes if size is None else (size,))
    if any(n < 0 for n in shape):
        raise RuntimeError(f"resize_: sizes must be non-negative, got {list(shape)}")
    form = check_format(memory_format, len(shape), "resize_")
    if shape == a.shape and (form is contiguous_format or is_in_format(a, form)):
        return input
    xp = backend_of(a).namespace
    flat, begin = memory_of(xp, a)
    count = prod(shape)
    memory = flat[begin:]
    if memory.size < count:
        memory = xp.zeros(count, a.dtype)
        memory[: flat.size - begin] = flat[begin:]
    order = form.order or tuple(range(len(shape)))
    in_order = memory[:count].reshape(tuple(shape[d] for d in order))
    input._a = in_order.transpose(tuple(order.index(d) for d in range(len(order))))
    return input


def resize_as_(input: Tensor, the_template: Tensor, *, memory_format: Any = contiguous_format) -> Tensor:
    """Give the tensor the shape of another, as `resize_`."""
    return resize_(
        input, expect_tensor(the_template, "resize_as_", "the_template")._a.shape, memory_format=memory_format
    )


def resize(input: Tensor, *sizes: Any) -> Tensor:
    """Return the elements in another shape of as many elements (deprecated in PyTorch in favour of `reshape`)."""
    warnings.warn("non-inplace resize is deprecated", UserWarning, stacklevel=2)
    shape = sizes_of(sizes)
    if prod(shape) != input._a.size:
        raise RuntimeError(
            f"requested resize to {'x'.join(map(str, shape))} ({prod(shape)} elements in total), but the given tensor has a "
            f"size of {'x'.join(map(str, input._a.shape))} ({input._a.size} elements). autograd's resize can only change the "
            "shape of a given tensor, while preserving the number of elements. "
        )
    return reshape(input, shape)


def resize_as(input: Tensor, tensor: Tensor) -> Tensor:
    """Return the elements in the shape of another tensor of as many elements (deprecated, as `resize`)."""
    warnings.warn("non-inplace resize_as is deprecated", UserWarning, stacklevel=2)
    return reshape(input, tensor._a.shape)
