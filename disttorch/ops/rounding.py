"""Rounding, sign, mantissa and exponent, and the larger or smaller of numbers."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.core.dtypes import finfo, from_numpy_dtype
from disttorch.ops.arithmetic import mul, not_for, takes_numbers, true_divide
from disttorch.ops.define import binary, operator, unary
from disttorch.ops.registry import traced
from disttorch.ops.write import with_out

__all__ = [
    "abs", "absolute", "ceil", "clamp", "clamp_max", "clamp_min", "clip", "copysign", "fix", "floor", "fmax", "fmin", "frac",
    "frexp", "heaviside", "maximum", "minimum", "nan_to_num", "nextafter", "round", "sgn", "sign", "signbit", "trunc",
]  # fmt: skip
METHODS = """
    abs absolute ceil clamp clamp_max clamp_min clip copysign fix floor fmax fmin frac frexp heaviside maximum minimum
    nan_to_num nextafter round sgn sign signbit trunc
"""
INPLACE = """
    abs absolute ceil clamp clamp_max clamp_min clip copysign fix floor frac heaviside nan_to_num nextafter round sgn
    sign trunc
"""

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
        raise NotImplementedError(
            "Unlike NumPy, torch.sign is not intended to support complex numbers. Please use torch.sgn instead."
        )
    return x.copy() if x.dtype == bool else xp.sign(x)


@unary()
def floor(xp, x):
    """Return the largest integer that is not larger."""
    not_for("floor_cpu", x, "bc")
    return x.copy() if x.dtype.kind in "biu" else xp.floor(x)


@unary()
def ceil(xp, x):
    """Return the smallest integer that is not smaller."""
    not_for("ceil_cpu", x, "bc")
    return x.copy() if x.dtype.kind in "biu" else xp.ceil(x)


@unary()
def trunc(xp, x):
    """Return the integer part."""
    not_for("trunc_cpu", x, "bc")
    return x.copy() if x.dtype.kind in "biu" else xp.trunc(x)


@unary(name="round", grad_name="RoundBackward0")
def _round(xp, x):
    not_for("round_cpu", x, "bc")
    return x.copy() if x.dtype.kind in "biu" else xp.rint(x)


for _flat in (sign, floor, ceil, trunc, _round):
    _flat.vjp(lambda F, g: g * 0)


@with_out
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Return the nearest integer, halves to even; with `decimals`, the nearest multiple of 10^-decimals."""
    if decimals == 0:
        return _round(input)
    if input._a.dtype.itemsize == 2:  # the scaled number needs more digits than the type has
        return traced.cast(round(traced.cast(input, np.dtype(np.float32)), decimals=decimals), input._a.dtype)
    scale = 10.0**decimals
    return true_divide(_round(mul(input, scale)), scale)


@unary()
def frac(xp, x):
    """Return the fractional part, with the sign of the number."""
    not_for("frac_cpu", x, "biuc")
    return x - xp.trunc(x)


@frac.vjp
def _(F, g):
    return g


@unary()
def signbit(xp, x):
    """Whether the sign bit is set, as for negative numbers and -0.0."""
    not_for("signbit_cpu", x, "c")
    return x < 0 if x.dtype.kind in "iu" else xp.zeros(x.shape, bool) if x.dtype == bool else xp.signbit(x)


@binary(float_result=True, check=takes_numbers("copysign", "other"))
def copysign(xp, x, y):
    """Return the size of the first with the sign of the second."""
    not_for("copysign_cpu", x, "c")
    return xp.copysign(x, y)


@copysign.vjp("x")
def _(F, g, x, out):
    return g * (out / F.where(x == 0, 1.0, x))


@copysign.vjp("y")
def _(F, g):
    return g * 0


_check_heaviside_operands = takes_numbers("heaviside")


def _check_same_type(input: Any, values: Any) -> None:
    _check_heaviside_operands(input, values)
    if input._a.dtype != values._a.dtype:
        raise RuntimeError(
            f"heaviside is not yet implemented for tensors with different dtypes, {input.dtype!r} and {values.dtype!r}."
        )


@binary(check=_check_same_type)
def heaviside(xp, x, y):
    """Return 0 where the first is negative, 1 where it is positive, and the second where it is 0."""
    if x.dtype.kind == "c":
        raise RuntimeError("heaviside is not yet implemented for complex tensors.")
    return xp.where(x == 0, y, (x > 0).astype(x.dtype))


@heaviside.vjp
def _(F, g):
    raise RuntimeError("derivative for aten::heaviside is not implemented")


@binary(check=takes_numbers("nextafter"))
def nextafter(xp, x, y):
    """Return the next number that the type has, from the first towards the second."""
    not_for("nextafter_cpu", x, "biuc")
    return xp.nextafter(x, y)


@nextafter.vjp("x")
def _(F, g, x, y):
    return F.where(x == y, 0.0, g)


