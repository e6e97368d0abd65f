"""Views and rearrangements: reshape, expand, transpose, squeeze, slices of whole dimensions, concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Literal

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.core.dtypes import dtype
from disttorch.ops.define import view_operator
from disttorch.ops.registry import both, traced

__all__ = [
    "broadcast_to", "chunk", "diagonal", "flatten", "movedim", "narrow", "permute", "reshape", "split",
    "squeeze", "t", "transpose", "unbind", "unflatten", "unsqueeze",
]  # fmt: skip
METHODS = """
    broadcast_to chunk diagonal expand expand_as flatten movedim narrow permute reshape split squeeze t
    transpose unbind unflatten unsqueeze view
"""


def wrap_dim(dim: int, ndim: int) -> int:
    """Return `dim` counted from the front; IndexError when there is no such dimension."""
    size = ndim or 1
    if not -size <= dim < size:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-size}, {size - 1}], but got {dim})")
    return dim % size


def sizes_of(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Return a shape given either as several ints or as one sequence."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    return tuple(int(s) for s in sizes)


def infer_shape(shape: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """Replace the one -1 in `shape` by what `numel` elements leave for it."""
    unknown = [i for i, n in enumerate(shape) if n == -1]
    if any(n < -1 for n in shape):
        raise RuntimeError(f"invalid shape dimension {min(shape)}")
    if len(unknown) > 1:
        raise RuntimeError("only one dimension can be inferred")
    known = prod(n for n in shape if n != -1)
    if unknown and known and numel % known == 0:
        i = unknown[0]
        return (*shape[:i], numel // known, *shape[i + 1 :])
    if unknown and not known and not numel:
        raise RuntimeError(
            f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 can be "
            "any value and is ambiguous"
        )
    if unknown or known != numel:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    return shape


def row_major(a: Any) -> Any:
    """Return the array, copied if its elements are not in row-major order, as PyTorch's kernels leave them."""
    return a if a.flags.c_contiguous else a.copy(order="C")


def copy_order(a: Any) -> Literal["C", "K"]:
    """Return the order in which a copy keeps the array's layout; an expanded array's copy is in row-major order."""
    return "C" if 0 in a.strides else "K"


# -- views --------------------------------------------------------------------------------------------------------


@view_operator(name="view")
def _view(xp, x, shape):
    return x.reshape(shape)


@_view.vjp
def _(F, g, x_shape):
    return F.reshape(g, x_shape)


def _viewable(a: Any, shape: tuple[int, ...]) -> bool:
    """Whether the elements can be seen in another shape without a copy."""
    if a.flags.c_contiguous or not a.size:
        return True
    try:
        np.reshape(a, shape, copy=False)
    except ValueError:
        return False
    return True


def view(input: Tensor, *shape: Any) -> Tensor:
    """Return the same memory in another shape; one size may be -1. With a dtype of the same size: the same bytes."""
    if len(shape) == 1 and isinstance(shape[0], dtype):
        return _view_bytes(input, shape[0])
    sizes = infer_shape(sizes_of(shape), input._a.size)
    if not _viewable(input._a, sizes):
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            "contiguous subspaces). Use .reshape(...) instead."
        )
    return _view(input, sizes)


def _view_bytes(input: Tensor, d: dtype) -> Tensor:
    if input.requires_grad:
        raise RuntimeError("view(dtype) of a tensor that requires grad is not supported; detach it first")
    out = wrap(input._a.view(d.numpy))
    out._counter = input._counter
    return out


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """Return the elements in another shape (one size may be -1): a view where possible, else a copy."""
    sizes = infer_shape(sizes_of(shape), input._a.size)
    if not _viewable(input._a, sizes):
        input = traced.clone(input, True)
    return _view(input, sizes)


both("reshape", lambda a, shape: a.reshape(shape), reshape)


@view_operator(name="expand")
def _expand(xp, x, shape):
    return xp.broadcast_to(x, shape) if xp is not np else np.lib.stride_tricks.as_strided(x, shape, _strides(x, shape))


@_expand.vjp
def _(F, g):
    return g


