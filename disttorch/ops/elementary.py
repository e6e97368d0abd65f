"""Powers, roots, exponentials, logarithms, trigonometric and hyperbolic functions.

Formulas are for z = x + iy where a function takes complex numbers; a gradient then carries the conjugate of the
derivative, as in PyTorch.
"""

from __future__ import annotations

from typing import Any

from disttorch.ops.arithmetic import not_for
from disttorch.ops.define import binary, unary

__all__ = [
    "acos",
    "asin",
    "atan",
    "atan2",
    "cos",
    "cosh",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "log10",
    "pow",
    "rsqrt",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
]  # fmt: skip
METHODS = """
    acos asin atan atan2 cos cosh exp exp2 expm1 log log10 log1p log2 pow rsqrt sin sinh sqrt tan tanh
"""
INPLACE = """
    acos asin atan cos cosh exp exp2 expm1 log log10 log1p log2 pow rsqrt sin sinh sqrt tan tanh
"""

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
