"""Pooling by windows of one size: largest elements, means, p-norms."""

from __future__ import annotations

from math import prod
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.backends import kernels_of
from disttorch.ops.define import operator
from disttorch.ops.registry import traced
from disttorch.ops.write import with_out

__all__ = [
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool2d",
    "max_pool3d",
]  # fmt: skip


@operator(1, name="max_pool", grad_name="MaxPool2DWithIndicesBackward0", differentiable=1)
def _max_pool(xp, x, kernel, stride, padding, dilation, ceil_mode):
    return kernels_of(x).max_pool(x, kernel, stride, padding, dilation, ceil_mode)


@_max_pool.vjp
def _(F, g, out1, x_shape):
    return F.max_pool_grad(g[0], out1, x_shape)


@operator(2)
def max_pool_grad(xp, g, indices, shape):
    """Return the gradient of max-pooling's input: each gradient goes to the element that was the largest."""
    return kernels_of(g).max_pool_grad(g, indices, shape)


@max_pool_grad.vjp("g")
def _(F, u, indices):
    flat = F.reshape(u, (*u.shape[:2], -1))
    return F.reshape(F.take(flat, F.reshape(indices, (*indices.shape[:2], -1))), indices.shape)


@operator(2)
def take(xp, x, indices):
    """Return x[n, c, indices[n, c, k]]."""
    return xp.take_along_axis(x, indices, 2)


@take.vjp("x")
def _(F, g, indices, x_shape):
    return F.max_pool_grad(g, indices, x_shape)


@operator(1, name="avg_pool", grad_name="AvgPool2DBackward0")
def _avg_pool(xp, x, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    return kernels_of(x).avg_pool(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor)


@_avg_pool.vjp
def _(F, g, x_shape, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    return F.avg_pool_grad(g, x_shape, kernel, stride, padding, ceil_mode, count_include_pad, divisor)


@operator(1)
def avg_pool_grad(xp, g, shape, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    """Return the gradient of average-pooling's input, of shape `shape`."""
    return kernels_of(g).avg_pool_grad(g, shape, kernel, stride, padding, count_include_pad, divisor)


@avg_pool_grad.vjp
def _(F, u, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    return F.avg_pool(u, kernel, stride, padding, ceil_mode, count_include_pad, divisor)


def window_sizes(n: int, name: str, value: Any) -> tuple[int, ...]:
    """Return one number for each of `n` dimensions."""
    if isinstance(value, int):
        return (value,) * n
    listed = tuple(int(v) for v in value)
    if len(listed) not in (1, n):
        raise RuntimeError(f"{name} must either be a single int, or a tuple of {n} ints, got {list(listed)}")
    return listed * n if len(listed) == 1 else listed


def _prepared(n: int, function: str, input: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Any:
    """Return the input with a batch dimension, whether it had one, and kernel, stride, padding, dilation as tuples."""
    shape = input._a.shape
    if len(shape) not in (n + 1, n + 2):
        raise RuntimeError(f"{function}: Expected {n + 1}D or {n + 2}D input, but got input of size: {list(shape)}")
    if 0 in shape[len(shape) - n - 1 :]:
        raise RuntimeError(
            f"{function}: Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional 0 dim batch size for input, but got "
            f"{list(shape)}"
        )
    kernel = window_sizes(n, "kernel_size", kernel)
    stride = kernel if stride is None or stride == () or stride == [] else window_sizes(n, "stride", stride)
    padding, dilation = window_sizes(n, "padding", padding), window_sizes(n, "dilation", dilation)
    if min(kernel) <= 0 or min(stride) <= 0 or min(dilation) <= 0:
        raise RuntimeError(
            f"{function}: kernel size, stride and dilation should be greater than zero, but got {kernel}, {stride}, {dilation}"
        )
    if any(p < 0 or 2 * p > k for p, k in zip(padding, kernel)):
        raise RuntimeError(
            f"pad should be at most half of effective kernel size, but got pad={max(padding)}, kernel_size={max(kernel)} and "
            f"dilation={max(dilation)}"
        )
    if any(s + 2 * p < d * (k - 1) + 1 for s, p, d, k in zip(shape[-n:], padding, dilation, kernel)):
        raise RuntimeError(
            f"Given input size: ({'x'.join(map(str, shape[-n - 1 :]))}) and kernel {kernel}: the output size is too small"
        )
    batched = len(shape) == n + 2
    return (input if batched else traced.unsqueeze(input, 0)), batched, kernel, stride, padding, dilation


def _max(n: int) -> Any:
    name = f"max_pool{n}d"

    def function(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        x, batched, kernel, stride, padding, dilation = _prepared(
            n, name, input, kernel_size, stride, padding, dilation
        )
        values, indices = _max_pool(x, kernel, stride, padding, dilation, ceil_mode)
        if not batched:
            values, indices = traced.squeeze(values, (0,)), traced.squeeze(indices, (0,))
        return (values, indices) if return_indices else values

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Return the largest element of each window over the last {n} dimensions of input [N, C, *S].

    With `return_indices` also where it was, counted over the spatial dimensions. `stride` is the kernel's size unless
    given; `ceil_mode` keeps a last window that is only partly inside.
    """
    return function


def _avg(n: int) -> Any:
    name = f"avg_pool{n}d"

    def function(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        x, batched, kernel, stride, padding, _ = _prepared(n, name, input, kernel_size, stride, padding)
        if divisor_override == 0:
            raise RuntimeError("divisor must be not zero")
        out = _avg_pool(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return out if batched else traced.squeeze(out, (0,))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Return the mean of each window over the last {n} dimensions of input [N, C, *S].

    Padding counts as zeros unless `count_include_pad` is false; `divisor_override` replaces the window's size.
    """
    return function if n == 1 else with_out(function)


def _lp(n: int) -> Any:
    def function(
        input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> Tensor:
        if norm_type == float("inf"):
            return _MAX[n](traced.abs(input), kernel_size, stride, 0, 1, ceil_mode)
        if norm_type == -float("inf"):
            return traced.neg(_MAX[n](traced.neg(traced.abs(input)), kernel_size, stride, 0, 1, ceil_mode))
        mean = _AVG[n](traced.pow(input, norm_type), kernel_size, stride, 0, ceil_mode)
        total = traced.sign(mean) * traced.relu(traced.abs(mean)) * prod(window_sizes(n, "kernel_size", kernel_size))
        return traced.pow(total, 1.0 / norm_type)

    function.__name__ = function.__qualname__ = f"lp_pool{n}d"
    function.__doc__ = f"""Return (sum of x^p)^(1/p), p being `norm_type`, of each window over the last {n} dimensions of input [N, C, *S].

    Infinity means the largest absolute value, minus infinity the smallest.
    """
    return function


_MAX, _AVG = {n: _max(n) for n in (1, 2, 3)}, {n: _avg(n) for n in (1, 2, 3)}
max_pool1d, max_pool2d, max_pool3d = _MAX.values()
avg_pool1d, avg_pool2d, avg_pool3d = _AVG.values()
lp_pool1d, lp_pool2d, lp_pool3d = (_lp(n) for n in (1, 2, 3))
