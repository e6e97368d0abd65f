"""Activation functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.backends import kernels_of
from disttorch.ops.arithmetic import not_for
from disttorch.ops.creation import finish
from disttorch.ops.define import expect_tensor, operator, unary
from disttorch.ops.random import stream_of
from disttorch.ops.registry import traced
from disttorch.ops.shape import row_major, wrap_dim
from disttorch.ops.views import narrow
from disttorch.ops.write import inplace, with_out

__all__ = [
    "celu", "celu_", "erf", "hardshrink", "prelu", "relu", "relu_", "rrelu", "rrelu_", "selu", "selu_", "sigmoid",
    "threshold", "threshold_",
]  # fmt: skip
METHODS = """
    erf hardshrink prelu relu sigmoid
"""
INPLACE = """
    erf relu sigmoid
"""


def wide(x: Any) -> Any:
    """Return an array of 16-bit floats as float32, in which what is made of several steps is computed."""
    return x.astype("float32") if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x


def like(y: Any, x: Any) -> Any:
    """Return y in the type of x."""
    return y.astype(x.dtype, copy=False)


def _refuse_bool_and_complex(name: str, x: Any) -> None:
    not_for(name, x, "c")
    if x.dtype.kind == "b":
        raise RuntimeError(f"Boolean inputs not supported for {name}: convert the input to numbers")


# -- rectifiers ---------------------------------------------------------------------------------------------------


@unary()
def relu(xp, x):
    """Return max(x, 0)."""
    if x.dtype.kind in "bc":
        _refuse_bool_and_complex("relu", x)
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


@operator(1, name="leaky_relu")
def _leaky_relu(xp, x, negative_slope):
    not_for("leaky_relu_cpu", x, "biuc")
    scaled = x * x.dtype.type(negative_slope)
    return xp.maximum(x, scaled) if 0 < negative_slope <= 1 else xp.where(x > 0, x, scaled)


@_leaky_relu.vjp
def _(F, g, x, negative_slope):
    return F.where(x > 0, g, g * negative_slope)


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Return x where x > 0, else negative_slope * x."""
    return _leaky_relu(input, negative_slope)


@operator(2, name="prelu")
def _prelu(xp, x, weight):
    return xp.where(x > 0, x, x * weight)


@_prelu.vjp("x")
def _(F, g, x, weight):
    return F.where(x > 0, g, g * weight)


@_prelu.vjp("weight")
def _(F, g, x):
    return F.where(x > 0, 0.0, g * x)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Return x where x > 0, else weight * x: one weight (shape [1] or []), or one for each channel of input [N, C, ...]."""
    x, w = expect_tensor(input, "prelu")._a, expect_tensor(weight, "prelu", "weight")._a
    if x.dtype != w.dtype:
        raise RuntimeError(f"prelu: Type promoting not supported. Got {input.dtype!r} and {weight.dtype!r}")
    not_for("prelu_cpu", x, "biuc")
    if w.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {w.ndim}")
    if w.size == 1:
        return _prelu(input, traced.reshape(weight, (1,) * x.ndim))
    if not x.ndim:
        raise RuntimeError("Not allow zero-dim input tensor.")
    channels = x.shape[1] if x.ndim > 1 else 1
    if channels != w.size:
        raise RuntimeError(
            f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {w.size} and channel size = "
            f"{channels}."
        )
    return _prelu(input, traced.reshape(weight, (1, channels) + (1,) * (x.ndim - 2)))


def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> Tensor:
    """Return x where x > 0, else x times a slope: in training random in [lower, upper), else their mean (arXiv:1505.00853)."""
    x = expect_tensor(input, "rrelu")._a
    not_for("rrelu_with_noise", x, "biuc")
    if lower > upper:
        raise RuntimeError(
            f"Lower bound should be less than or equal to the upper bound, but got lower {lower} and upper {upper}"
        )
    if not training:
        return _leaky_relu(input.contiguous(), (lower + upper) / 2)
    negative = traced.le(input.detach(), 0).cpu()._a
    slopes = np.ones(x.shape)
    slopes[negative] = stream_of(generator).uniform((int(negative.sum()),), slopes.dtype, lower, upper)
    return input * finish(slopes.astype(x.dtype), input.device, False)


@operator(1, name="hardtanh")
def _hardtanh(xp, x, low, high):
    return xp.minimum(xp.maximum(x, x.dtype.type(low)), x.dtype.type(high))


@_hardtanh.vjp
def _(F, g, x, low, high):
    return F.where((x > low) & (x < high), g, 0.0)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """Return x limited to [min_val, max_val]; the derivative at the limits is 0."""
    x = expect_tensor(input, "hardtanh")._a
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    _refuse_bool_and_complex("hardtanh", x)
    if x.dtype.kind == "u" and (min_val < 0 or max_val < 0):
        raise RuntimeError("cannot do hardtanh on an unsigned type with negative limits")
    return _hardtanh(input, min_val, max_val)


def relu6(input: Tensor) -> Tensor:
    """Return min(max(x, 0), 6)."""
    return hardtanh(input, 0, 6)


@operator(1, name="threshold")
def _threshold(xp, x, threshold, value):
    not_for("threshold_cpu", x, "bc")
    return xp.where(x <= threshold, x.dtype.type(value), x)


@_threshold.vjp
def _(F, g, x, threshold):
    return F.where(x <= threshold, 0.0, g)


def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """Return x where x > threshold, else `value`."""
    return _threshold(input, threshold, value)


# -- shrinking ----------------------------------------------------------------------------------------------------


@operator(1, name="hardshrink")
def _hardshrink(xp, x, lambd):
    not_for("hardshrink_cpu", x, "biuc")
    return xp.where((x >= -lambd) & (x <= lambd), x.dtype.type(0), x)


@_hardshrink.vjp
def _(F, g, x, lambd):
    return F.where((x < -lambd) | (x > lambd), g, 0.0)


@with_out
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Return x where |x| > lambd, else 0."""
    return _hardshrink(input, lambd)


