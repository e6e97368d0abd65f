"""2-D max pooling (imports Numba: load lazily)."""

from __future__ import annotations

import numpy as np

from disttorch.backends.numpy._njit import njit


@njit(nogil=True, cache=True)
def max_pool(
    x: np.ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    y: np.ndarray,
    indices: np.ndarray,
) -> None:
    """Maximum of each window of `x` [P, H, W], and its index, into `y` and `indices` [P, h, w]."""
    height, width = x.shape[1], x.shape[2]
    for plane in range(x.shape[0]):
        for i in range(y.shape[1]):
            row0 = i * stride[0] - padding[0]
            if row0 < 0:
                row0 += (dilation[0] - 1 - row0) // dilation[0] * dilation[0]
            row1 = min(i * stride[0] - padding[0] + (kernel[0] - 1) * dilation[0] + 1, height)
            for j in range(y.shape[2]):
                column0 = j * stride[1] - padding[1]
                column1 = min(column0 + (kernel[1] - 1) * dilation[1] + 1, width)
                if column0 < 0:
                    column0 += (dilation[1] - 1 - column0) // dilation[1] * dilation[1]
                best, where = x[plane, row0, column0], row0 * width + column0
                for row in range(row0, row1, dilation[0]):
                    for column in range(column0, column1, dilation[1]):
                        value = x[plane, row, column]
                        if (value > best) | (value != value):
                            best, where = value, row * width + column
                y[plane, i, j] = best
                indices[plane, i, j] = where


@njit(nogil=True, cache=True)
def max_pool_2x2(x: np.ndarray, y: np.ndarray, indices: np.ndarray) -> None:
    """`max_pool` for windows of 2 by 2 side by side, which LLVM turns into vector code."""
    width = x.shape[2]
    for plane in range(x.shape[0]):
        for i in range(y.shape[1]):
            top, bottom = x[plane, 2 * i], x[plane, 2 * i + 1]
            out, where = y[plane, i], indices[plane, i]
            start = 2 * i * width
            for j in range(out.size):
                best, at = top[2 * j], np.int32(0)
                value = top[2 * j + 1]
                better = (value > best) | (value != value)
                at = np.int32(1) if better else at
                best = value if better else best
                value = bottom[2 * j]
                better = (value > best) | (value != value)
                at = np.int32(width) if better else at
                best = value if better else best
                value = bottom[2 * j + 1]
                better = (value > best) | (value != value)
                at = np.int32(width + 1) if better else at
                best = value if better else best
                out[j] = best
                where[j] = start + 2 * j + at


@njit(nogil=True, cache=True)
def scatter(g: np.ndarray, indices: np.ndarray, out: np.ndarray) -> None:
    """Add each `g` [P, n] to `out` [P, plane] at its index."""
    for plane in range(g.shape[0]):
        row = out[plane]
        for k in range(g.shape[1]):
            row[indices[plane, k]] += g[plane, k]
