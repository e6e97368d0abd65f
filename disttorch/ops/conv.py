"""Convolution and its two derivatives, in one, two or three spatial dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.backends import kernels_of
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.registry import traced

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]

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
def _(F, g, x, weight_shape, stride, padding, dilation, groups, *, into=None):
    if into is None:
        return F.convolution_weight_grad(g, F.conj(x), weight_shape, stride, padding, dilation, groups)
    return kernels_of(g).convolution_weight_grad(g, F.conj(x), weight_shape, stride, padding, dilation, groups, into)


@convolution.vjp("bias")
def _(F, g):
    return F.sum(g, (0, *range(2, g.ndim)), False)


@operator(2)
def convolution_input_grad(xp, g, weight, shape, stride, padding, dilation, groups):
    """Return the gradient of a convolution's input, of shape `shape`."""
    return kernels_of(g).convolution_input_grad(g, weight, shape, stride, padding, dilation, groups)


@convolution_input_grad.vjp("g")
def _(F, u, weight, g_shape, stride, padding, dilation, groups):
    return _cropped(F, F.convolution(u, F.conj(weight), None, stride, padding, dilation, groups), g_shape)


@convolution_input_grad.vjp("weight")
def _(F, u, g, weight_shape, stride, padding, dilation, groups):
    return F.convolution_weight_grad(F.conj(g), u, weight_shape, stride, padding, dilation, groups)


@operator(2)
def convolution_weight_grad(xp, g, x, shape, stride, padding, dilation, groups):
    """Return the gradient of a convolution's weight, of shape `shape`."""
    return kernels_of(g).convolution_weight_grad(g, x, shape, stride, padding, dilation, groups)


@convolution_weight_grad.vjp("g")
def _(F, u, x, g_shape, stride, padding, dilation, groups):
    return _cropped(F, F.convolution(F.conj(x), u, None, stride, padding, dilation, groups), g_shape)


@convolution_weight_grad.vjp("x")
def _(F, u, g, x_shape, stride, padding, dilation, groups):
    return F.convolution_input_grad(F.conj(g), u, x_shape, stride, padding, dilation, groups)


def _cropped(F: Any, y: Any, shape: tuple[int, ...]) -> Any:
    """Return the first part of a convolution: a dilated transposed one's `output_padding` can add whole positions."""
    return y if y.shape == shape else F.slice(y, tuple(slice(n) for n in shape))


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
    _check_numbers(stride, dilation, groups)
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
    _check_operands(x, weight, bias, w.shape[0])


def _check_numbers(stride: Sequence[int], dilation: Sequence[int], groups: int) -> None:
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    if min(stride) <= 0:
        raise RuntimeError("non-positive stride is not supported")
    if min(dilation) <= 0:
        raise RuntimeError("dilation should be greater than zero")


def _check_operands(x: Any, weight: Tensor, bias: Tensor | None, outputs: int) -> None:
    if bias is not None and bias._a.shape != (outputs,):
        raise RuntimeError(
            f"Given weight of size {list(weight._a.shape)}, expected bias to be 1-dimensional with {outputs} elements, but "
            f"got bias of size {list(bias._a.shape)} instead"
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


# -- public functions ---------------------------------------------------------------------------------------------


def _convolution(n: int) -> Callable[..., Tensor]:
    def function(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        return _conv(n, input, weight, bias, stride, padding, dilation, groups)

    function.__name__ = function.__qualname__ = f"conv{n}d"
    sizes, kernel = _AXES[n], ", ".join("K" + axis for axis in _AXES[n].split(", "))
    function.__doc__ = f"""Convolve input [N, C, {sizes}] (or without N) with weight [O, C / groups, {kernel}]; bias [O].

    `padding` is a number for both sides of each dimension, "valid" (none) or "same" (stride 1). The result is
    [N, O, ...], a size S becoming (S + 2 p - d (K - 1) - 1) // s + 1. Raises RuntimeError for shapes or types that do
    not fit.
    """
    return function


def _transposed_convolution(n: int) -> Callable[..., Tensor]:
    def function(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor:
        return _conv_transpose(n, input, weight, bias, stride, padding, output_padding, groups, dilation)

    function.__name__ = function.__qualname__ = f"conv_transpose{n}d"
    sizes, kernel = _AXES[n], ", ".join("K" + axis for axis in _AXES[n].split(", "))
    function.__doc__ = f"""Return the transpose of a convolution: input [N, C, {sizes}], weight [C, O / groups, {kernel}].

    The result is [N, O, ...], a size S becoming (S - 1) s - 2 p + d (K - 1) + output_padding + 1; bias is [O].
    """
    return function


_AXES = {1: "L", 2: "H, W", 3: "D, H, W"}
conv1d, conv2d, conv3d = (_convolution(n) for n in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (_transposed_convolution(n) for n in (1, 2, 3))


def _conv_transpose(
    n: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Tensor:
    name = f"conv_transpose{n}d"
    x, w = expect_tensor(input, name)._a, expect_tensor(weight, name, "weight")._a
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(
            f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: {list(x.shape)}"
        )
    stride, padding, dilation = (
        spatial(stride, n, "stride"),
        spatial(padding, n, "padding"),
        spatial(dilation, n, "dilation"),
    )
    extra = spatial(output_padding, n, "output_padding")
    _check_transposed(x, weight, bias, stride, padding, extra, dilation, groups)
    batched = input if x.ndim == n + 2 else traced.unsqueeze(input, 0)
    size = tuple(
        (s - 1) * t - 2 * p + d * (k - 1) + e + 1
        for s, t, p, d, k, e in zip(x.shape[-n:], stride, padding, dilation, w.shape[2:], extra)
    )
    if min(size) < 0:
        raise RuntimeError(f"Given input size {list(x.shape)}, the calculated output size {list(size)} is too small")
    shape = (batched._a.shape[0], w.shape[1] * groups, *size)
    out = convolution_input_grad(batched, weight, shape, stride, padding, dilation, groups)
    if bias is not None:
        out = traced.add(out, traced.reshape(bias, (-1, *(1 for _ in size))))
    return out if x.ndim == n + 2 else traced.squeeze(out, (0,))


def _check_transposed(
    x: Any,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    extra: Any,
    dilation: Any,
    groups: int,
) -> None:
    w, n = weight._a, len(stride)
    _check_numbers(stride, dilation, groups)
    if min(padding) < 0:
        raise RuntimeError("negative padding is not supported")
    if w.ndim != n + 2:
        raise RuntimeError(
            f"expected a weight with {n + 2} dimensions for an input of size {list(x.shape)}, got a weight of size {list(w.shape)}"
        )
    if w.shape[0] != x.shape[-n - 1] or w.shape[0] % groups:
        raise RuntimeError(
            f"Given transposed=1, weight of size {list(w.shape)} and groups={groups}, expected input {list(x.shape)} to have "
            f"{w.shape[0]} channels in {groups} groups, but got {x.shape[-n - 1]} channels instead"
        )
    if any(e < 0 or e >= max(s, d) for e, s, d in zip(extra, stride, dilation)):
        raise RuntimeError(
            f"output padding must be smaller than either stride or dilation, but got output_padding={list(extra)}, "
            f"stride={list(stride)} and dilation={list(dilation)}"
        )
    _check_operands(x, weight, bias, w.shape[1] * groups)
