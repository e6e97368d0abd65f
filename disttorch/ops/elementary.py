"""Powers, roots, exponentials, logarithms, trigonometric and hyperbolic functions.

Formulas are for z = x + iy where a function takes complex numbers; a gradient then carries the conjugate of the
derivative, as in PyTorch.
"""

from __future__ import annotations

from math import log as _natural_log
from math import pi
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.core import dtypes
from disttorch.core.promotion import result_dtype
from disttorch.ops.arithmetic import mul, not_for, takes_numbers
from disttorch.ops.define import binary, expect_tensor, unary
from disttorch.ops.write import inplace, with_out

__all__ = [
    "acos", "acosh", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "asin", "asinh", "atan",
    "atan2", "atanh", "cos", "cosh", "deg2rad", "exp", "exp2", "expm1", "float_power", "hypot", "ldexp", "log", "log1p",
    "log2", "log10", "logaddexp", "logaddexp2", "pow", "rad2deg", "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh",
]  # fmt: skip
METHODS = """
    acos acosh arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh cos cosh deg2rad exp
    exp2 expm1 float_power float_power_ hypot ldexp log log10 log1p log2 logaddexp logaddexp2 pow rad2deg rsqrt sin
    sinh sqrt tan tanh
"""
INPLACE = """
    acos acosh arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh cos cosh deg2rad exp
    exp2 expm1 hypot ldexp log log10 log1p log2 pow rad2deg rsqrt sin sinh sqrt tan tanh
"""

_LOG_2, _LOG_10 = _natural_log(2), _natural_log(10)

# -- powers, exponentials and logarithms -----------------------------------------------------------------------


_check_power_operands = takes_numbers("pow", "either")


def _check_power(input: Any, exponent: Any) -> None:
    _check_power_operands(input, exponent)
    if isinstance(exponent, int) and exponent < 0 and input._a.dtype.kind in "biu":
        raise RuntimeError("Integers to negative integer powers are not allowed.")


@binary(check=_check_power)
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


