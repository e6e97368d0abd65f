"""Pooling by windows that follow from the size of the result: adaptive and fractional pooling; and undoing max pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.ops import taps
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.pool import window_sizes
from disttorch.ops.random import rand
from disttorch.ops.registry import traced

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "fractional_max_pool2d", "fractional_max_pool3d", "max_unpool1d", "max_unpool2d",
    "max_unpool3d",
]  # fmt: skip


@operator(1, differentiable=1)
def max_of_places(xp, x, places, size):
    """Return the largest of the elements of x [N, C, *S] at `places`, and which place that is; both [N, C, *size].

    `places` are indices over the spatial dimensions, [windows, n], or [N, C, windows, n] where every plane has its own.
    """
    flat, places = x.reshape(*x.shape[:2], 1, prod(x.shape[2:])), xp.asarray(places)
    places = xp.broadcast_to(places, (*x.shape[:2], *places.shape[-2:]))
    columns = places.reshape(*x.shape[:2], 1, places.shape[2] * places.shape[3])
    candidates = xp.take_along_axis(flat, columns, 3).reshape(places.shape)
    best = candidates.argmax(3, keepdims=True) if candidates.size else xp.zeros((*places.shape[:3], 1), np.int64)
    values, indices = (xp.take_along_axis(a, best, 3) for a in (candidates, places))
    return values.reshape(*x.shape[:2], *size), indices.reshape(*x.shape[:2], *size)


@max_of_places.vjp
def _(F, g, out1, x_shape):
    return F.max_pool_grad(g[0], out1, x_shape)


def _places(spatial: Sequence[int], starts: Sequence[np.ndarray], counts: Sequence[Any]) -> np.ndarray:
    """Return [windows, n], the elements of each window in order; smaller windows name their last row again.

    `starts` and `counts` are given for each dimension, [*, windows]; leading dimensions stay.
    """
    lead = starts[0].shape[:-1]
    found = np.zeros((*lead, 1, 1), np.int64)
    for size, start, count in zip(spatial, starts, counts):
        k = np.arange(int(np.max(count, initial=1)))
        axis = start[..., None] + np.minimum(k, np.asarray(count)[..., None] - 1)
        found = found[..., :, None, :, None] * size + axis[..., None, :, None, :]
        found = found.reshape(*lead, found.shape[-4] * found.shape[-3], found.shape[-2] * found.shape[-1])
    return found


def _batched(n: int, function: str, input: Tensor) -> tuple[Tensor, bool]:
    """Return the input with a batch dimension, and whether it had one."""
    shape = expect_tensor(input, function)._a.shape
    if len(shape) not in (n + 1, n + 2):
        raise RuntimeError(f"{function}: Expected {n + 1}D or {n + 2}D tensor, but got {list(shape)}")
    if 0 in shape[-n:]:
        raise RuntimeError(
            f"{function}: Expected input to have non-zero size for non-batch dimensions, but input has sizes {list(shape)}"
        )
    batched = len(shape) == n + 2
    return (input if batched else traced.unsqueeze(input, 0)), batched


def _plain(result: Tensor, batched: bool) -> Tensor:
    return result if batched else traced.squeeze(result, (0,))


def _made(function: Callable[..., Any], name: str, doc: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


# -- adaptive -----------------------------------------------------------------------------------------------------


def _result_size(n: int, function: str, input: Tensor, output_size: Any) -> tuple[int, ...]:
    spatial = expect_tensor(input, function)._a.shape[-n:]
    if n > 1 and input._a.ndim <= n:
        raise ValueError(f"Input dimension should be at least {n + 1}, but got {input._a.ndim}")
    listed = [output_size] * n if isinstance(output_size, int) or output_size is None else list(output_size)
    if len(listed) == 1:
        listed = listed * n
    if len(listed) != n:
        raise RuntimeError(f"{function}: 'output_size' should contain one int for each of {n} dimensions, got {listed}")
    size = tuple(s if o is None else int(o) for s, o in zip(spatial, listed))
    if min(size) < 0:
        raise RuntimeError(
            f"{function}: elements of output_size must be greater than or equal to 0 but received {list(size)}"
        )
    return size


def _adaptive_avg(n: int) -> Callable[..., Any]:
    name = f"adaptive_avg_pool{n}d"

    def function(input: Tensor, output_size: Any) -> Tensor:
        size = _result_size(n, name, input, output_size)
        x, batched = _batched(n, name, input)
        spatial = x._a.shape[2:]
        if all(o and s % o == 0 for s, o in zip(spatial, size)):
            kernel = tuple(s // o for s, o in zip(spatial, size))
            return _plain(traced.avg_pool(x, kernel, kernel, (0,) * n, False, True, None), batched)
        plan = tuple((k + 2, taps.average(s, o)) for k, (s, o) in enumerate(zip(spatial, size)))
        return _plain(traced.resample(x, plan), batched)

    return _made(
        function,
        name,
        f"""Return the means of windows that cover the last {n} dimensions of input [N, C, *S], `output_size` of them.

    A size of None keeps the input's.
    """,
    )


def _adaptive_max(n: int) -> Callable[..., Any]:
    name = f"adaptive_max_pool{n}d"

    def function(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        size = _result_size(n, name, input, output_size)
        x, batched = _batched(n, name, input)
        spatial = x._a.shape[2:]
        bounds = [taps.windows(s, o) for s, o in zip(spatial, size)]
        places = _places(spatial, [b[0] for b in bounds], [b[1] for b in bounds])
        values, indices = max_of_places(x, places, size)
        return (_plain(values, batched), _plain(indices, batched)) if return_indices else _plain(values, batched)

    return _made(
        function,
        name,
        f"""Return the largest elements of windows that cover the last {n} dimensions of input [N, C, *S].

    There are `output_size` windows (None: the input's size). With `return_indices` also where each element was, counted
    over the spatial dimensions.
    """,
    )


# -- fractional ---------------------------------------------------------------------------------------------------


def _fractional_max(n: int) -> Callable[..., Any]:
    name = f"fractional_max_pool{n}d"

    def function(
        input: Tensor,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> Any:
        x, batched = _batched(n, name, input)
        spatial, kernel = x._a.shape[2:], window_sizes(n, "kernel_size", kernel_size)
        size = _fractional_size(n, name, spatial, kernel, output_size, output_ratio)
        if _random_samples is None:
            _random_samples = rand(*x._a.shape[:2], n, dtype=input.dtype)
        samples = _random_samples.cpu()._a
        if samples.shape != (*x._a.shape[:2], n):
            raise RuntimeError(
                f"{name}: Expect _random_samples to have shape {[*x._a.shape[:2], n]}, but got {list(samples.shape)}"
            )
        order = range(n) if n == 3 else (1, 0)  # in two dimensions the first number is that of the width
        starts = [_starts(samples[..., k], s, o, w) for k, s, o, w in zip(order, spatial, size, kernel)]
        values, indices = max_of_places(x, _places(spatial, starts, kernel), size)
        return (_plain(values, batched), _plain(indices, batched)) if return_indices else _plain(values, batched)

    return _made(
        function,
        name,
        f"""Return the largest elements of windows at random places, in order, of input [N, C, *S] (arXiv:1412.6071).

    The {n} dimensions of the result have the sizes `output_size`, or `output_ratio` of the input's. With `return_indices`
    also where each element was, counted over the spatial dimensions.
    """,
    )


def _fractional_size(
    n: int, name: str, spatial: Sequence[int], kernel: Sequence[int], output_size: Any, output_ratio: Any
) -> tuple[int, ...]:
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    if output_size is None:
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * n
        size = tuple(int(s * r) for s, r in zip(spatial, ratios))
    else:
        size = window_sizes(n, "output_size", output_size)
    if min(kernel) <= 0 or min(size) <= 0 or any(o + k - 1 > s for o, k, s in zip(size, kernel, spatial)):
        raise RuntimeError(
            f"{name}: output_size {list(size)} and kernel_size {list(kernel)} do not fit into an input of size {list(spatial)}"
        )
    return size


def _starts(sample: np.ndarray, size: int, out: int, kernel: int) -> np.ndarray:
    """Return [N, C, out], where windows begin: steps of (size - kernel) / (out - 1) from a random place, rounded down."""
    if out == 1:
        return np.full((*sample.shape, 1), size - kernel)
    real = np.float64 if sample.dtype == np.float64 else np.float32
    sample = sample.astype(real)[..., None]
    step = real(size - kernel) / real(out - 1)
    starts = ((np.arange(out).astype(real) + sample) * step).astype(np.int64) - (sample * step).astype(np.int64)
    starts[..., -1] = size - kernel
    return starts


# -- the way back -------------------------------------------------------------------------------------------------


def _max_unpool(n: int) -> Callable[..., Any]:
    name = f"max_unpool{n}d"

    def function(
        input: Tensor,
        indices: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        output_size: Any = None,
    ) -> Tensor:
        kernel = window_sizes(n, "kernel_size", kernel_size)
        steps = kernel if stride is None else window_sizes(n, "stride", stride)
        size = _unpooled_size(name, input, kernel, steps, window_sizes(n, "padding", padding), output_size)
        _check_unpool(n, name, input, indices, steps)
        x, batched = _batched(n, name, input)
        places = indices._a.reshape(*x._a.shape[:2], -1)
        if places.size and not 0 <= int(places.min()) <= int(places.max()) < prod(size):
            raise RuntimeError(
                f"Found an invalid max index: the places lie between {places.min()} and {places.max()}, the output has "
                f"{prod(size)} (output volumes are of size {'x'.join(map(str, size))})"
            )
        empty = traced.zeros_from(x, (*x._a.shape[:2], prod(size)))
        flat = traced.scatter(empty, traced.reshape(x, places.shape), 2, places)
        return _plain(traced.reshape(flat, (*x._a.shape[:2], *size)), batched)

    return _made(
        function,
        name,
        f"""Put the elements of input [N, C, *S] where `indices` says that max_pool{n}d found them, and zeros elsewhere.

    The result has the size that such a pooling came from, or `output_size`.
    """,
    )


def _unpooled_size(
    name: str, input: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], output_size: Any
) -> tuple[int, ...]:
    n = len(kernel)
    default = [
        (s - 1) * t + k - 2 * p for s, t, k, p in zip(expect_tensor(input, name)._a.shape[-n:], stride, kernel, padding)
    ]
    size = (
        default
        if output_size is None
        else list(output_size)[len(output_size) - n if len(output_size) == n + 2 else 0 :]
    )
    if len(size) != n:
        raise ValueError(
            f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a length of '{len(size)}'"
        )
    for k, (o, d, t) in enumerate(zip(size, default, stride)):
        if not d - t < o < d + t:
            raise ValueError(f'invalid output_size "{size}" (dim {k} must be between {d - t} and {d + t})')
        if o < 0:
            raise ValueError(f"max_unpooling: output_size must contain non-negative spatial dimensions, but got {size}")
    return tuple(size)


def _check_unpool(n: int, name: str, input: Tensor, indices: Tensor, stride: Sequence[int]) -> None:
    if expect_tensor(indices, name, "indices")._a.dtype != np.int64:
        raise RuntimeError(f"elements in indices should be type int64 but got: {indices.dtype!r}")
    if indices._a.shape != input._a.shape:
        raise RuntimeError(f"Expected shape of indices to be: {list(input._a.shape)} but got: {list(indices._a.shape)}")
    if min(stride) <= 0:
        raise RuntimeError(f"strides should be greater than zero, but got stride: {list(stride)}")


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_adaptive_avg(n) for n in (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_adaptive_max(n) for n in (1, 2, 3))
fractional_max_pool2d, fractional_max_pool3d = _fractional_max(2), _fractional_max(3)
max_unpool1d, max_unpool2d, max_unpool3d = (_max_unpool(n) for n in (1, 2, 3))