def _strides(x: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    lead = len(shape) - x.ndim
    kept = (s if n == m else 0 for s, n, m in zip(x.strides, x.shape, shape[lead:]))
    return (0,) * lead + tuple(kept)


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Return a view in which dimensions of size 1 are repeated without a copy; -1 keeps a size."""
    want = sizes_of(sizes)
    have = input._a.shape
    lead = len(want) - len(have)
    if lead < 0:
        raise RuntimeError(
            f"expand(torch.{{{list(have)}}}, size={list(want)}): the number of sizes provided ({len(want)}) must be greater or "
            f"equal to the number of dimensions in the tensor ({len(have)})"
        )
    shape = []
    for i, n in enumerate(want):
        old = have[i - lead] if i >= lead else None
        if n == -1 and old is None:
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) isn't allowed in a leading, non-existing dimension {i}"
            )
        if old not in (None, 1, n) and n != -1:
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({old}) at non-singleton dimension {i}.  "
                f"Target sizes: {list(want)}.  Tensor sizes: {list(have)}"
            )
        shape.append(old if n == -1 else n)
    return _expand(input, tuple(shape))


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Return `input` expanded to the shape of `other`."""
    return expand(input, other._a.shape)


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """Return `input` expanded to `size`."""
    return expand(input, tuple(size))


@view_operator(name="permute")
def _permute(xp, x, dims):
    return x.transpose(dims)


@_permute.vjp
def _(F, g, dims):
    return F.permute(g, tuple(int(i) for i in np.argsort(dims)))


def permute(input: Tensor, *dims: Any) -> Tensor:
    """Return a view with the dimensions in the order of `dims`."""
    order = sizes_of(dims)
    ndim = input._a.ndim
    if len(order) != ndim:
        raise RuntimeError(
            f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired ordering "
            f"of dimensions i.e. input.dim() = {ndim} is not equal to len(dims) = {len(order)}"
        )
    wrapped = tuple(wrap_dim(d, ndim) for d in order)
    if len(set(wrapped)) != ndim:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return _permute(input, wrapped)


@view_operator(name="transpose")
def _transpose(xp, x, dim0, dim1):
    return x.swapaxes(dim0, dim1) if x.ndim else x.reshape(())


@_transpose.vjp
def _(F, g, dim0, dim1):
    return F.transpose(g, dim0, dim1)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Return a view with two dimensions exchanged."""
    ndim = input._a.ndim
    return _transpose(input, wrap_dim(dim0, ndim), wrap_dim(dim1, ndim))


@view_operator(name="t")
def _t(xp, x):
    return x.transpose()


@_t.vjp
def _(F, g):
    return F.t(g)


def t(input: Tensor) -> Tensor:
    """Return the transpose of a matrix; what has fewer dimensions stays as it is."""
    if input._a.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input._a.ndim}D")
    return _t(input)


@view_operator(name="squeeze", grad_name="SqueezeBackward1")
def _squeeze(xp, x, dims):
    return x.squeeze(dims)


@_squeeze.vjp
def _(F, g, x_shape):
    return F.reshape(g, x_shape)


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Return a view without dimensions of size 1: all of them, or those of `dim` that have size 1."""
    shape = input._a.shape
    dims = range(len(shape)) if dim is None else [dim] if isinstance(dim, int) else dim
    wrapped = [wrap_dim(d, len(shape)) for d in dims]
    return _squeeze(input, tuple(d for d in wrapped if shape and shape[d] == 1))


@view_operator(name="unsqueeze")
def _unsqueeze(xp, x, dim):
    return xp.expand_dims(x, dim)


@_unsqueeze.vjp
def _(F, g, x_shape):
    return F.reshape(g, x_shape)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Return a view with a new dimension of size 1 at `dim`."""
    return _unsqueeze(input, wrap_dim(dim, input._a.ndim + 1))


@view_operator(name="diagonal")
def _diagonal(xp, x, offset, dim1, dim2):
    found = x.diagonal(offset, dim1, dim2)
    if xp is np:  # NumPy's own is read-only
        found.flags.writeable = x.flags.writeable
    return found


@_diagonal.vjp
def _(F, g, x_shape, offset, dim1, dim2):
    return F.view_scatter(F.zeros_from(g, x_shape), g, ((traced.diagonal.op, 0, (offset, dim1, dim2)),))


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return a view of the diagonals of the planes (dim1, dim2), as the last dimension."""
    ndim = input._a.ndim
    first, second = wrap_dim(dim1, ndim), wrap_dim(dim2, ndim)
    if first == second:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return _diagonal(input, offset, first, second)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Return the dimensions from `start_dim` to `end_dim` as one."""
    shape = input._a.shape
    start, end = wrap_dim(start_dim, len(shape)), wrap_dim(end_dim, len(shape))
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if not shape:
        return reshape(input, 1)
    if start == end:
        return input
    return reshape(input, (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Return dimension `dim` as several dimensions of `sizes` (one may be -1)."""
    shape = input._a.shape
    d = wrap_dim(dim, len(shape))
    return view(input, (*shape[:d], *infer_shape(tuple(sizes), shape[d]), *shape[d + 1 :]))


def movedim(input: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Return a view with the `source` dimensions moved to the `destination` positions."""
    ndim = input._a.ndim
    sources = [wrap_dim(d, ndim) for d in ([source] if isinstance(source, int) else source)]
    targets = [wrap_dim(d, ndim) for d in ([destination] if isinstance(destination, int) else destination)]
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise RuntimeError("movedim: Invalid source or destination dims: they must be unique and of the same number")
    order = [d for d in range(ndim) if d not in sources]
    for target, origin in sorted(zip(targets, sources)):
        order.insert(target, origin)
    return _permute(input, tuple(order))


# -- pieces -------------------------------------------------------------------------------------------------------


def cut(dim: int, start: int, stop: int) -> tuple[slice, ...]:
    """Return the index of positions start..stop of one dimension."""
    return (slice(None),) * dim + (slice(start, stop),)


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """Return a view of `length` positions of `dim` from `start` on."""
    shape = input._a.shape
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, len(shape))
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    begin = start + shape[d] if start < 0 else start
    if not 0 <= begin <= shape[d]:
        raise IndexError(f"start out of range (expected to be in range of [{-shape[d]}, {shape[d]}], but got {start})")
    if begin + length > shape[d]:
        raise RuntimeError(f"start ({begin}) + length ({length}) exceeds dimension size ({shape[d]}).")
    return traced.slice(input, cut(d, begin, begin + length))


@view_operator(name="split_with_sizes", grad_name="SplitBackward0")
def _split(xp, x, sizes, dim):
    ends = np.cumsum(sizes)
    return tuple(x[cut(dim, int(end) - n, int(end))] for n, end in zip(sizes, ends))


@_split.vjp
def _(F, g, x_shape, sizes, dim):
    some = next(piece for piece in g if piece is not None)
    shapes = [(*x_shape[:dim], n, *x_shape[dim + 1 :]) for n in sizes]
    return F.cat([F.zeros_from(some, shape) if piece is None else piece for piece, shape in zip(g, shapes)], dim, sizes)


def split(input: Tensor, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Return views of pieces along `dim`: of one size (the last may be smaller), or of the given sizes."""
    shape = input._a.shape
    if not shape:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, len(shape))
    n = shape[d]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0 or (size == 0 and n):
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        sizes = [min(size, n - k) for k in range(0, n, size)] if n else [0]
    else:
        sizes = [int(s) for s in split_size_or_sections]
        if sum(sizes) != n:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {dim}), but got "
                f"split_sizes={sizes}"
            )
    return _split(input, tuple(sizes), d)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Return at most `chunks` views of equal size along `dim` (the last may be smaller)."""
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n = input._a.shape[wrap_dim(dim, input._a.ndim)] if input._a.ndim else 0
    return split(input, max(-(-n // chunks), 1), dim)


@view_operator(name="unbind")
def _unbind(xp, x, dim):
    moved = xp.moveaxis(x, dim, 0)
    return tuple(moved[i, ...] for i in range(len(moved)))


@_unbind.vjp
def _(F, g, x_shape, dim):
    some = next(piece for piece in g if piece is not None)
    return F.stack([F.zeros_from(some, some.shape) if piece is None else piece for piece in g], dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Return views of all positions of `dim`, without that dimension."""
    if not input._a.ndim:
        raise RuntimeError("Dimension specified as 0 but tensor has no dimensions")
    return _unbind(input, wrap_dim(dim, input._a.ndim))
