"""Special functions: error functions, gamma functions, and products with logarithms.

Formulas of the derivatives: NIST Digital Library of Mathematical Functions, https://dlmf.nist.gov.
"""

from __future__ import annotations

from math import log, pi, sqrt
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.backends import kernels_of
from disttorch.core import dtypes
from disttorch.ops.arithmetic import not_for, takes_numbers
from disttorch.ops.define import binary, expect_tensor, operator, unary
from disttorch.ops.rounding import clamp
from disttorch.ops.write import with_out

# What `torch` itself has; `torch.special` has all functions of this file. `erf` is among the activation functions.
__all__ = [
    "digamma", "erfc", "erfinv", "i0", "igamma", "igammac", "lgamma", "logit", "mvlgamma", "polygamma", "sinc", "xlogy",
]  # fmt: skip
METHODS = """
    digamma erfc erfinv i0 igamma igammac lgamma logit mvlgamma sinc xlogy
"""
INPLACE = """
    digamma erf erfc erfinv i0 igamma igammac lgamma logit mvlgamma sinc xlogy
"""


def from_scipy(name: str, scipy_name: str, doc: str) -> Any:
    """Return the pointwise function `name` of one tensor that SciPy knows as `scipy_name`."""

    def kernel(xp, x):
        not_for(name + "_cpu", x, "c")
        return kernels_of(x).scipy_special(scipy_name, x)

    kernel.__doc__ = doc
    return unary(float_result=True, name=name)(kernel)


# -- error functions and the normal distribution ------------------------------------------------------------------

erfc = from_scipy("erfc", "erfc", "Return 1 - erf(x), exact for large x.")
erfcx = from_scipy("special_erfcx", "erfcx", "Return exp(x^2) erfc(x).")
erfinv = from_scipy("erfinv", "erfinv", "Return the number whose error function is x.")
ndtr = from_scipy("special_ndtr", "ndtr", "Return the probability that a standard normal number is below x.")
ndtri = from_scipy(
    "special_ndtri", "ndtri", "Return the number below which a standard normal one is with probability x."
)
log_ndtr = from_scipy("special_log_ndtr", "log_ndtr", "Return log(ndtr(x)), without underflow.")


@erfc.vjp
def _(F, g, x):
    return g * F.exp(-x * x) * (-2 / sqrt(pi))


@erfcx.vjp
def _(F, g, x, out):
    return g * (x * out * 2 - 2 / sqrt(pi))


@erfinv.vjp
def _(F, g, out):
    return g * F.exp(out * out) * (sqrt(pi) / 2)


@ndtr.vjp
def _(F, g, x):
    return g * F.exp(x * x * -0.5) * (1 / sqrt(2 * pi))


@ndtri.vjp
def _(F, g, out):
    return g * F.exp(out * out * 0.5) * sqrt(2 * pi)


@log_ndtr.vjp
def _(F, g, x):
    return g * sqrt(2 / pi) / F.special_erfcx(x * -sqrt(0.5))


# -- gamma functions ----------------------------------------------------------------------------------------------

lgamma = from_scipy("lgamma", "gammaln", "Return log(|gamma(x)|).")
digamma = from_scipy("digamma", "psi", "Return the derivative of log(gamma(x)).")


@lgamma.vjp
def _(F, g, x):
    return g * F.digamma(x)


@digamma.vjp
def _(F, g, x):
    return g * F.polygamma(x, 1)


@operator(1, name="polygamma")
def _polygamma(xp, x, n):
    return kernels_of(x).scipy_special("polygamma", n, x)


@_polygamma.vjp
def _(F, g, x, n):
    return g * F.polygamma(x, n + 1)


@with_out
def polygamma(n: int, input: Tensor) -> Tensor:
    """Return the derivative of order `n` of digamma(input)."""
    if n < 0:
        raise RuntimeError(f"polygamma(n, x) does not support negative n, but got {n}.")
    return _polygamma(_floating(expect_tensor(input, "polygamma")), n)


def polygamma_method(input: Tensor, n: int) -> Tensor:
    """Return the derivative of order `n` of digamma(input)."""
    return polygamma(n, input)


def _floating(input: Tensor) -> Tensor:
    return input.to(dtypes.get_default_dtype()) if input._a.dtype.kind in "biu" else input


@with_out
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """Return the logarithm of the multivariate gamma function: the sum of lgamma(input - k / 2) for k < p, and a constant."""
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    x = _floating(expect_tensor(input, "mvlgamma"))
    total = lgamma(x)
    for k in range(1, p):
        total = total + lgamma(x - k / 2)
    return total + p * (p - 1) / 4 * log(pi)