@operator(1, name="softshrink")
def _softshrink(xp, x, lambd):
    not_for("softshrink_cpu", x, "biuc")
    size = x.dtype.type(lambd)
    return x - xp.minimum(xp.maximum(x, -size), size)


@_softshrink.vjp
def _(F, g, x, lambd):
    return F.where((x < -lambd) | (x > lambd), g, 0.0)


@with_out
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Return x moved towards 0 by `lambd`, and 0 where |x| <= lambd."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be in range [0, {input.dtype!r}'s largest number], but found {lambd}")
    return _softshrink(input, lambd)


def tanhshrink(input: Tensor) -> Tensor:
    """Return x - tanh(x)."""
    return input - traced.tanh(input)


def softsign(input: Tensor) -> Tensor:
    """Return x / (1 + |x|)."""
    return input / (traced.abs(input) + 1)


# -- exponential --------------------------------------------------------------------------------------------------


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
    not_for("log_sigmoid_cpu", x, "biuc")
    y = wide(row_major(x))
    return like(xp.minimum(y, y.dtype.type(0)) - xp.log1p(xp.exp(-xp.absolute(y))), x)


@logsigmoid.vjp
def _(F, g, x):
    return g * F.sigmoid(-x)


@operator(1, name="softplus")
def _softplus(xp, x, beta, threshold):
    not_for("softplus_cpu", x, "biuc")
    y = wide(x)
    scaled = y * beta
    return like(xp.where(scaled > threshold, y, xp.log1p(xp.exp(xp.minimum(scaled, threshold))) / beta), x)


@_softplus.vjp
def _(F, g, x, beta, threshold):
    return F.where(x * beta > threshold, g, g * F.sigmoid(x * beta))


@with_out
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold."""
    return _softplus(input, beta, threshold)


@operator(1, name="elu")
def _elu(xp, x, alpha, scale, input_scale):
    not_for("elu_cpu", x, "biuc")
    y = wide(x)
    number = y.dtype.type
    negative = xp.expm1(xp.minimum(y, number(0)) * number(input_scale)) * number(alpha * scale)
    return like(xp.maximum(y, number(0)) * number(scale) + negative, x)


@_elu.vjp
def _(F, g, x, alpha, scale, input_scale):
    slope = F.exp(F.where(x >= 0, 0.0, x) * input_scale) * (alpha * scale * input_scale)
    return F.where(x > 0, g * scale, g * slope)


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """Return x where x > 0, else alpha * (exp(x) - 1)."""
    return _elu(input, alpha, 1.0, 1.0)


def selu(input: Tensor) -> Tensor:
    """Return `elu` with the scale and alpha that keep mean 0 and variance 1 (arXiv:1706.02515)."""
    return _elu(input, 1.6732632423543772, 1.0507009873554805, 1.0)


def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """Return x where x > 0, else alpha * (exp(x / alpha) - 1) (arXiv:1704.07483)."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _elu(input, alpha, 1.0, 1.0 / alpha)


@unary()
def silu(xp, x):
    """Return x * sigmoid(x)."""
    not_for("silu_cpu", x, "biu")
    if x.dtype.kind == "c":
        return x / (xp.exp(-x) + 1)
    y = wide(x)
    return like(y * kernels_of(y).sigmoid(y), x)


