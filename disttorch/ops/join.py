"""Rearrangements into new memory: copies, casts, concatenation, repetition, reversal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.backends import backend_of
from disttorch.core.layout import check_format, contiguous_format, empty_array, is_in_format, preserve_format
from disttorch.core.promotion import result_dtype
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.registry import traced
from disttorch.ops.shape import copy_order, cut, expand, reshape, row_major, sizes_of, wrap_dim
from disttorch.ops.write import write_out

__all__ = [
    "cat", "clone", "concat", "concatenate", "flip", "stack",
]  # fmt: skip
METHODS = """
    clone contiguous flip repeat
"""


@operator(1, name="clone")
def _clone(xp, x, form):
    """`form` is True for row-major order, False for the order that x has, or a memory format."""
    if form is True or form is contiguous_format:
        return x.copy(order="C")
    if form is False or form is preserve_format:
        return x.copy(order=copy_order(x))
    result = empty_array(xp, x.shape, x.dtype, form)
    result[...] = x
    return result


@_clone.vjp
def _(F, g):
    return g


def clone(input: Tensor, *, memory_format: Any = preserve_format) -> Tensor:
    """Return a copy with memory of its own, through which gradients flow."""
    a = expect_tensor(input, "clone")._a
    return _clone(input, False if memory_format is None else check_format(memory_format, a.ndim, "clone"))


def contiguous(input: Tensor, memory_format: Any = contiguous_format) -> Tensor:
    """Return the tensor itself if its elements lie in the order of a memory format (row-major), else a copy in which they do."""
    if memory_format is contiguous_format and input._a.flags.c_contiguous:
        return input
    form = check_format(memory_format, input._a.ndim, "contiguous")
    return input if is_in_format(input._a, form) else _clone(input, form)


@operator(1, name="cast", grad_name="ToCopyBackward0")
def _cast(xp, x, numpy_dtype):
    if x.dtype.kind == "c" and numpy_dtype.kind not in "cb":
        x = x.real
    if x.dtype.kind == "f" and numpy_dtype.kind in "iu":
        with np.errstate(invalid="ignore"):
            return x.astype(numpy_dtype)
    return x.astype(numpy_dtype, order=copy_order(x))


@_cast.vjp
def _(F, g):
    return g


@operator(None, name="cat")
def _cat(xp, tensors, dim, lengths):
    """Join along `dim`; `lengths` are the tensors' sizes along it, by which the derivative cuts."""
    return row_major(xp.concatenate(tensors, dim))


@_cat.vjp
def _(F, g, needs, dim, lengths):
    results, begin = [], 0
    for needed, length in zip(needs, lengths):
        results.append(F.slice(g, cut(dim, begin, begin + length)) if needed else None)
        begin += length
    return results


def list_of_tensors(tensors: Any, function: str) -> list[Tensor]:
    """Return the tensors of a sequence; TypeError for anything else, as for one tensor."""
    if isinstance(tensors, Tensor):
        raise TypeError(f"{function}(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor")
    return [expect_tensor(x, function, "tensors") for x in tensors]


def cat(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor | None = None, axis: int | None = None) -> Tensor:
    """Return the tensors joined along an existing dimension; types are promoted, shapes agree elsewhere.

    `axis` is NumPy's name for `dim`, which PyTorch takes too.
    """
    dim = dim if axis is None else axis
    listed = list_of_tensors(tensors, "cat")
    if not listed:
        raise ValueError("expected a non-empty list of Tensors")
    first = next((x for x in listed if x._a.shape != (0,)), listed[0])
    d = wrap_dim(dim, first._a.ndim)
    nothing = (*first._a.shape[:d], 0, *first._a.shape[d + 1 :])
    listed = [reshape(x, nothing) if x._a.shape == (0,) else x for x in listed]
    _check_joined(listed, d)
    target = result_dtype([x._a for x in listed]).numpy
    same = [x if x._a.dtype == target else traced.cast(x, target) for x in listed]
    joined = _cat(same, d, tuple([x._a.shape[d] for x in same]))
    if out is None:
        return joined
    if any([backend_of(x._a).namespace.may_share_memory(out._a, x._a) for x in listed]):
        raise RuntimeError(
            "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory "
            "location. Please clone() the tensor before performing the operation."
        )
    return write_out(out, joined, "cat")


def _check_joined(tensors: Sequence[Tensor], dim: int) -> None:
    first = tensors[0]._a.shape
    for k, tensor in enumerate(tensors):
        shape = tensor._a.shape
        if not shape:
            raise RuntimeError(f"zero-dimensional tensor (at position {k}) cannot be concatenated")
        if len(shape) != len(first):
            raise RuntimeError(f"Tensors must have same number of dimensions: got {len(first)} and {len(shape)}")
        for i, (m, n) in enumerate(zip(first, shape)):
            if i != dim and m != n:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {dim}. Expected size {m} but got size {n} for tensor "
                    f"number {k} in the list."
                )


concat = concatenate = cat


@operator(None, name="stack")
def _stack(xp, tensors, dim):
    return row_major(xp.stack(tensors, dim))


@_stack.vjp
def _(F, g, needs, dim):
    pieces = F.unbind(g, dim)
    return [piece if needed else None for piece, needed in zip(pieces, needs)]


def stack(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor | None = None, axis: int | None = None) -> Tensor:
    """Return the tensors, all of one shape, joined along a new dimension (`axis` is NumPy's name for `dim`)."""
    dim = dim if axis is None else axis
    listed = list_of_tensors(tensors, "stack")
    if not listed:
        raise RuntimeError("stack expects a non-empty TensorList")
    shape = listed[0]._a.shape
    for k, x in enumerate(listed):
        if x._a.shape != shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and {list(x._a.shape)} at "
                f"entry {k}"
            )
    d = wrap_dim(dim, len(shape) + 1)
    target = result_dtype([x._a for x in listed]).numpy
    joined = _stack([x if x._a.dtype == target else traced.cast(x, target) for x in listed], d)
    return joined if out is None else write_out(out, joined, "stack")


def repeat(input: Tensor, *sizes: Any, repeats: Any = None) -> Tensor:
    """Return the tensor repeated `sizes[i]` times along each dimension; new leading dimensions may be added."""
    times = sizes_of(sizes if repeats is None else (repeats,))
    shape = input._a.shape
    if len(times) < len(shape):
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    shape = (1,) * (len(times) - len(shape)) + shape
    spread = expand(
        reshape(input, tuple(k for n in shape for k in (1, n))), tuple(k for m, n in zip(times, shape) for k in (m, n))
    )
    return reshape(_clone(spread, True), tuple(m * n for m, n in zip(times, shape)))


@operator(1, name="flip")
def _flip(xp, x, dims):
    return xp.flip(x, dims).copy(order=copy_order(x))


@_flip.vjp
def _(F, g, dims):
    return F.flip(g, dims)


def flip(input: Tensor, *axes: Any, dims: Any = None) -> Tensor:
    """Return a copy in reverse order along `dims`."""
    ndim = input._a.ndim
    order = tuple(
        wrap_dim(d, ndim) for d in sizes_of(axes if dims is None else ((dims,) if isinstance(dims, int) else dims,))
    )
    if len(set(order)) != len(order):
        raise RuntimeError(
            f"dim {next(d for d in order if order.count(d) > 1)} appears multiple times in the list of dims"
        )
    return _flip(input, order if ndim else ())
