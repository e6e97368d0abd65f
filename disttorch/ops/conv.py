"""Convolution and its two derivatives, in one, two or three spatial dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.backends import kernels_of
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.registry import traced

__all__ = ["conv1d", "conv2d", "conv3d"]

# The convolution is linear in both operands, and so are its derivatives: each of the three operators below has the
# other two as its derivatives.


@operator(3, name="convolution")
def convolution(xp, x, weight, bias, stride, padding, dilation, groups):
    """Return the cross-correlation of x [N, C, *S] with weight [O, C / groups, *K], plus bias [O]."""
    return kernels_of(x).convolution(x, weight, bias, stride, padding, dilation, groups)


@convolution.vjp("x")
def _(F, g, weight, x_shape, stride, padding, dilation, groups):
    return F.convolution_input_grad(g, F.conj(weight), x_shape, stride, padding, dilation, groups)


@convolution.vjp("weight")
def _(F, g, x, weight_shape, stride, padding, dilation, groups):
    return F.convolution_weight_grad(g, F.conj(x), weight_shape, stride, padding, dilation, groups)


@convolution.vjp("bias")
def _(F, g):
    return F.sum(g, (0, *range(2, g.ndim)), False)


@operator(2)
def convolution_input_grad(xp, g, weight, shape, stride, padding, dilation, groups):
    """Return the gradient of a convolution's input, of shape `shape`."""
    return kernels_of(g).convolution_input_grad(g, weight, shape, stride, padding, dilation, groups)


@convolution_input_grad.vjp("g")
def _(F, u, weight, stride, padding, dilation, groups):
    return F.convolution(u, F.conj(weight), None, stride, padding, dilation, groups)


@convolution_input_grad.vjp("weight")
def _(F, u, g, weight_shape, stride, padding, dilation, groups):
    return F.convolution_weight_grad(F.conj(g), u, weight_shape, stride, padding, dilation, groups)


@operator(2)
def convolution_weight_grad(xp, g, x, shape, stride, padding, dilation, groups):
    """Return the gradient of a convolution's weight, of shape `shape`."""
    return kernels_of(g).convolution_weight_grad(g, x, shape, stride, padding, dilation, groups)


@convolution_weight_grad.vjp("g")
def _(F, u, x, stride, padding, dilation, groups):
    return F.convolution(F.conj(x), u, None, stride, padding, dilation, groups)


@convolution_weight_grad.vjp("x")
def _(F, u, g, x_shape, stride, padding, dilation, groups):
    return F.convolution_input_grad(F.conj(g), u, x_shape, stride, padding, dilation, groups)


def spatial(value: int | Sequence[int], n: int, name: str) -> tuple[int, ...]:
    """Return one number for each of `n` spatial dimensions."""
    if isinstance(value, int):
        return (value,) * n
    listed = tuple(int(v) for v in value)
    if len(listed) == 1:
        return listed * n
    if len(listed) != n:
        raise RuntimeError(
            f"expected {name} to be a single integer value or a list of {n} values to match the convolution dimensions, but got {name}={list(listed)}"
        )
    return listed


def _conv(
    n: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    name = f"conv{n}d"
    x, w = expect_tensor(input, name)._a, expect_tensor(weight, name, "weight")._a
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(
            f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: {list(x.shape)}"
        )
    stride, dilation = spatial(stride, n, "stride"), spatial(dilation, n, "dilation")
    batched = input if x.ndim == n + 2 else traced.unsqueeze(input, 0)
    _check(batched._a, weight, bias, stride, dilation, groups)
    if isinstance(padding, str):
        batched, padding = _named_padding(batched, w.shape[2:], padding, stride, dilation)
    else:
        padding = spatial(padding, n, "padding")
    _check_fits(batched._a.shape[2:], w.shape[2:], padding, dilation)
    out = convolution(batched, weight, bias, stride, padding, dilation, groups)
    return out if batched._a.ndim == x.ndim else traced.squeeze(out, (0,))


def _check(x: Any, weight: Tensor, bias: Tensor | None, stride: Any, dilation: Any, groups: int) -> None:
    w = weight._a
    if w.ndim != x.ndim:
        raise RuntimeError(
            f"expected a weight with {x.ndim} dimensions for an input of size {list(x.shape)}, got a weight of size {list(w.shape)}"
        )
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    if min(stride) <= 0:
        raise RuntimeError("non-positive stride is not supported")
    if min(dilation) <= 0:
        raise RuntimeError("dilation should be greater than zero")
    if w.shape[1] * groups != x.shape[1]:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {list(w.shape)}, expected input{list(x.shape)} to have "
            f"{w.shape[1] * groups} channels, but got {x.shape[1]} channels instead"
        )
    if w.shape[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight of size "
            f"{list(w.shape)} instead"
        )
    if bias is not None and bias._a.shape != (w.shape[0],):
        raise RuntimeError(
            f"Given weight of size {list(w.shape)}, expected bias to be 1-dimensional with {w.shape[0]} elements, but got bias of "
            f"size {list(bias._a.shape)} instead"
        )
    for tensor, what in ((weight, "weight"), (bias, "bias")):
        if tensor is not None and tensor._a.dtype != x.dtype:
            raise RuntimeError(f"Input type ({x.dtype}) and {what} type ({tensor._a.dtype}) should be the same")


def _check_fits(size: Sequence[int], kernel: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> None:
    if min(padding) < 0:
        raise RuntimeError("negative padding is not supported")
    padded = [s + 2 * p for s, p in zip(size, padding)]
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    if any(s < k for s, k in zip(padded, spans)):
        raise RuntimeError(
            f"Calculated padded input size per channel: ({' x '.join(map(str, padded))}). Kernel size: "
            f"({' x '.join(map(str, spans))}). Kernel size can't be greater than actual input size"
        )


def _named_padding(
    x: Tensor, kernel: Sequence[int], name: str, stride: Any, dilation: Any
) -> tuple[Tensor, tuple[int, ...]]:
    """Return input and padding for "valid" (none) or "same" (the output as large as the input)."""
    n = len(kernel)
    if name == "valid":
        return x, (0,) * n
    if name != "same":
        raise RuntimeError(f"Invalid padding string: '{name}'")
    if any(s != 1 for s in stride):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    totals = [d * (k - 1) for d, k in zip(dilation, kernel)]
    if any(t % 2 for t in totals):  # one more on the right: pad there by hand
        shape = (*x._a.shape[:2], *(s + t % 2 for s, t in zip(x._a.shape[2:], totals)))
        corner = (tuple(slice(n) for n in x._a.shape),)
        x = traced.view_scatter(traced.zeros_from(x, shape), x, ((traced.slice.op, 0, corner),))
    return x, tuple(t // 2 for t in totals)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve input [N, C, L] with weight [O, C / groups, K]; see `conv2d`."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve input [N, C, H, W] (or unbatched [C, H, W]) with weight [O, C / groups, KH, KW]; bias [O].

    `padding` is a number for both sides of each dimension, "valid" (none) or "same" (stride 1). The result is
    [N, O, (H + 2 p - d (KH - 1) - 1) // s + 1, ...]. Raises RuntimeError for shapes or types that do not fit.
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve input [N, C, D, H, W] with weight [O, C / groups, KD, KH, KW]; see `conv2d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)
