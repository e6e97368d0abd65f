"""Activation functions and softmax."""

from __future__ import annotations

from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.backends import kernels_of
from disttorch.core import dtypes
from disttorch.ops.arithmetic import not_for
from disttorch.ops.define import expect_tensor, operator, unary
from disttorch.ops.registry import traced
from disttorch.ops.rounding import clamp_min
from disttorch.ops.shape import row_major, wrap_dim

__all__ = [
    "erf", "log_softmax", "relu", "sigmoid", "softmax",
]  # fmt: skip
METHODS = """
    erf log_softmax relu sigmoid softmax
"""
INPLACE = """
    relu sigmoid
"""


@unary()
def relu(xp, x):
    """Return max(x, 0)."""
    return kernels_of(x).relu(x)


@relu.vjp
def _(F, g, out):
    return F.relu_grad(g, out)


@operator(2)
def relu_grad(xp, g, y):
    """Return g where y > 0 and zero elsewhere."""
    return kernels_of(g).relu_grad(g, y)


@relu_grad.vjp("g")
def _(F, g, y):
    return F.relu_grad(g, y)


@relu_grad.vjp("y")
def _(F, g):
    return g * 0


@unary(float_result=True)
def sigmoid(xp, x):
    """Return 1 / (1 + exp(-x))."""
    return xp.reciprocal(xp.exp(-x) + 1) if x.dtype.kind == "c" else kernels_of(x).sigmoid(x)


@sigmoid.vjp
def _(F, g, out):
    return g * F.conj(out * (1 - out))


@unary(name="logsigmoid", grad_name="LogSigmoidBackward0")
def logsigmoid(xp, x):
    """Return log(sigmoid(x)), without overflow."""
    not_for("log_sigmoid_cpu", x, "biu")
    x = row_major(x)
    return xp.minimum(x, x.dtype.type(0)) - xp.log1p(xp.exp(-xp.absolute(x)))


@logsigmoid.vjp
def _(F, g, x):
    return g * F.sigmoid(-x)


@operator(1, name="softplus")
def _softplus(xp, x, beta, threshold):
    not_for("softplus_cpu", x, "biu")
    scaled = x * beta
    return xp.where(scaled > threshold, x, xp.log1p(xp.exp(xp.minimum(scaled, threshold))) / beta).astype(
        x.dtype, copy=False
    )


@_softplus.vjp
def _(F, g, x, beta, threshold):
    return F.where(x * beta > threshold, g, g * F.sigmoid(x * beta))


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold."""
    return _softplus(input, beta, threshold)


@operator(1, name="leaky_relu")
def _leaky_relu(xp, x, negative_slope):
    not_for("leaky_relu_cpu", x, "biu")
    return xp.where(x > 0, x, x * x.dtype.type(negative_slope))


@_leaky_relu.vjp
def _(F, g, x, negative_slope):
    return F.where(x > 0, g, g * negative_slope)


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Return x where x > 0, else negative_slope * x."""
    return _leaky_relu(input, negative_slope)


@operator(1, name="elu")
def _elu(xp, x, alpha):
    not_for("elu_cpu", x, "biu")
    return xp.where(x > 0, x, xp.expm1(xp.minimum(x, x.dtype.type(0))) * x.dtype.type(alpha))


@_elu.vjp
def _(F, g, x, alpha):
    return F.where(x > 0, g, g * alpha * F.exp(F.where(x > 0, 0.0, x)))


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """Return x where x > 0, else alpha * (exp(x) - 1)."""
    return _elu(input, alpha)


@unary()
def silu(xp, x):
    """Return x * sigmoid(x)."""
    not_for("silu_cpu", x, "biu")
    return x * kernels_of(x).sigmoid(x)


@silu.vjp
def _(F, g, x):
    s = F.sigmoid(x)
    return g * s * (x * (1 - s) + 1)


@unary(float_result=True)
def erf(xp, x):
    """Return the error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return kernels_of(x).erf(x)


@erf.vjp
def _(F, g, x):
    return g * F.exp(-x * x) * 1.1283791670955126


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """Return x * Phi(x), with Phi the normal distribution function; "tanh" approximates it (arXiv:1606.08415)."""
    if approximate == "none":
        return input * (erf(input * 0.7071067811865476) + 1) * 0.5
    if approximate == "tanh":
        inner = (input + input * input * input * 0.044715) * 0.7978845608028654
        return input * (traced.tanh(inner) + 1) * 0.5
    raise RuntimeError("approximate argument must be either none or tanh.")


def relu6(input: Tensor) -> Tensor:
    """Return min(max(x, 0), 6)."""
    return traced.clamp_max(clamp_min(input, 0), 6)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """Return x limited to [min_val, max_val]."""
    if input._a.dtype.kind in "iu":
        min_val, max_val = int(min_val), int(max_val)
    return traced.clamp_max(clamp_min(input, min_val), max_val)


# -- softmax ------------------------------------------------------------------------------------------------------


@operator(1, name="softmax")
def _softmax(xp, x, dim):
    return row_major(kernels_of(x).softmax(x, dim))


@_softmax.vjp
def _(F, g, out, dim):
    return F.softmax_grad(g, out, dim)


@operator(2)
def softmax_grad(xp, g, y, dim):
    """Return y * (g - sum(g * y)), the derivative of y = softmax(x)."""
    return kernels_of(g).softmax_grad(g, y, dim)


@softmax_grad.vjp("g")
def _(F, u, y, dim):
    return F.softmax_grad(u, y, dim)


@softmax_grad.vjp("y")
def _(F, u, g, y, dim):
    return u * (g - F.sum(g * y, (dim,), True)) - g * F.sum(u * y, (dim,), True)


@operator(1, name="log_softmax")
def _log_softmax(xp, x, dim):
    return row_major(kernels_of(x).log_softmax(x, dim))


@_log_softmax.vjp
def _(F, g, out, dim):
    return F.log_softmax_grad(g, out, dim)


@operator(2)
def log_softmax_grad(xp, g, y, dim):
    """Return g - exp(y) * sum(g), the derivative of y = log_softmax(x)."""
    return kernels_of(g).log_softmax_grad(g, y, dim)


@log_softmax_grad.vjp("g")
def _(F, u, y, dim):
    return u - F.sum(u * F.exp(y), (dim,), True)


@log_softmax_grad.vjp("y")
def _(F, u, g, y, dim):
    return -u * F.exp(y) * F.sum(g, (dim,), True)


def _normalised(input: Tensor, dim: int | None, dtype: dtypes.dtype | None, function: Any, name: str) -> Tensor:
    expect_tensor(input, name)
    if dim is None:
        dim = 0 if input._a.ndim in (0, 1, 3) else 1
    if dtype is not None:
        input = input.to(dtype)
    if input._a.dtype.kind not in "fV":
        raise RuntimeError(f'"{name}" not implemented for {input.dtype!r}: expected a floating-point tensor')
    d = wrap_dim(dim, input._a.ndim)
    if not input._a.ndim:
        return traced.reshape(function(traced.reshape(input, (1,)), 0), ())
    return function(input, d)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return exp(x) / sum(exp(x)) along `dim`, without overflow."""
    return _normalised(input, dim, dtype, _softmax, "softmax")


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dtypes.dtype | None = None
) -> Tensor:
    """Return log(softmax(x)) along `dim`, without overflow."""
    return _normalised(input, dim, dtype, _log_softmax, "log_softmax")
