"""Comparisons, logic and bits, and choosing by a condition."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.ops.define import binary, common_namespace, expect_tensor, operator, promote, unary
from disttorch.ops.registry import raw, traced

__all__ = [
    "allclose", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "eq", "equal", "ge", "gt", "isclose",
    "isfinite", "isinf", "isnan", "le", "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "ne",
    "where",
]  # fmt: skip
METHODS = """
    allclose bitwise_and bitwise_not bitwise_or bitwise_xor eq equal ge gt isclose isfinite isinf isnan le
    logical_and logical_not logical_or logical_xor lt ne
"""
INPLACE = """
    bitwise_not logical_not
"""


@binary()
def eq(xp, x, y):
    """Whether each pair of elements is equal."""
    return xp.equal(x, y)


@binary()
def ne(xp, x, y):
    """Whether each pair of elements differs."""
    return xp.not_equal(x, y)


@binary()
def lt(xp, x, y):
    """Whether each element of the first is smaller."""
    return xp.less(x, y)


@binary()
def le(xp, x, y):
    """Whether each element of the first is smaller or equal."""
    return xp.less_equal(x, y)


@binary()
def gt(xp, x, y):
    """Whether each element of the first is larger."""
    return xp.greater(x, y)


@binary()
def ge(xp, x, y):
    """Whether each element of the first is larger or equal."""
    return xp.greater_equal(x, y)


@binary()
def logical_and(xp, x, y):
    """Whether both elements are nonzero."""
    return xp.logical_and(x, y)


@binary()
def logical_or(xp, x, y):
    """Whether either element is nonzero."""
    return xp.logical_or(x, y)


@binary()
def logical_xor(xp, x, y):
    """Whether exactly one of the elements is nonzero."""
    return xp.logical_xor(x, y)


@unary()
def logical_not(xp, x):
    """Whether each element is zero."""
    return xp.logical_not(x)


@binary()
def bitwise_and(xp, x, y):
    """Return the bitwise and of integers, the logical one of bools."""
    return xp.bitwise_and(x, y)


@binary()
def bitwise_or(xp, x, y):
    """Return the bitwise or of integers, the logical one of bools."""
    return xp.bitwise_or(x, y)


@binary()
def bitwise_xor(xp, x, y):
    """Return the bitwise exclusive or of integers, the logical one of bools."""
    return xp.bitwise_xor(x, y)


@unary()
def bitwise_not(xp, x):
    """Return the bitwise complement of integers, the logical one of bools."""
    return xp.invert(x)


@unary()
def isnan(xp, x):
    """Whether each element is NaN."""
    return xp.zeros(x.shape, bool) if x.dtype.kind in "biu" else xp.isnan(x)


@unary()
def isinf(xp, x):
    """Whether each element is infinite."""
    return xp.zeros(x.shape, bool) if x.dtype.kind in "biu" else xp.isinf(x)


@unary()
def isfinite(xp, x):
    """Whether each element is neither NaN nor infinite."""
    return xp.ones(x.shape, bool) if x.dtype.kind in "biu" else xp.isfinite(x)


@operator(3, name="select_by", grad_name="WhereBackward0")
def _where(xp, condition, x, y):
    return xp.where(condition, x, y)


raw.where = raw.select_by


@_where.vjp("x")
def _(F, g, condition):
    return F.where(condition, g, 0.0)


@_where.vjp("y")
def _(F, g, condition):
    return F.where(condition, 0.0, g)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """Return `input` where the condition holds and `other` elsewhere (tensors or numbers, promoted).

    With the condition alone, return its nonzero positions as a tuple of index tensors.
    """
    condition = expect_tensor(condition, "where", "condition")
    if input is None and other is None:
        return traced.nonzero_tuple(condition)
    if condition._a.dtype != bool:
        if condition._a.dtype != np.uint8:
            raise RuntimeError(
                f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype!r}"
            )
        condition = ne(condition, 0)
    _, a, b = promote("where", input, other, False)
    common_namespace([condition._a, a, b])
    return _where(condition, *(_as_operand(given, array) for given, array in ((input, a), (other, b))))


traced.where = where


def _as_operand(given: Any, array: Any) -> Tensor:
    """Return the promoted operand, still in the graph if it was."""
    if not isinstance(given, Tensor):
        return wrap(array)
    return given if given._a is array else traced.cast(given, array.dtype)


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether |input - other| <= atol + rtol * |other| everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._a.all())


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """Whether |input - other| <= atol + rtol * |other|, element by element."""
    if input._a.dtype != other._a.dtype:
        raise RuntimeError(f"{_type(input)} did not match {_type(other)}")
    return wrap(np.isclose(input._a, other._a, rtol, atol, equal_nan))


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype)


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and the same elements."""
    expect_tensor(input, "equal")
    expect_tensor(other, "equal", "other")
    return input._a.shape == other._a.shape and bool((input._a == other._a).all())