@silu.vjp
def _(F, g, x):
    s = F.sigmoid(x)
    return g * F.conj(s * (x * (1 - s) + 1))


@unary()
def mish(xp, x):
    """Return x * tanh(log(1 + exp(x))) (arXiv:1908.08681)."""
    not_for("mish_cpu", x, "biuc")
    y = wide(x)
    return like(y * xp.tanh(xp.log1p(xp.exp(y))), x)


@mish.vjp
def _(F, g, x):
    t = F.tanh(F.softplus(x, 1.0, 20.0))
    return g * (t + x * F.sigmoid(x) * (1 - t * t))


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """Return a * sigmoid(b) for the halves a and b of the input along `dim` (arXiv:1612.08083)."""
    x = expect_tensor(input, "glu")._a
    if not x.ndim:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    d = wrap_dim(dim, x.ndim)
    if x.shape[d] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {d} is size {x.shape[d]}")
    not_for("glu_cpu", x, "biuc")
    half = x.shape[d] // 2
    return narrow(input, d, 0, half) * sigmoid(narrow(input, d, half, half))


# -- hard and Gaussian gates --------------------------------------------------------------------------------------


@unary()
def hardsigmoid(xp, x):
    """Return min(max(x + 3, 0), 6) / 6."""
    not_for("hardsigmoid_cpu", x, "biuc")
    y = wide(x)
    return like(xp.minimum(xp.maximum(y + 3, y.dtype.type(0)), y.dtype.type(6)) / 6, x)


@hardsigmoid.vjp
def _(F, g, x):
    return F.where((x > -3) & (x < 3), g * 0.1666666716337204, 0.0)  # the float32 sixth that PyTorch has for every type


@unary()
def hardswish(xp, x):
    """Return x * hardsigmoid(x) (arXiv:1905.02244)."""
    not_for("hardswish_cpu", x, "biuc")
    y = wide(x)
    return like(y * xp.minimum(xp.maximum(y + 3, y.dtype.type(0)), y.dtype.type(6)) / 6, x)


@hardswish.vjp
def _(F, g, x):
    return F.where(x >= 3, g, F.where(x <= -3, 0.0, g * (x / 3 + 0.5)))


@unary(float_result=True)
def erf(xp, x):
    """Return the error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return kernels_of(x).erf(x)


@erf.vjp
def _(F, g, x):
    return g * F.exp(-x * x) * 1.1283791670955126


@operator(1, name="gelu")
def _gelu(xp, x, approximate):
    not_for("gelu_cpu", x, "biuc")
    if approximate == "none":
        return kernels_of(x).gelu(x)
    y = wide(x)
    return like(y * (xp.tanh(_gelu_angle(y)) + 1) * 0.5, x)


@_gelu.vjp
def _(F, g, x, approximate):
    return F.gelu_grad(g, x, approximate)


@operator(2)
def gelu_grad(xp, g, x, approximate):
    """Return g times the derivative of `gelu` at x."""
    if approximate == "none":
        return kernels_of(x).gelu_grad(g, x)
    y = wide(x)
    t = xp.tanh(_gelu_angle(y))
    return like(g * (0.5 * (1 + t) + 0.5 * y * (1 - t * t) * _gelu_angle_slope(y)), g)


@gelu_grad.vjp("g")
def _(F, u, x, approximate):
    return F.gelu_grad(u, x, approximate)


@gelu_grad.vjp("x")
def _(F, u, g, x, approximate):
    if approximate == "none":
        return u * g * F.exp(x * x * -0.5) * (2 - x * x) * 0.3989422804014327
    t, slope = F.tanh(_gelu_angle(x)), _gelu_angle_slope(x)
    return u * g * (1 - t * t) * (slope + x * (x * 0.10703222440890037 - t * slope * slope))


def _gelu_angle(x: Any) -> Any:
    return (x + x * x * x * 0.044715) * 0.7978845608028654


def _gelu_angle_slope(x: Any) -> Any:
    return (x * x * 0.134145 + 1) * 0.7978845608028654


@with_out
def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """Return x * Phi(x), with Phi the normal distribution function; "tanh" approximates it (arXiv:1606.08415)."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return _gelu(input, approximate)


relu_, selu_, celu_, rrelu_, threshold_ = map(inplace, (relu, selu, celu, rrelu, threshold))
elu_, leaky_relu_, hardtanh_, relu6_ = map(inplace, (elu, leaky_relu, hardtanh, relu6))
silu_, mish_, hardsigmoid_, hardswish_ = map(inplace, (silu, mish, hardsigmoid, hardswish))
