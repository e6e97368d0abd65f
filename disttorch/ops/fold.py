"""Sliding blocks of images as columns (`unfold`), and their sum back into images (`fold`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.core.dtypes import from_numpy_dtype
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.pool import window_sizes
from disttorch.ops.registry import traced

__all__ = ["fold", "unfold"]

Pair = tuple[int, int]


@operator(1)
def im2col(xp, x, kernel, dilation, padding, stride):
    """Return the blocks of x [N, C, H, W] as columns [N, C * KH * KW, blocks]."""
    n, c, *size = x.shape
    blocks = _blocks(size, kernel, dilation, padding, stride)
    padded = xp.zeros((n, c, *(s + 2 * p for s, p in zip(size, padding))), x.dtype)
    padded[_inner(size, padding)] = x
    columns = xp.empty((n, c, *kernel, *blocks), x.dtype)
    for (i, j), window in _offsets(kernel, blocks, dilation, stride):
        columns[:, :, i, j] = padded[window]
    return columns.reshape(n, c * kernel[0] * kernel[1], blocks[0] * blocks[1])


@im2col.vjp
def _(F, g, x_shape, kernel, dilation, padding, stride):
    return F.col2im(g, x_shape[2:], kernel, dilation, padding, stride)


@operator(1)
def col2im(xp, x, size, kernel, dilation, padding, stride):
    """Return images [N, C, *size], the sum of blocks that are the columns x [N, C * KH * KW, blocks]."""
    blocks = _blocks(size, kernel, dilation, padding, stride)
    n, c = x.shape[0], x.shape[1] // (kernel[0] * kernel[1])
    columns = x.reshape(n, c, *kernel, *blocks)
    total = xp.zeros((n, c, *(s + 2 * p for s, p in zip(size, padding))), x.dtype)
    for (i, j), window in _offsets(kernel, blocks, dilation, stride):
        total[window] += columns[:, :, i, j]
    return total[_inner(size, padding)].copy()


@col2im.vjp
def _(F, g, kernel, dilation, padding, stride):
    return F.im2col(g, kernel, dilation, padding, stride)


def _blocks(size: Sequence[int], kernel: Pair, dilation: Pair, padding: Pair, stride: Pair) -> tuple[int, ...]:
    return tuple(
        (s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, d, p, t in zip(size, kernel, dilation, padding, stride)
    )


def _inner(size: Sequence[int], padding: Pair) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(p, p + s) for s, p in zip(size, padding)))


def _offsets(kernel: Pair, blocks: Sequence[int], dilation: Pair, stride: Pair) -> Iterator[tuple[Pair, Any]]:
    """Yield each place in a block, with the slices that take it from all blocks."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            places = zip((i, j), blocks, dilation, stride)
            yield (i, j), (..., *(slice(k * d, k * d + (b - 1) * t + 1, t) for k, b, d, t in places))


def _window(kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Any, Any, Any, Any]:
    kernel, spread, ends, steps = (
        window_sizes(2, name, value)
        for name, value in (
            ("kernel_size", kernel_size), ("dilation", dilation), ("padding", padding), ("stride", stride),
        )
    )  # fmt: skip
    for what, sizes in (("kernel size", kernel), ("dilation", spread), ("stride", steps)):
        if min(sizes) <= 0:
            raise RuntimeError(f"{what} should be greater than zero, but got {list(sizes)}")
    if min(ends) < 0:
        raise RuntimeError(f"padding should be non-negative, but got {list(ends)}")
    return kernel, spread, ends, steps


def _batched(function: str, input: Tensor, ndim: int) -> tuple[Tensor, bool]:
    shape = expect_tensor(input, function)._a.shape
    if len(shape) not in (ndim - 1, ndim) or 0 in shape[len(shape) - ndim + 1 :]:
        raise RuntimeError(
            f"{function}: Expected {ndim - 1}D or {ndim}D (batch mode) tensor with possibly 0 batch size and other non-zero "
            f"dimensions for input, but got: {list(shape)}"
        )
    if input._a.dtype.kind in "iu":
        kernel = "im2col_out_cpu" if function == "unfold" else "col2im_out_cpu"
        raise NotImplementedError(f'"{kernel}" not implemented for {from_numpy_dtype(input._a.dtype)!r}')
    return (input, True) if len(shape) == ndim else (traced.unsqueeze(input, 0), False)


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Return the sliding blocks of input [N, C, H, W] as columns, [N, C * KH * KW, number of blocks]."""
    window = _window(kernel_size, dilation, padding, stride)
    x, batched = _batched("unfold", input, 4)
    blocks = _blocks(x._a.shape[2:], *window)
    if min(blocks) < 1:
        raise RuntimeError(
            f"Given input with spatial size {x._a.shape[2:]}, kernel_size={window[0]}, dilation={window[1]}, padding="
            f"{window[2]}, calculated shape of the array of sliding blocks as {blocks}, but its components must be at least one."
        )
    columns = im2col(x, *window)
    return columns if batched else traced.squeeze(columns, (0,))


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Return images [N, C, *output_size], the sum of the sliding blocks that are the columns of `input`.

    `input` is [N, C * KH * KW, number of blocks], as `unfold` makes it.
    """
    size = window_sizes(2, "output_size", output_size)
    window = _window(kernel_size, dilation, padding, stride)
    x, batched = _batched("fold", input, 3)
    kernel = window[0]
    if x._a.shape[1] % (kernel[0] * kernel[1]):
        raise RuntimeError(
            f"Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got input.size(1)="
            f"{x._a.shape[1]} and kernel_size={kernel}."
        )
    blocks = _blocks(size, *window)
    if min(blocks) < 1 or blocks[0] * blocks[1] != x._a.shape[2]:
        raise RuntimeError(
            f"Given output_size={size}, kernel_size={kernel}, dilation={window[1]}, padding={window[2]}, stride={window[3]}, "
            f"expected size of input's dimension 2 to match the calculated number of sliding blocks {blocks[0]} * "
            f"{blocks[1]}, but got input.size(2)={x._a.shape[2]}."
        )
    images = col2im(x, size, *window)
    return images if batched else traced.squeeze(images, (0,))
