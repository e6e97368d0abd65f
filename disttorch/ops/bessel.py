"""Bessel, Airy and related functions of real numbers. Only i0, i0e, i1 and i1e have derivatives, as in PyTorch."""

from __future__ import annotations

from disttorch.ops.arithmetic import not_for
from disttorch.ops.define import unary
from disttorch.ops.special import from_scipy

__all__ = [
    "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "i0e", "i1", "i1e", "modified_bessel_i0",
    "modified_bessel_i1", "modified_bessel_k0", "modified_bessel_k1", "scaled_modified_bessel_k0",
    "scaled_modified_bessel_k1", "spherical_bessel_j0",
]  # fmt: skip

airy_ai = from_scipy("special_airy_ai", "airy", "Return the Airy function Ai.")
bessel_j0 = from_scipy("special_bessel_j0", "j0", "Return the Bessel function of the first kind, order 0.")
bessel_j1 = from_scipy("special_bessel_j1", "j1", "Return the Bessel function of the first kind, order 1.")
bessel_y0 = from_scipy("special_bessel_y0", "y0", "Return the Bessel function of the second kind, order 0.")
bessel_y1 = from_scipy("special_bessel_y1", "y1", "Return the Bessel function of the second kind, order 1.")
modified_bessel_i0 = from_scipy(
    "special_modified_bessel_i0", "i0", "Return the modified Bessel function of the first kind, order 0."
)
modified_bessel_i1 = from_scipy(
    "special_modified_bessel_i1", "i1", "Return the modified Bessel function of the first kind, order 1."
)
modified_bessel_k0 = from_scipy(
    "special_modified_bessel_k0", "k0", "Return the modified Bessel function of the second kind, order 0."
)
modified_bessel_k1 = from_scipy(
    "special_modified_bessel_k1", "k1", "Return the modified Bessel function of the second kind, order 1."
)
scaled_modified_bessel_k0 = from_scipy(
    "special_scaled_modified_bessel_k0", "k0e", "Return exp(x) modified_bessel_k0(x)."
)
scaled_modified_bessel_k1 = from_scipy(
    "special_scaled_modified_bessel_k1", "k1e", "Return exp(x) modified_bessel_k1(x)."
)


@unary(float_result=True, name="special_spherical_bessel_j0")
def spherical_bessel_j0(xp, x):
    """Return the spherical Bessel function of the first kind, order 0: sin(x) / x."""
    not_for("spherical_bessel_j0_cpu", x, "c")
    ratio = xp.sin(x) / xp.where(x == 0, x.dtype.type(1), x)
    return xp.where(x == 0, x.dtype.type(1), xp.where(xp.isinf(x), x.dtype.type(0), ratio))


i0e = from_scipy("special_i0e", "i0e", "Return exp(-|x|) i0(x).")
i1 = from_scipy("special_i1", "i1", "Return the modified Bessel function of the first kind, order 1.")
i1e = from_scipy("special_i1e", "i1e", "Return exp(-|x|) i1(x).")


@i0e.vjp
def _(F, g, x, out):
    return g * (F.special_i1e(x) - F.sgn(x) * out)


@i1.vjp
def _(F, g, x, out):
    slope = F.i0(x) - out / F.where(x == 0, 1.0, x)
    return g * F.where(x == 0, 0.5, slope)


@i1e.vjp
def _(F, g, x, out):
    slope = F.special_i0e(x) - out * (F.sgn(x) + 1 / F.where(x == 0, 1.0, x))
    return g * F.where(x == 0, 0.5, slope)
