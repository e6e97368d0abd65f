"""Pointwise arithmetic, roots and powers, exponentials, trigonometry, rounding and sign.

Formulas are for z = x + iy where a function takes complex numbers; a gradient then carries the conjugate of the
derivative, as in PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.core.dtypes import from_numpy_dtype
from disttorch.core.promotion import result_dtype
from disttorch.ops.define import binary, for_both, unary
from disttorch.ops.registry import both, traced

# -- arithmetic ---------------------------------------------------------------------------------------------------


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


@binary()
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


@binary()
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
    not_for(name, x, "b")
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
    return xp.conjugate(x)


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


# -- powers, exponentials and logarithms -----------------------------------------------------------------------


@binary()
def pow(xp, x, y):
    """Return x to the power y. Integers stay integers and take no negative number as the exponent."""
    if x.dtype == bool and not y.ndim:
        return x.copy() if y else xp.ones_like(x)
    not_for("pow", x, "b")
    if x.dtype.kind == "i" and (y < 0).any():
        return _power_of_integers(xp, x, y)
    return xp.power(x, y)


def _power_of_integers(xp: Any, x: Any, y: Any) -> Any:
    """Return x to the power y rounded towards zero, for exponents of which some are negative."""
    if not y.ndim:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    power = xp.power(x, xp.where(y < 0, y & 1, y))
    return xp.where((y < 0) & (x != 1) & (x != -1), 0, power).astype(x.dtype)


@pow.vjp("x")
def _(F, g, x, y):
    if isinstance(y, (int, float)):
        return g * F.conj(F.pow(x, y - 1) * y) if y else g * 0
    return g * F.conj(F.where(y == 0, 0.0, F.pow(x, y - 1) * y))


@pow.vjp("y")
def _(F, g, x, y, out):
    log = F.log(x if hasattr(x, "dtype") else out * 0 + x)
    return g * F.conj(F.where((out == 0) & (y == y), 0.0, out * log))


@unary(float_result=True)
def sqrt(xp, x):
    """Return the square root."""
    return xp.sqrt(x)


@sqrt.vjp
def _(F, g, out):
    return g / F.conj(out * 2)


@unary(float_result=True)
def rsqrt(xp, x):
    """Return 1 / sqrt(x)."""
    return xp.reciprocal(xp.sqrt(x))


@rsqrt.vjp
def _(F, g, out):
    return g * F.conj(out * out * out) * -0.5


@unary(float_result=True)
def exp(xp, x, out=None):
    """Return e to the power of each element."""
    return xp.exp(x, out)


@exp.vjp
def _(F, g, out):
    return g * F.conj(out)


@unary(float_result=True)
def exp2(xp, x):
    """Return 2 to the power of each element."""
    return xp.exp2(x)


@exp2.vjp
def _(F, g, out):
    return g * F.conj(out) * 0.6931471805599453


@unary(float_result=True)
def expm1(xp, x):
    """Return e^x - 1, exact for small x."""
    return xp.expm1(x)


@expm1.vjp
def _(F, g, out):
    return g * F.conj(out + 1)


@unary(float_result=True)
def log(xp, x, out=None):
    """Return the natural logarithm."""
    return xp.log(x, out)


@log.vjp
def _(F, g, x):
    return g / F.conj(x)


@unary(float_result=True)
def log2(xp, x):
    """Return the logarithm to base 2."""
    return xp.log2(x)


@log2.vjp
def _(F, g, x):
    return g / F.conj(x * 0.6931471805599453)


@unary(float_result=True)
def log10(xp, x):
    """Return the logarithm to base 10."""
    return xp.log10(x)


@log10.vjp
def _(F, g, x):
    return g / F.conj(x * 2.302585092994046)


@unary(float_result=True)
def log1p(xp, x):
    """Return log(1 + x), exact for small x."""
    return xp.log1p(x)


@log1p.vjp
def _(F, g, x):
    return g / F.conj(x + 1)


# -- trigonometry -------------------------------------------------------------------------------------------------


@unary(float_result=True)
def sin(xp, x):
    """Return the sine of an angle in radians."""
    return xp.sin(x)


@sin.vjp
def _(F, g, x):
    return g * F.conj(F.cos(x))


@unary(float_result=True)
def cos(xp, x):
    """Return the cosine of an angle in radians."""
    return xp.cos(x)


@cos.vjp
def _(F, g, x):
    return -g * F.conj(F.sin(x))


@unary(float_result=True)
def tan(xp, x):
    """Return the tangent of an angle in radians."""
    return xp.tan(x)


@tan.vjp
def _(F, g, out):
    return g * F.conj(out * out + 1)


@unary(float_result=True)
def asin(xp, x):
    """Return the angle in radians whose sine is x."""
    return xp.arcsin(x)


@asin.vjp
def _(F, g, x):
    return g * F.conj(F.rsqrt(1 - x * x))


@unary(float_result=True)
def acos(xp, x):
    """Return the angle in radians whose cosine is x."""
    return xp.arccos(x)


@acos.vjp
def _(F, g, x):
    return -g * F.conj(F.rsqrt(1 - x * x))


@unary(float_result=True)
def atan(xp, x):
    """Return the angle in radians whose tangent is x."""
    return xp.arctan(x)


@atan.vjp
def _(F, g, x):
    return g / F.conj(x * x + 1)


@binary(float_result=True)
def atan2(xp, x, y):
    """Return the angle in radians of the point (y, x), in the right quadrant."""
    return xp.arctan2(x, y)


@atan2.vjp("x")
def _(F, g, x, y):
    return g * (y / (x * x + y * y))


@atan2.vjp("y")
def _(F, g, x, y):
    return g * (-x / (x * x + y * y))


@unary(float_result=True)
def sinh(xp, x):
    """Return the hyperbolic sine."""
    return xp.sinh(x)


@sinh.vjp
def _(F, g, x):
    return g * F.conj(F.cosh(x))


@unary(float_result=True)
def cosh(xp, x):
    """Return the hyperbolic cosine."""
    return xp.cosh(x)


@cosh.vjp
def _(F, g, x):
    return g * F.conj(F.sinh(x))


@unary(float_result=True)
def tanh(xp, x, out=None):
    """Return the hyperbolic tangent."""
    return xp.tanh(x, out)


@tanh.vjp
def _(F, g, out):
    return g * F.conj(1 - out * out)


# -- rounding and sign --------------------------------------------------------------------------------------------


@unary()
def abs(xp, x):
    """Return the absolute value; the modulus of a complex number."""
    return xp.absolute(x)


@abs.vjp
def _(F, g, x):
    return g * F.sgn(x)


@unary()
def sgn(xp, x):
    """Return the sign of a real number and z / |z| of a complex one, 0 for 0."""
    if x.dtype.kind != "c":
        return x.copy() if x.dtype == bool else xp.sign(x)
    size = xp.absolute(x)
    return xp.where(size == 0, 0, x / xp.where(size == 0, 1, size)).astype(x.dtype)


@sgn.vjp
def _(F, g, x):
    if F.is_complex(x):
        size = F.abs(x)
        return F.where(size == 0, 0.0, (g - F.sgn(x) * F.real(F.conj(F.sgn(x)) * g)) / size)
    return g * 0


@unary()
def sign(xp, x):
    """Return -1, 0 or 1."""
    if x.dtype.kind == "c":
        raise RuntimeError(
            "Unlike NumPy, torch.sign is not intended to support complex numbers. Please use torch.sgn instead."
        )
    return x.copy() if x.dtype == bool else xp.sign(x)


@unary()
def floor(xp, x):
    """Return the largest integer that is not larger."""
    return x.copy() if x.dtype.kind in "biu" else xp.floor(x)


@unary()
def ceil(xp, x):
    """Return the smallest integer that is not smaller."""
    return x.copy() if x.dtype.kind in "biu" else xp.ceil(x)


@unary()
def trunc(xp, x):
    """Return the integer part."""
    return x.copy() if x.dtype.kind in "biu" else xp.trunc(x)


@unary(name="round", grad_name="RoundBackward0")
def _round(xp, x):
    return x.copy() if x.dtype.kind in "biu" else xp.rint(x)


for _flat in (sign, floor, ceil, trunc, _round):
    _flat.vjp(lambda F, g: g * 0)


def round(input: Tensor, *, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """Return the nearest integer, halves to even; with `decimals`, the nearest multiple of 10^-decimals."""
    if decimals == 0:
        return _round(input, out=out)
    if input._a.dtype.itemsize == 2:  # the scaled number needs more digits than the type has
        return traced.cast(round(traced.cast(input, np.dtype(np.float32)), decimals=decimals), input._a.dtype)
    scale = 10.0**decimals
    return true_divide(_round(mul(input, scale)), scale, out=out)


@unary()
def frac(xp, x):
    """Return the fractional part, with the sign of the number."""
    return x - xp.trunc(x)


@frac.vjp
def _(F, g):
    return g


# -- larger and smaller -------------------------------------------------------------------------------------------


@binary()
def maximum(xp, x, y):
    """Return the larger of each pair of elements; NaN if either is."""
    return xp.maximum(x, y)


@binary()
def minimum(xp, x, y):
    """Return the smaller of each pair of elements; NaN if either is."""
    return xp.minimum(x, y)


@maximum.vjp("x")
def _(F, g, x, y):
    return F.where(x == y, g / 2, F.where(x > y, g, 0.0))


@maximum.vjp("y")
def _(F, g, x, y):
    return F.where(x == y, g / 2, F.where(y > x, g, 0.0))


@minimum.vjp("x")
def _(F, g, x, y):
    return F.where(x == y, g / 2, F.where(x < y, g, 0.0))


@minimum.vjp("y")
def _(F, g, x, y):
    return F.where(x == y, g / 2, F.where(y < x, g, 0.0))


@binary(name="clamp_min")
def clamp_min(xp, x, y):
    """Return x, raised to `min` where it is smaller."""
    return xp.maximum(x, y)


@clamp_min.vjp("x")
def _(F, g, x, y):
    return F.where(x >= y, g, 0.0)


@clamp_min.vjp("y")
def _(F, g, x, y):
    return F.where(x < y, g, 0.0)


@binary(name="clamp_max")
def clamp_max(xp, x, y):
    """Return x, lowered to `max` where it is larger."""
    return xp.minimum(x, y)


@clamp_max.vjp("x")
def _(F, g, x, y):
    return F.where(x <= y, g, 0.0)


@clamp_max.vjp("y")
def _(F, g, x, y):
    return F.where(x > y, g, 0.0)


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Return the input limited to [min, max]; either bound (a number or a tensor) may be left out."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    raised = input if min is None else clamp_min(input, min)
    return raised if max is None else clamp_max(raised, max)


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """Return input + weight * (end - input); `weight` is a number or a tensor."""
    return traced.add(input, mul(traced.sub(end, input), weight))
