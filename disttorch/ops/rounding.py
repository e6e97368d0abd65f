"""Rounding, sign, and the larger or smaller of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.ops.arithmetic import mul, true_divide
from disttorch.ops.define import binary, unary
from disttorch.ops.registry import traced

__all__ = [
    "abs", "ceil", "clamp", "clamp_max", "clamp_min", "floor", "frac", "maximum", "minimum", "round", "sgn",
    "sign", "trunc",
]  # fmt: skip
METHODS = """
    abs ceil clamp clamp_max clamp_min floor frac maximum minimum round sgn sign trunc
"""
INPLACE = """
    abs ceil clamp clamp_max clamp_min floor frac round sign trunc
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