def float_power(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    """Return input to the power `exponent`, computed in float64 or complex128."""
    takes_numbers("float_power", "either")(input, exponent)
    wide = _power_type(input, exponent)
    if out is not None and out.dtype is not wide:
        raise RuntimeError(
            f"the output given to float_power has dtype {out.dtype!r} but the operation's result requires {wide!r}"
        )
    base, power = (v.to(wide) if isinstance(v, Tensor) else v for v in (input, exponent))
    return pow(base, power, out=out)


def float_power_(input: Tensor, exponent: Any) -> Tensor:
    """In-place form of `float_power`, for a tensor of float64 or complex128."""
    wide = _power_type(input, exponent)
    if input.dtype is not wide:
        raise RuntimeError(
            f"the base given to float_power_ has dtype {input.dtype!r} but the operation's result requires {wide!r}"
        )
    return inplace(float_power)(input, exponent)


def _power_type(*operands: Any) -> dtypes.dtype:
    computed = result_dtype([getattr(v, "_a", v) for v in operands])
    return dtypes.complex128 if computed.is_complex else dtypes.float64


@with_out
def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """Return input * 2^other."""
    exponent = expect_tensor(other, "ldexp", "other")
    if expect_tensor(input, "ldexp")._a.dtype.kind not in "biu" and exponent._a.dtype.kind in "iu":
        exponent = exponent.to(input.dtype)
    return mul(input, pow(2.0, exponent))


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
    return xp.exp(x * _LOG_2) if x.dtype.kind == "c" else xp.exp2(x)


@exp2.vjp
def _(F, g, out):
    return g * F.conj(out) * _LOG_2


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
    return g / F.conj(x * _LOG_2)


@unary(float_result=True)
def log10(xp, x):
    """Return the logarithm to base 10."""
    return xp.log10(x)


@log10.vjp
def _(F, g, x):
    return g / F.conj(x * _LOG_10)


@unary(float_result=True)
def log1p(xp, x):
    """Return log(1 + x), exact for small x."""
    return xp.log1p(x)


@log1p.vjp
def _(F, g, x):
    return g / F.conj(x + 1)


@binary(check=takes_numbers("logaddexp"))
def logaddexp(xp, x, y):
    """Return log(e^x + e^y), without overflow."""
    not_for("logaddexp_cpu", x, "biu")
    if x.dtype.kind != "c":
        return _widened(xp.logaddexp, x, y)
    swap = x.real < y.real
    high, low = xp.where(swap, y, x), xp.where(swap, x, y)
    same = (high == low) | ~xp.isfinite(high.real)  # infinities have no difference
    return high + xp.log1p(xp.exp(xp.where(same, 0, low - high)))


@logaddexp.vjp("x")
def _(F, g, x, y):
    return g / F.conj(F.exp(y - x) + 1)


@logaddexp.vjp("y")
def _(F, g, x, y):
    return g / F.conj(F.exp(x - y) + 1)


@binary(check=takes_numbers("logaddexp2"))
def logaddexp2(xp, x, y):
    """Return the logarithm to base 2 of 2^x + 2^y, without overflow."""
    not_for("logaddexp2_cpu", x, "biuc")
    return _widened(xp.logaddexp2, x, y)


@logaddexp2.vjp("x")
def _(F, g, x, y):
    return g / (F.exp2(y - x) + 1)


@logaddexp2.vjp("y")
def _(F, g, x, y):
    return g / (F.exp2(x - y) + 1)


def _widened(function: Any, *arrays: Any) -> Any:
    """Compute 16-bit floats in float32: NumPy's function may not take them."""
    if arrays[0].dtype.itemsize > 2:
        return function(*arrays)
    return function(*[a.astype(np.float32) for a in arrays]).astype(arrays[0].dtype)


@binary(check=takes_numbers("hypot"))
def hypot(xp, x, y):
    """Return sqrt(x^2 + y^2), without overflow on the way."""
    not_for("hypot_cpu", x, "biuc")
    return _widened(xp.hypot, x, y)


@hypot.vjp("x")
def _(F, g, x, out):
    return g * (x / out)


@hypot.vjp("y")
def _(F, g, y, out):
    return g * (y / out)


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


@binary(float_result=True, check=takes_numbers("atan2"))
def atan2(xp, x, y):
    """Return the angle in radians of the point (y, x), in the right quadrant."""
    not_for("atan2_cpu", x, "c")
    return xp.arctan2(x, y)


@atan2.vjp("x")
def _(F, g, x, y):
    return g * (y / (x * x + y * y))


@atan2.vjp("y")
def _(F, g, x, y):
    return g * (-x / (x * x + y * y))


def _check_angle(name: str, x: Any) -> None:
    if x.dtype.kind == "c":
        raise RuntimeError(f"{name} is not supported for complex tensors.")


@unary(float_result=True)
def deg2rad(xp, x):
    """Return an angle given in degrees in radians."""
    _check_angle("deg2rad", x)
    return x * x.dtype.type(pi / 180)


@deg2rad.vjp
def _(F, g):
    return g * (pi / 180)


@unary(float_result=True)
def rad2deg(xp, x):
    """Return an angle given in radians in degrees."""
    _check_angle("rad2deg", x)
    return x * x.dtype.type(180 / pi)


@rad2deg.vjp
def _(F, g):
    return g * (180 / pi)


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


@unary(float_result=True)
def asinh(xp, x):
    """Return the number whose hyperbolic sine is x."""
    return xp.arcsinh(x)


@asinh.vjp
def _(F, g, x):
    return g * F.conj(F.rsqrt(x * x + 1))


@unary(float_result=True)
def acosh(xp, x):
    """Return the number, not negative, whose hyperbolic cosine is x."""
    return xp.arccosh(x)


@acosh.vjp
def _(F, g, x):
    # (x - 1)^(1/2) and (x + 1)^(1/2) apart: together they would leave the principal branch of complex numbers.
    return g * F.conj(F.rsqrt(x - 1) * F.rsqrt(x + 1))


@unary(float_result=True)
def atanh(xp, x):
    """Return the number whose hyperbolic tangent is x."""
    return xp.arctanh(x)


@atanh.vjp
def _(F, g, x):
    return g / F.conj(1 - x * x)


arccos, arcsin, arctan, arctan2 = acos, asin, atan, atan2
arccosh, arcsinh, arctanh = acosh, asinh, atanh
