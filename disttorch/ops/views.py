"""Pieces as views: slices and what is made of them; and writing through a view, of which in-place changes consist."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import index as as_int
from typing import Any

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.ops.define import operator, view_operator
from disttorch.ops.registry import both, raw, traced
from disttorch.ops.shape import cut, sizes_of, whole, wrap_dim

__all__ = [
    "chunk", "narrow", "select", "split", "split_with_sizes", "unbind",
]  # fmt: skip
METHODS = """
    chunk narrow select split split_with_sizes unbind
"""

Chain = tuple[tuple[Any, int, tuple[Any, ...]], ...]


def _zeros_array(like: Any, shape: Any) -> Any:
    return backend_of(like).namespace.zeros(tuple(shape), like.dtype)


both("zeros_from", _zeros_array, lambda like, shape: wrap(_zeros_array(like._a, shape)))


def _constant_array(like: Any, value: Any) -> Any:
    return backend_of(like).namespace.asarray(value)


both("constant", _constant_array, lambda like, value: wrap(_constant_array(like._a, value)))


def _follow_arrays(array: Any, chain: Chain) -> Any:
    for op, output, attrs in chain:
        found = getattr(raw, op.name)(array, *attrs)
        array = found[output] if isinstance(found, tuple) else found
    return array


def _follow_tensors(tensor: Tensor, chain: Chain) -> Tensor:
    for op, output, attrs in chain:
        tensor = op.replay(tensor, output, attrs)
    return tensor


both("follow", _follow_arrays, _follow_tensors)


@operator(2, name="view_scatter", grad_name="CopySlices")
def view_scatter(xp, base, value, chain):
    """Return a copy of `base` in which the view at the end of `chain` holds `value` (broadcast to it)."""
    result = base.copy(order="K")
    _follow_arrays(result, chain)[...] = value
    return result


@view_scatter.vjp("base")
def _(F, g, chain):
    g = _in_rows(F, g, chain)
    hole = F.follow(g, chain)
    return F.view_scatter(g, F.zeros_from(hole, hole.shape), chain)


@view_scatter.vjp("value")
def _(F, g, chain):
    return F.follow(_in_rows(F, g, chain), chain)


def _in_rows(F: Any, g: Any, chain: Chain) -> Any:
    """Return a gradient in row-major order if a view of the chain depends on how the elements lie in memory."""
    return F.clone(g, True) if any([op.name == "as_strided" for op, _, _ in chain]) else g


@view_operator(name="slice")
def slice(xp, x, index):
    """Return the view x[index] for an index of slices, ints, None and one `...` (without which NumPy may copy)."""
    return x[index]


@slice.vjp
def _(F, g, x_shape, index):
    return F.view_scatter(F.zeros_from(g, x_shape), g, ((traced.slice.op, 0, (index,)),))


# -- pieces -------------------------------------------------------------------------------------------------------


def narrow(input: Tensor, dim: int, start: int | Tensor, length: int) -> Tensor:
    """Return a view of `length` positions of `dim` from `start` on."""
    shape = input._a.shape
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    if isinstance(start, Tensor) and (start._a.ndim or start._a.dtype.kind not in "iu"):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    d, start = wrap_dim(dim, len(shape)), as_int(start)
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    begin = start + shape[d] if start < 0 else start
    if not 0 <= begin <= shape[d]:
        raise IndexError(f"start out of range (expected to be in range of [{-shape[d]}, {shape[d]}], but got {start})")
    if begin + length > shape[d]:
        raise RuntimeError(f"start ({begin}) + length ({length}) exceeds dimension size ({shape[d]}).")
    return traced.slice(input, cut(d, begin, begin + length))


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """Return a view of one position of `dim`, without that dimension."""
    shape = input._a.shape
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d, position = wrap_dim(dim, len(shape)), as_int(index)
    if not -shape[d] <= position < shape[d]:
        raise IndexError(f"select(): index {position} out of range for tensor of size {list(shape)} at dimension {d}")
    return traced.slice(input, whole(d) + (position % shape[d], Ellipsis))


def listed(g: Any) -> list[Any]:
    """Return the gradients of a node of several results as a list, also if there is only one."""
    return g if isinstance(g, list) else [g]


@view_operator(name="split_with_sizes", grad_name="SplitBackward0")
def _split(xp, x, sizes, dim):
    return tuple(x[cut(dim, end - n, end)] for n, end in zip(sizes, accumulate(sizes)))


@_split.vjp
def _(F, g, x_shape, sizes, dim):
    pieces = listed(g)
    some = next(piece for piece in pieces if piece is not None)
    shapes = [(*x_shape[:dim], n, *x_shape[dim + 1 :]) for n in sizes]
    return F.cat(
        [F.zeros_from(some, shape) if piece is None else piece for piece, shape in zip(pieces, shapes)], dim, sizes
    )


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
        return split_with_sizes(input, split_size_or_sections, dim)
    return _split(input, tuple(sizes), d)


def split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Return views of pieces along `dim` of the given sizes."""
    d, sizes = wrap_dim(dim, input._a.ndim), sizes_of((split_sizes,))
    if not input._a.ndim:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    n = input._a.shape[d]
    if any(s < 0 for s in sizes):
        raise RuntimeError(
            f"split_with_sizes expects split_sizes have only non-negative entries, but got split_sizes={list(sizes)}"
        )
    if sum(sizes) != n:
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {dim}), but got "
            f"split_sizes={list(sizes)}"
        )
    return _split(input, sizes, d)


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
    pieces = listed(g)
    some = next(piece for piece in pieces if piece is not None)
    return F.stack([F.zeros_from(some, some.shape) if piece is None else piece for piece in pieces], dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Return views of all positions of `dim`, without that dimension."""
    if not input._a.ndim:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    return _unbind(input, wrap_dim(dim, input._a.ndim))
