"""Pointwise arithmetic: sums, products, quotients, remainders.

Formulas are for z = x + iy where a function takes complex numbers; a gradient then carries the conjugate of the
derivative, as in PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.core.dtypes import from_numpy_dtype
from disttorch.core.promotion import result_dtype
from disttorch.ops.define import binary, expect_tensor, for_both, unary
from disttorch.ops.registry import both, traced
from disttorch.ops.write import with_out

__all__ = [
    "add", "addcdiv", "addcmul", "conj", "conj_physical", "div", "divide", "floor_divide", "fmod", "gcd", "is_complex",
    "lcm", "lerp", "mul", "multiply", "neg", "negative", "positive", "reciprocal", "remainder", "rsub", "square", "sub",
    "subtract", "true_divide",
]  # fmt: skip
METHODS = """
    add addcdiv addcmul conj conj_physical div divide floor_divide fmod gcd lcm lerp mul multiply neg negative positive
    reciprocal remainder square sub subtract true_divide
"""
INPLACE = """
    add addcdiv addcmul conj_physical div divide floor_divide fmod gcd lcm lerp mul multiply neg negative reciprocal
    remainder square sub subtract true_divide
"""


def takes_numbers(label: str, where: str = "") -> Any:
    """Return a `check` for `binary` that raises TypeError for a number where PyTorch takes only tensors.

    `where` says which operand may be a number: none (""), "other", or "either".
    """

    def check(input: Any, other: Any) -> None:
        first, second = isinstance(input, Tensor), isinstance(other, Tensor)
        if not (first or (where == "either" and second)) or not (second or where):
            number, argument = (input, "input") if not first else (other, "other")
            raise TypeError(f"{label}(): argument '{argument}' must be Tensor, not {type(number).__name__}")

    return check


@binary(name="add", ufunc=np.add)
def _add(xp, x, y, out=None):
    return xp.add(x, y, out)


@_add.vjp("x")
def _(F, g):
    return g


@_add.vjp("y")
def _(F, g):
    return g


def _refuse_bool(*operands: Any) -> None:
    if any([isinstance(x, Tensor) and x._a.dtype == np.dtype(bool) for x in operands]):
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, use the "
            "`~` or `logical_not()` operator instead."
        )


@binary(name="sub", check=_refuse_bool)
def _sub(xp, x, y, out=None):
    try:
        return xp.subtract(x, y, out)
    except TypeError:
        raise RuntimeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` operator "
            "instead."
        ) from None


@_sub.vjp("x")
def _(F, g):
    return g


@_sub.vjp("y")
def _(F, g):
    return -g


def scaled(input: Any, other: Any, alpha: Any) -> Any:
    """Return alpha * other in the type of input + other; RuntimeError for an alpha that this type cannot hold."""
    if alpha == 1 and alpha is not True:
        return other
    d = result_dtype([v._a if isinstance(v, Tensor) else v for v in (input, other)])
    if isinstance(alpha, bool) and d.kind != "bool":
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if isinstance(alpha, float) and d.kind in ("bool", "integer"):
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if isinstance(alpha, complex) and d.kind != "complex":
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")
    if isinstance(other, Tensor):
        return (other.to(d) * alpha).to(d)
    return bool(other * alpha) if d.kind == "bool" else other * alpha


def add(input: Tensor, other: Any, *, alpha: complex = 1, out: Tensor | None = None) -> Tensor:
    """Return input + alpha * other."""
    return traced.add(input, scaled(input, other, alpha), out=out)


def sub(input: Tensor, other: Any, *, alpha: complex = 1, out: Tensor | None = None) -> Tensor:
    """Return input - alpha * other."""
    return traced.sub(input, scaled(input, other, alpha), out=out)


def rsub(input: Tensor, other: Any, *, alpha: complex = 1) -> Tensor:
    """Return other - alpha * input."""
    expect_tensor(input, "rsub")
    return traced.sub(other, scaled(other, input, alpha))


@binary(ufunc=np.multiply)
def mul(xp, x, y, out=None):
    """Return the product of each pair of elements."""
    return xp.multiply(x, y, out)


@mul.vjp("x")
def _(F, g, y):
    return g * F.conj(y)


@mul.vjp("y")
def _(F, g, x):
    return g * F.conj(x)


@binary(float_result=True, name="true_divide", grad_name="DivBackward0", ufunc=np.true_divide)
def true_divide(xp, x, y, out=None):
    """Return the quotient of each pair of elements, a floating-point number."""
    return xp.true_divide(x, y, out)


@true_divide.vjp("x")
def _(F, g, y):
    return g / F.conj(y)


@true_divide.vjp("y")
def _(F, g, x, y):
    return -g * F.conj(x / (y * y))


@binary()
def floor_divide(xp, x, y):
    """Return the quotient rounded towards minus infinity."""
    _check_divisor("div_floor_cpu", x, y)
    return xp.floor_divide(x, y)


@binary(check=takes_numbers("remainder", "either"))
def remainder(xp, x, y):
    """Return the remainder with the sign of the divisor: x - y * floor(x / y)."""
    _check_divisor("remainder_cpu", x, y)
    return xp.remainder(x, y)


@remainder.vjp("x")
def _(F, g):
    return g


@remainder.vjp("y")
def _(F, g, x, y):
    return -g * F.floor(x / y)


@binary(check=takes_numbers("fmod", "other"))
def fmod(xp, x, y):
    """Return the remainder with the sign of the dividend: x - y * trunc(x / y)."""
    _check_divisor("fmod_cpu", x, y)
    return xp.fmod(x, y)


@fmod.vjp("x")
def _(F, g):
    return g


@fmod.vjp("y")
def _(F, g, x, y):
    return -g * F.trunc(x / y)


def _check_divisor(name: str, x: Any, y: Any) -> None:
    not_for(name, x, "bc")
    if isinstance(y, (int, float, complex)):  # the fast path leaves a number to floating operands as it is
        return
    if y.dtype.kind in "iu" and x.size and (y == 0).any():
        raise RuntimeError("ZeroDivisionError")


def not_for(name: str, x: Any, kinds: str) -> None:
    """Raise NotImplementedError, as PyTorch's kernel `name` does, for an array of one of the NumPy kinds."""
    if x.dtype.kind in kinds:
        shown = from_numpy_dtype(x.dtype)
        raise NotImplementedError(f'"{name}" not implemented for {shown!r}: convert the tensor to a type that is')