@binary(check=takes_numbers("igamma"))
def igamma(xp, x, y):
    """Return the lower incomplete gamma function P(x, y), regularized: from 0 at y = 0 to 1."""
    not_for("igamma_cpu", x, "biuc")
    return kernels_of(x).scipy_special("gammainc", x, y)


@binary(check=takes_numbers("igammac"))
def igammac(xp, x, y):
    """Return the upper incomplete gamma function 1 - P(x, y)."""
    not_for("igammac_cpu", x, "biuc")
    return kernels_of(x).scipy_special("gammaincc", x, y)


@igamma.vjp("y")
def _(F, g, x, y):
    return g * F.exp((x - 1) * F.log(y) - y - F.lgamma(x))


@igammac.vjp("y")
def _(F, g, x, y):
    return -g * F.exp((x - 1) * F.log(y) - y - F.lgamma(x))


@igamma.vjp("x")
@igammac.vjp("x")
def _(F, g):
    raise NotImplementedError("the derivative for 'igamma: input' is not implemented.")


@binary(float_result=True, name="special_zeta", check=takes_numbers("special_zeta", "either"))
def zeta(xp, x, y):
    """Return the Hurwitz zeta function, the sum of (k + y)^-x for k = 0, 1, ..."""
    not_for("zeta_cpu", x if hasattr(x, "dtype") else y, "c")
    return kernels_of(y).scipy_special("zeta", x, y)


@zeta.vjp("x")
def _(F, g):
    raise NotImplementedError("the derivative for 'zeta' is not implemented.")


@zeta.vjp("y")
def _(F, g, x, y):
    return g * -x * F.special_zeta(x + 1, y)


# -- logarithms ---------------------------------------------------------------------------------------------------

entr = from_scipy("special_entr", "entr", "Return the entropy -x log(x): 0 for 0, -inf for negative numbers.")


@entr.vjp
def _(F, g, x):
    return -g * (F.log(x) + 1)


@binary(float_result=True, check=takes_numbers("xlogy", "either"))
def xlogy(xp, x, y):
    """Return x log(y), 0 where x is 0 and y is not NaN."""
    not_for("xlogy_cpu", x, "c")
    return kernels_of(x).scipy_special("xlogy", x, y)


@xlogy.vjp("x")
def _(F, g, x, y):
    return F.where((x == 0) & (y <= 0), 0.0, F.xlogy(g, y))


@xlogy.vjp("y")
def _(F, g, x, y):
    return g * x / y


@binary(float_result=True, name="special_xlog1py", check=takes_numbers("special_xlog1py", "either"))
def xlog1py(xp, x, y):
    """Return x log(1 + y), 0 where x is 0 and y is not NaN."""
    not_for("xlog1py_cpu", x, "c")
    return kernels_of(x).scipy_special("xlog1py", x, y)


@xlog1py.vjp("x")
def _(F, g, x, y):
    return F.where((x == 0) & (y <= -1), 0.0, F.special_xlog1py(g, y))


@xlog1py.vjp("y")
def _(F, g, x, y):
    return g * x / (y + 1)


_logit = from_scipy("logit", "logit", "Return log(x / (1 - x)).")


@_logit.vjp
def _(F, g, x):
    return F.where((x < 0) | (x > 1), float("nan"), g / (x * (1 - x)))


@with_out
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """Return log(x / (1 - x)) of a probability x, which `eps` first limits to [eps, 1 - eps]."""
    input = _floating(expect_tensor(input, "logit"))
    return _logit(input if eps is None else clamp(input, eps, 1 - eps))


# -- others -------------------------------------------------------------------------------------------------------

i0 = from_scipy("i0", "i0", "Return the modified Bessel function of the first kind, order 0.")


@i0.vjp
def _(F, g, x):
    return g * F.special_i1(x)


@unary(float_result=True)
def sinc(xp, x):
    """Return sin(pi x) / (pi x), 1 for 0."""
    angle = x * x.dtype.type(pi)
    return xp.where(x == 0, x.dtype.type(1), xp.sin(angle) / xp.where(x == 0, x.dtype.type(1), angle))


@sinc.vjp
def _(F, g, x, out):
    slope = (F.cos(x * pi) - out) / F.where(x == 0, 1.0, x)
    return g * F.conj(F.where(x == 0, x * (-pi * pi / 3), slope))  # at 0, the first term of the series


polygamma_method.__name__ = "polygamma"
