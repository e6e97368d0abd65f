"""Normalization: over a batch, a layer, groups of channels, instances, and neighbouring channels.

16-bit floats are normalized in float32 and rounded once, at the end, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.autograd.views import written
from disttorch.backends import kernels_of
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.padding import pad
from disttorch.ops.pool import avg_pool2d, avg_pool3d
from disttorch.ops.registry import both, traced

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm"]


@operator(1, differentiable=3)
def standardize(xp, x, dims, eps):
    """Return (x - mean) / sqrt(var + eps), mean and var, the biased variance, over `dims`, which stay with size 1."""
    return kernels_of(x).standardize(x, dims, eps)


@standardize.vjp
def _(F, g, out0, out2, dims, eps, x_shape):
    share = 1 / prod(x_shape[d] for d in dims)
    total = None if g[0] is None else F.standardize_grad(g[0], out0, out2, dims, eps)
    if g[1] is not None:
        mine = F.expand(g[1] * share, x_shape)
        total = mine if total is None else total + mine
    if g[2] is not None:
        mine = g[2] * out0 / F.rsqrt(out2 + eps) * (2 * share)
        total = mine if total is None else total + mine
    return total


def _standardize_grad(g: Tensor, y: Tensor, var: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    along = y * traced.mean(g * y, dims, True)
    return (g - traced.mean(g, dims, True) - along) * traced.rsqrt(var + eps)


both("standardize_grad", lambda g, *saved: kernels_of(g).standardize_grad(g, *saved), _standardize_grad)


@operator(3, differentiable=3)
def native_batch_norm(xp, x, weight, bias, eps):
    """Return standardized x [N, C, *] times `weight` plus `bias`, each [C] or None, and each channel's mean and var [C]."""
    return kernels_of(x).batch_norm(x, weight, bias, eps)


@native_batch_norm.vjp
def _(F, g, x, weight, out1, out2, eps):
    channels = (-1, *(1 for _ in x.shape[2:]))
    return _with_those_of_statistics(
        F, g, F.batch_norm_grad, (x, weight, out1, out2, eps), F.reshape(out1, channels), channels
    )


@operator(3, differentiable=3)
def native_layer_norm(xp, x, weight, bias, dim, eps):
    """Return x standardized over the dimensions from `dim` on, times `weight` plus `bias` (or None), and mean and var."""
    return kernels_of(x).layer_norm(x, weight, bias, dim, eps)


@native_layer_norm.vjp
def _(F, g, x, weight, out1, out2, dim, eps):
    return _with_those_of_statistics(F, g, F.layer_norm_grad, (x, weight, out1, out2, dim, eps), out1, out1.shape)


def _with_those_of_statistics(F: Any, g: Any, rule: Any, saved: Any, mean: Any, shape: tuple[int, ...]) -> Any:
    """Return the gradients that `rule` has for x, weight and bias, and add those that come by way of mean and var."""
    x = saved[0]
    of_x, of_weight, of_bias = (None, None, None) if g[0] is None else rule(g[0], *saved)
    share = prod(saved[2].shape) / max(prod(x.shape), 1)
    if g[1] is not None:
        mine = F.expand(F.reshape(g[1] * share, shape), x.shape)
        of_x = mine if of_x is None else of_x + mine
    if g[2] is not None:
        mine = F.reshape(g[2] * (2 * share), shape) * (x - mean)
        of_x = mine if of_x is None else of_x + mine
    return of_x, of_weight, of_bias