@nextafter.vjp("y")
def _(F, g):
    return g * 0


class FrexpResult(NamedTuple):
    mantissa: Tensor
    exponent: Tensor


@operator(1, name="frexp", differentiable=1)
def _frexp(xp, x):
    if x.dtype.itemsize > 2:
        return xp.frexp(x)
    mantissa, exponent = xp.frexp(x.astype(np.float32))
    return mantissa.astype(x.dtype), exponent


@_frexp.vjp
def _(F, g, x, out1):
    return g[0] / F.exp2(x * 0 + out1)


@with_out
def frexp(input: Tensor) -> FrexpResult:
    """Return mantissa in [0.5, 1) and integer exponent of input = mantissa * 2^exponent."""
    if input._a.dtype.kind in "biuc":
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    return FrexpResult(*_frexp(input))


@operator(1, name="nan_to_num")
def _nan_to_num(xp, x, nan, posinf, neginf):
    if x.dtype.kind != "c":
        return _finite(xp, x, nan, posinf, neginf)
    z = xp.empty_like(x)
    z.real, z.imag = (_finite(xp, part, nan, posinf, neginf) for part in (x.real, x.imag))
    return z


def _finite(xp: Any, x: Any, nan: float | None, posinf: float | None, neginf: float | None) -> Any:
    limit = finfo(from_numpy_dtype(x.dtype))
    result = xp.where(xp.isnan(x), x.dtype.type(nan or 0), x)
    result = xp.where(x == inf, x.dtype.type(limit.max if posinf is None else posinf), result)
    return xp.where(x == -inf, x.dtype.type(limit.min if neginf is None else neginf), result)


@_nan_to_num.vjp
def _(F, g, x):
    return F.where(F.isfinite(x), g, 0.0)


@with_out
def nan_to_num(
    input: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """Return the input with NaN replaced by `nan` (0) and the infinities by `posinf`, `neginf` (the type's limits)."""
    if input._a.dtype.kind in "biu":
        return traced.clone(input, False)
    return _nan_to_num(input, nan, posinf, neginf)


# -- larger and smaller -------------------------------------------------------------------------------------------


def _check_ordered(name: str, x: Any) -> None:
    if x.dtype.kind == "c":
        raise RuntimeError(f"{name} not implemented for complex tensors.")


@binary(check=takes_numbers("maximum"))
def maximum(xp, x, y):
    """Return the larger of each pair of elements; NaN if either is."""
    _check_ordered("maximum", x)
    return xp.maximum(x, y)


@binary(check=takes_numbers("minimum"))
def minimum(xp, x, y):
    """Return the smaller of each pair of elements; NaN if either is."""
    _check_ordered("minimum", x)
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


@binary(check=takes_numbers("fmax"))
def fmax(xp, x, y):
    """Return the larger of each pair of elements; of a number and NaN the number."""
    _check_ordered("fmax", x)
    return xp.fmax(x, y)


@binary(check=takes_numbers("fmin"))
def fmin(xp, x, y):
    """Return the smaller of each pair of elements; of a number and NaN the number."""
    _check_ordered("fmin", x)
    return xp.fmin(x, y)


@fmax.vjp("x")
def _(F, g, x, y):
    return F.where((x >= y) | (y != y), g, 0.0)


@fmax.vjp("y")
def _(F, g, x, y):
    return F.where((x >= y) | (y != y), 0.0, g)


@fmin.vjp("x")
def _(F, g, x, y):
    return F.where((x <= y) | (y != y), g, 0.0)


@fmin.vjp("y")
def _(F, g, x, y):
    return F.where((x <= y) | (y != y), 0.0, g)


@binary(name="clamp_min", check=takes_numbers("clamp_min", "other"))
def clamp_min(xp, x, y):
    """Return x, raised to `min` where it is smaller."""
    _check_clampable(x)
    return xp.maximum(x, y)


@clamp_min.vjp("x")
def _(F, g, x, y):
    return F.where(x >= y, g, 0.0)


@clamp_min.vjp("y")
def _(F, g, x, y):
    return F.where(x < y, g, 0.0)


@binary(name="clamp_max", check=takes_numbers("clamp_max", "other"))
def clamp_max(xp, x, y):
    """Return x, lowered to `max` where it is larger."""
    _check_clampable(x)
    return xp.minimum(x, y)


@clamp_max.vjp("x")
def _(F, g, x, y):
    return F.where(x <= y, g, 0.0)


@clamp_max.vjp("y")
def _(F, g, x, y):
    return F.where(x > y, g, 0.0)


def _check_clampable(x: Any) -> None:
    if x.dtype.kind == "c":
        raise NotImplementedError("clamp is not supported for complex types")


@with_out
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Return the input limited to [min, max]; either bound (a number or a tensor) may be left out."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    raised = input if min is None else clamp_min(input, min)
    return raised if max is None else clamp_max(raised, max)


absolute, clip, fix = abs, clamp, trunc
