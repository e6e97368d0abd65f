"""Comparisons, logic and bits, and choosing by a condition."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.ops.arithmetic import not_for, takes_numbers
from disttorch.ops.define import binary, common_namespace, expect_tensor, operator, promote, unary
from disttorch.ops.registry import raw, traced
from disttorch.ops.write import with_out

__all__ = [
    "allclose", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "eq", "equal", "ge", "greater", "greater_equal", "gt", "isclose", "isfinite", "isinf", "isnan", "isneginf", "isposinf",
    "isreal", "le", "less", "less_equal", "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "ne",
    "not_equal", "where",
]  # fmt: skip
METHODS = """
    allclose bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor eq eq_ equal ge ge_
    greater greater_ greater_equal greater_equal_ gt gt_ isclose isfinite isinf isnan isneginf isposinf isreal le le_
    less less_ less_equal less_equal_ logical_and logical_not logical_or logical_xor lt lt_ ne ne_ not_equal not_equal_
"""
INPLACE = """
    bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor logical_and logical_not
    logical_or logical_xor
"""


@binary(check=takes_numbers("eq", "other"))
def eq(xp, x, y):
    """Whether each pair of elements is equal."""
    return xp.equal(x, y)


@binary(check=takes_numbers("ne", "other"))
def ne(xp, x, y):
    """Whether each pair of elements differs."""
    return xp.not_equal(x, y)


@binary(check=takes_numbers("lt", "other"))
def lt(xp, x, y):
    """Whether each element of the first is smaller."""
    not_for("lt_cpu", x, "c")
    return xp.less(x, y)


@binary(check=takes_numbers("le", "other"))
def le(xp, x, y):
    """Whether each element of the first is smaller or equal."""
    not_for("le_cpu", x, "c")
    return xp.less_equal(x, y)


@binary(check=takes_numbers("gt", "other"))
def gt(xp, x, y):
    """Whether each element of the first is larger."""
    not_for("gt_cpu", x, "c")
    return xp.greater(x, y)


@binary(check=takes_numbers("ge", "other"))
def ge(xp, x, y):
    """Whether each element of the first is larger or equal."""
    not_for("ge_cpu", x, "c")
    return xp.greater_equal(x, y)


@binary(check=takes_numbers("logical_and"))
def logical_and(xp, x, y):
    """Whether both elements are nonzero."""
    return xp.logical_and(x, y)


@binary(check=takes_numbers("logical_or"))
def logical_or(xp, x, y):
    """Whether either element is nonzero."""
    return xp.logical_or(x, y)


@binary(check=takes_numbers("logical_xor"))
def logical_xor(xp, x, y):
    """Whether exactly one of the elements is nonzero."""
    return xp.logical_xor(x, y)


@unary()
def logical_not(xp, x):
    """Whether each element is zero."""
    return xp.logical_not(x)


@binary(check=takes_numbers("bitwise_and", "either"))
def bitwise_and(xp, x, y):
    """Return the bitwise and of integers, the logical one of bools."""
    not_for("bitwise_and_cpu", x, "fcV")
    return xp.bitwise_and(x, y)


@binary(check=takes_numbers("bitwise_or", "either"))
def bitwise_or(xp, x, y):
    """Return the bitwise or of integers, the logical one of bools."""
    not_for("bitwise_or_cpu", x, "fcV")
    return xp.bitwise_or(x, y)


@binary(check=takes_numbers("bitwise_xor", "either"))
def bitwise_xor(xp, x, y):
    """Return the bitwise exclusive or of integers, the logical one of bools."""
    not_for("bitwise_xor_cpu", x, "fcV")
    return xp.bitwise_xor(x, y)


@unary()
def bitwise_not(xp, x):
    """Return the bitwise complement of integers, the logical one of bools."""
    not_for("bitwise_not_cpu", x, "fcV")
    return xp.invert(x)


@binary(check=takes_numbers("bitwise_left_shift", "either"))
def bitwise_left_shift(xp, x, y):
    """Return the first of two integers with its bits shifted to the left by the second: x * 2^y."""
    not_for("lshift_cpu", x, "bfcV")
    return xp.left_shift(x, y)


@binary(check=takes_numbers("bitwise_right_shift", "either"))
def bitwise_right_shift(xp, x, y):
    """Return the first of two integers with its bits shifted to the right by the second: floor(x / 2^y)."""
    not_for("rshift_cpu", x, "bfcV")
    return xp.right_shift(x, y)


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


@unary()
def isposinf(xp, x):
    """Whether each element is plus infinity."""
    return _is_infinity(xp, x, "isposinf", inf)


@unary()
def isneginf(xp, x):
    """Whether each element is minus infinity."""
    return _is_infinity(xp, x, "isneginf", -inf)


def _is_infinity(xp: Any, x: Any, name: str, infinity: float) -> Any:
    if x.dtype.kind == "c":
        raise RuntimeError(f"{name} does not support complex inputs.")
    return xp.zeros(x.shape, bool) if x.dtype.kind in "biu" else x == x.dtype.type(infinity)


def isreal(input: Tensor) -> Tensor:
    """Whether the imaginary part of each element is 0."""
    a = expect_tensor(input, "isreal")._a
    xp = backend_of(a).namespace
    return wrap(xp.asarray(a.imag == 0) if a.dtype.kind == "c" else xp.ones(a.shape, bool))


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


@with_out
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
        raise RuntimeError(f"{input.dtype!r} did not match {other.dtype!r}")
    for name, given in (("rtol", rtol), ("atol", atol)):
        if given < 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {given}")
    xp = common_namespace([input._a, other._a])
    return wrap(xp.asarray(xp.isclose(input._a, other._a, rtol, atol, equal_nan)))


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and the same elements."""
    expect_tensor(input, "equal")
    expect_tensor(other, "equal", "other")
    return input._a.shape == other._a.shape and bool((input._a == other._a).all())


def _in_place(function: Any) -> Any:
    """Return the in-place form of a comparison, which no gradient passes."""

    def function_(input: Tensor, other: Any) -> Tensor:
        return input.copy_(function(input, other))

    function_.__name__ = function_.__qualname__ = function.__name__ + "_"
    function_.__doc__ = f"In-place form of `{function.__name__}`."
    return function_


eq_, ge_, gt_, le_, lt_, ne_ = [_in_place(f) for f in (eq, ge, gt, le, lt, ne)]
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
greater_, greater_equal_, less_, less_equal_, not_equal_ = gt_, ge_, lt_, le_, ne_