def _batch_norm_grad(g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> Any:
    dims, shape = (0, *range(2, x._a.ndim)), (-1, *(1 for _ in x._a.shape[2:]))
    var = traced.reshape(var, (1, *shape))
    y = (x - traced.reshape(mean, shape)) * traced.rsqrt(var + eps)
    scaled = g if weight is None else g * traced.reshape(weight, shape)
    return _standardize_grad(scaled, y, var, dims, eps), traced.sum(g * y, dims, False), traced.sum(g, dims, False)


def _layer_norm_grad(
    g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, dim: int, eps: float
) -> Any:
    y = (x - mean) * traced.rsqrt(var + eps)
    of_x = _standardize_grad(g if weight is None else g * weight, y, var, tuple(range(dim, x._a.ndim)), eps)
    rows = tuple(range(dim))
    return of_x, traced.sum(g * y, rows, False) if rows else g * y, traced.sum(g, rows, False) if rows else g


both("batch_norm_grad", lambda g, *saved: kernels_of(g).batch_norm_grad(g, *saved), _batch_norm_grad)
both("layer_norm_grad", lambda g, *saved: kernels_of(g).layer_norm_grad(g, *saved), _layer_norm_grad)


@operator(1, differentiable=2)
def scale_to_unit(xp, x, dims, eps):
    """Return x / sqrt(square + eps) and square, the mean of x * x over `dims`, which stay with size 1."""
    square = (x * x).mean(dims, keepdims=True)
    return x * (1 / xp.sqrt(square + x.dtype.type(eps))), square


@scale_to_unit.vjp
def _(F, g, out0, out1, dims, eps, x_shape):
    step = F.conj(F.rsqrt(out1 + eps))
    y = F.conj(out0)
    total = None
    if g[0] is not None:
        total = (g[0] - y * F.mean(g[0] * y, dims, True)) * step
    if g[1] is not None:
        mine = g[1] * y / step * (2 / prod(x_shape[d] for d in dims))
        total = mine if total is None else total + mine
    return total


def widened(x: Tensor) -> Tensor:
    return traced.cast(x, np.dtype(np.float32)) if x._a.dtype.itemsize == 2 else x


def narrowed(y: Tensor, like: Tensor) -> Tensor:
    return y if y._a.dtype == like._a.dtype else traced.cast(y, like._a.dtype)


def _like(wide: Tensor, parameter: Tensor | None, input: Tensor) -> Tensor | None:
    """Return a weight or bias in the type in which is computed; RuntimeError where PyTorch does not mix the types."""
    if parameter is None or parameter._a.dtype == wide._a.dtype:
        return parameter
    if parameter._a.dtype != input._a.dtype:
        raise RuntimeError(
            f"mixed dtype: expected weight and bias to have the input's type, {input.dtype}, but got {parameter.dtype}"
        )
    return traced.cast(parameter, wide._a.dtype)


def affine(y: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """Return y * weight + bias, both seen in the shape `shape`."""
    if weight is not None:
        y = y * (weight if weight._a.shape == shape else traced.reshape(weight, shape))
    if bias is not None:
        y = y + (bias if bias._a.shape == shape else traced.reshape(bias, shape))
    return y


def check_channels(channels: int, **named: Tensor | None) -> None:
    for name, tensor in named.items():
        if tensor is not None and tensor._a.size != channels:
            raise RuntimeError(f"{name} should contain {channels} elements not {tensor._a.size}")


def _check_several(size: Sequence[int]) -> None:
    if prod((size[0], *size[2:])) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {size}")


# -- statistics of channels ---------------------------------------------------------------------------------------


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of input [N, C, *] by its mean and variance over all else (arXiv:1502.03167).

    In training the statistics are the batch's, and the running ones, if given, move towards them by `momentum` (the
    variance as the unbiased estimate); otherwise they are the running ones. Then comes weight * y + bias, both [C].
    """
    x = expect_tensor(input, "batch_norm")._a
    if training:
        _check_several(input.shape)
    if eps < 0 or (training and eps == 0):
        wanted = "positive during training" if training else "non-negative"
        raise ValueError(f"batch_norm eps must be {wanted}, but got {eps}")
    if not x.size:
        return empty_affine(input, weight, bias)
    channels = x.shape[1]
    check_channels(channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    shape = (1, channels, *(1 for _ in x.shape[2:]))
    if training:
        wide = widened(input)
        y, mean, var = native_batch_norm(wide, *(_like(wide, p, input) for p in (weight, bias)), eps)
        move_towards(running_mean, mean._a, momentum)
        n = x.size // channels
        move_towards(running_var, var._a * (n / (n - 1)), momentum)
        return narrowed(y, input)
    return _by_running(input, running_mean, running_var, weight, bias, eps, shape)


def _by_running(
    input: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    shape: tuple[int, ...],
) -> Tensor:
    if mean is None or var is None:
        raise RuntimeError("Expected running_mean and running_var to be defined when they are to be used")
    step = traced.rsqrt(widened(var) + eps)
    if weight is not None:
        step = step * weight
    y = (widened(input) - traced.reshape(widened(mean), shape)) * traced.reshape(step, shape)
    return narrowed(affine(y, None, bias, shape), input)


def move_towards(running: Tensor | None, now: Any, momentum: float) -> None:
    if running is not None:
        wide = running._a.astype(now.dtype) if running._a.dtype.itemsize == 2 else running._a
        running._a[...] = (1 - momentum) * wide + momentum * now
        written(running)


def empty_affine(input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return a copy of an input without elements, which depends on weight and bias."""
    y = traced.clone(input, True)
    y = y if weight is None else y * weight.sum()
    return y if bias is None else y + bias.sum()


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of each sample of input [N, C, *] by its own mean and variance (arXiv:1607.08022).

    The running statistics, if given, move towards the samples' averages by `momentum`; without `use_input_stats` they
    are what normalizes. Then comes weight * y + bias, both [C].
    """
    x = expect_tensor(input, "instance_norm")._a
    if use_input_stats and prod(x.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    channels = x.shape[1]
    check_channels(channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    shape = (1, channels, *(1 for _ in x.shape[2:]))
    if not use_input_stats:
        return _by_running(input, running_mean, running_var, weight, bias, eps, shape)
    y, mean, var = standardize(widened(input), tuple(range(2, x.ndim)), eps)
    n = prod(x.shape[2:])
    move_towards(running_mean, mean._a.reshape(x.shape[:2]).mean(0), momentum)
    move_towards(running_var, var._a.reshape(x.shape[:2]).mean(0) * (n / (n - 1)), momentum)
    return narrowed(affine(y, weight, bias, shape), input)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalize each of `num_groups` groups of channels of each sample of input [N, C, *] (arXiv:1803.08494).

    Then comes weight * y + bias, both [C].
    """
    shape = expect_tensor(input, "group_norm")._a.shape
    if len(shape) < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {len(shape)}")
    if num_groups <= 0:
        raise RuntimeError(f"Expected num groups to be greater than 0, got {num_groups}")
    _check_several([shape[0] * shape[1] // num_groups, num_groups, *shape[2:]])
    if shape[1] % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape {list(shape)} and "
            f"num_groups={num_groups}"
        )
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor._a.shape != shape[1:2]:
            raise RuntimeError(
                f"Expected {name} to be a vector of size equal to the number of channels in input, but got {name} of shape "
                f"{list(tensor._a.shape)} and input of shape {list(shape)}"
            )
    grouped = traced.reshape(widened(input), (shape[0], num_groups, prod(shape[1:]) // num_groups))
    y = standardize(grouped, (2,), eps)[0]
    y = affine(traced.reshape(y, shape), weight, bias, (1, shape[1], *(1 for _ in shape[2:])))
    return narrowed(y, input)


# -- the last dimensions ------------------------------------------------------------------------------------------


def _last_dims(input: Tensor, normalized_shape: Any, **named: Tensor | None) -> tuple[int, ...]:
    """Return the dimensions that `normalized_shape` covers; RuntimeError for one that does not fit."""
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    shape = input._a.shape
    if not wanted:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element"
        )
    for name, tensor in named.items():
        if tensor is not None and tensor._a.shape != wanted:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape {list(tensor._a.shape)} and "
                f"normalized_shape = {list(wanted)}"
            )
    if shape[len(shape) - len(wanted) :] != wanted or len(shape) < len(wanted):
        raise RuntimeError(
            f"Given normalized_shape={list(wanted)}, expected input with shape [*, {', '.join(map(str, wanted))}], but got "
            f"input of size{list(shape)}"
        )
    return tuple(range(len(shape) - len(wanted), len(shape)))


def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalize over the last dimensions, of sizes `normalized_shape`, then weight * y + bias (arXiv:1607.06450)."""
    dims = _last_dims(expect_tensor(input, "layer_norm"), normalized_shape, weight=weight, bias=bias)
    wide = widened(input)
    y = native_layer_norm(wide, *(_like(wide, p, input) for p in (weight, bias)), dims[0], eps)[0]
    return narrowed(y, input)


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """Divide by the root mean square over the last dimensions, of sizes `normalized_shape`, then times `weight`.

    arXiv:1910.07467. `eps` is added to the mean square: the type's rounding unit unless given.
    """
    dims = _last_dims(expect_tensor(input, "rms_norm"), normalized_shape, weight=weight)
    wide = widened(input)
    y = scale_to_unit(wide, dims, float(np.finfo(wide._a.dtype).eps) if eps is None else eps)[0]
    return narrowed(affine(y, weight, None, input._a.shape[dims[0] :]), input)


# -- neighbouring channels ----------------------------------------------------------------------------------------


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Return x / (k + alpha * m)^beta, m the mean of x^2 over `size` neighbouring channels of input [N, C, *S]."""
    shape = expect_tensor(input, "local_response_norm")._a.shape
    if len(shape) < 3:
        raise ValueError(f"Expected 3D or higher dimensionality input (got {len(shape)} dimensions)")
    if not input._a.size:
        return input
    square = input * input
    ends = (size // 2, (size - 1) // 2)
    if len(shape) == 3:
        mean = avg_pool2d(pad(traced.unsqueeze(square, 1), (0, 0, *ends)), (size, 1), 1)
    else:
        planes = traced.reshape(square, (shape[0], 1, *shape[1:3], prod(shape[3:])))
        mean = avg_pool3d(pad(planes, (0, 0, 0, 0, *ends)), (size, 1, 1), 1)
    return input / traced.pow(traced.reshape(mean, shape) * alpha + k, beta)
