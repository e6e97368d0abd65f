"""Slices as views, and writing through a view: the operators that in-place changes of views are made of."""

from __future__ import annotations

from typing import Any

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.ops.define import operator, view_operator
from disttorch.ops.registry import both, raw, traced

__all__: list[str] = []

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
    hole = F.follow(g, chain)
    return F.view_scatter(g, F.zeros_from(hole, hole.shape), chain)


@view_scatter.vjp("value")
def _(F, g, chain):
    return F.follow(g, chain)


@view_operator(name="slice")
def slice(xp, x, index):
    """Return the view x[index] for an index of slices, ints, None and one `...` (without which NumPy may copy)."""
    return x[index]


@slice.vjp
def _(F, g, x_shape, index):
    return F.view_scatter(F.zeros_from(g, x_shape), g, ((traced.slice.op, 0, (index,)),))