def div(input: Any, other: Any, *, rounding_mode: str | None = None, out: Tensor | None = None) -> Tensor:
    """Return input / other; `rounding_mode` "floor" or "trunc" rounds the quotient and keeps integers integers."""
    if rounding_mode is None:
        return true_divide(input, other, out=out)
    if rounding_mode == "floor":
        return floor_divide(input, other, out=out)
    if rounding_mode == "trunc":
        return trunc_divide(input, other, out=out)
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'")


@binary(grad_name="DivBackward1")
def trunc_divide(xp, x, y):
    """Return the quotient rounded towards zero."""
    _check_divisor("div_trunc_cpu", x, y)
    if x.dtype.kind in "iu":
        quotient, rest = xp.divmod(x, y)
        return quotient + ((rest != 0) & ((x < 0) != (y < 0))).astype(quotient.dtype)
    return xp.trunc(xp.true_divide(x, y))


for _flat in (floor_divide, trunc_divide):
    _flat.vjp("x")(lambda F, g: g * 0)
    _flat.vjp("y")(lambda F, g: g * 0)


@unary()
def neg(xp, x):
    """Return -x."""
    if x.dtype == bool:
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use the `~` "
            "or `logical_not()` operator instead."
        )
    return xp.negative(x)


@neg.vjp
def _(F, g):
    return -g


@unary(float_result=True)
def reciprocal(xp, x):
    """Return 1 / x."""
    return xp.reciprocal(x)


@reciprocal.vjp
def _(F, g, out):
    return -g * F.conj(out * out)


@unary()
def square(xp, x):
    """Return x * x."""
    return xp.multiply(x, x) if x.dtype != bool else x.astype(np.int64)


@square.vjp
def _(F, g, x):
    return g * F.conj(x * 2)


@unary(name="conj_physical", grad_name="ConjBackward0")
def conj_physical(xp, x):
    """Return the complex conjugate, computed."""
    return xp.conjugate(x) if x.dtype.kind == "c" else x.copy()


@conj_physical.vjp
def _(F, g):
    return F.conj(g)


def conj(input: Any) -> Any:
    """Return the complex conjugate; what is real is its own."""
    if isinstance(input, (int, float, complex)):
        return input.conjugate()
    return conj_physical(input) if input._a.dtype.kind == "c" else input


def _conj_array(a: Any) -> Any:
    try:
        return a.conjugate() if a.dtype.kind == "c" else a
    except AttributeError:  # a Python number
        return a.conjugate()


both("conj", _conj_array, conj)


@for_both("is_complex")
def is_complex(F, input: Any) -> bool:
    """Whether the elements are complex numbers."""
    return getattr(input, "_a", input).dtype.kind == "c"


@with_out
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """Return input + weight * (end - input); `weight` is a number or a tensor."""
    for other, argument in ((end, "end"), (weight, "weight")):
        if isinstance(other, Tensor) and other._a.dtype != input._a.dtype:
            raise RuntimeError(f"expected dtype {input.dtype!r} for `{argument}` but got dtype {other.dtype!r}")
    return traced.add(input, mul(traced.sub(end, input), weight))


@with_out
def addcmul(input: Tensor, tensor1: Any, tensor2: Any, *, value: complex = 1) -> Tensor:
    """Return input + value * tensor1 * tensor2."""
    return traced.add(input, _times(mul(tensor1, tensor2), value, input))


@with_out
def addcdiv(input: Tensor, tensor1: Any, tensor2: Any, *, value: complex = 1) -> Tensor:
    """Return input + value * tensor1 / tensor2, for floating-point or complex numbers."""
    if all([x._a.dtype.kind in "biu" for x in (tensor1, tensor2)]):
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported: use input + value * torch.trunc(tensor1 / tensor2) for "
            "the quotient rounded towards zero, or convert the tensors to a floating type"
        )
    return traced.add(input, _times(true_divide(tensor1, tensor2), value, input))


def _times(product: Tensor, value: complex, input: Tensor) -> Tensor:
    """Return value * product; where all are integers, the value is cut to one."""
    if value == 1:
        return product
    whole = all([x._a.dtype.kind in "biu" for x in (input, product)])
    return mul(product, int(value) if whole and isinstance(value, float) else value)


@binary(check=takes_numbers("gcd"))
def gcd(xp, x, y):
    """Return the greatest common divisor of each pair of integers."""
    not_for("gcd_cpu", x, "bfcV")
    return xp.gcd(x, y)


@binary(check=takes_numbers("lcm"))
def lcm(xp, x, y):
    """Return the least common multiple of each pair of integers."""
    not_for("lcm_cpu", x, "bfcV")
    return xp.lcm(x, y)


def positive(input: Tensor) -> Tensor:
    """Return the tensor itself, which must not hold bools."""
    if expect_tensor(input, "positive")._a.dtype == np.dtype(bool):
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


divide, multiply, negative, subtract = div, mul, neg, sub
