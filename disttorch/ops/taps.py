"""Which elements of a dimension each result is made of, and with what weights: the tables of resampling.

Positions are computed as PyTorch computes them, in the type of the data (float32 for 16-bit floats), since a rounded
position decides which element is the nearest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Taps:
    """result[o] = sum over k of weights[k, o] * x[index[k, o]], for x of size `size`; weights None are ones."""

    size: int
    index: np.ndarray
    weights: np.ndarray | None = None

    @cached_property
    def transposed(self) -> Taps:
        """The transposed table: from gradients of results to gradients of elements."""
        source = self.index.reshape(-1)
        target = np.broadcast_to(np.arange(self.index.shape[1]), self.index.shape).reshape(-1)
        weight = np.ones(source.size) if self.weights is None else self.weights.reshape(-1)
        used = np.flatnonzero(weight)
        used = used[np.argsort(source[used], kind="stable")]
        source, target, weight = source[used], target[used], weight[used]
        count = np.bincount(source, minlength=self.size)
        first = np.cumsum(count) - count
        rank = np.arange(source.size) - first[source]
        depth = int(count.max(initial=0))
        filler = target[np.minimum(first, max(len(target) - 1, 0))] if len(target) else np.zeros(self.size, np.int64)
        index, weights = np.tile(filler, (depth, 1)), np.zeros((depth, self.size))
        index[rank, source], weights[rank, source] = target, weight
        plain = bool((weights == 1).all())
        return Taps(self.index.shape[1], index, None if plain else weights)

    def apply(self, xp: Any, x: Any, dim: int) -> Any:
        """Return `x` resampled along `dim`."""
        if not self.index.shape[0]:
            return xp.zeros((*x.shape[:dim], self.index.shape[1], *x.shape[dim + 1 :]), x.dtype)
        total = None
        for k in range(self.index.shape[0]):
            part = x.take(xp.asarray(self.index[k]), dim)
            if self.weights is not None:
                shape = (-1, *(1 for _ in range(x.ndim - dim - 1)))
                part *= xp.asarray(self.weights[k].astype(x.dtype)).reshape(shape)
            total = part if total is None else xp.add(total, part, total)
        return total

    def apply_to_bytes(self, xp: Any, x: Any, dim: int) -> Any:
        """Return uint8 `x` resampled along `dim` as PyTorch does it: weights in fixed point, rounded to whole bytes."""
        if self.weights is None:
            return self.apply(xp, x, dim)
        bits = 0
        while int(0.5 + self.weights.max() * (1 << (bits + 1))) < 1 << 15 and bits < 22:
            bits += 1
        fixed = np.trunc(self.weights * (1 << bits) + np.copysign(0.5, self.weights)).astype(np.int32)
        total = Taps(self.size, self.index, fixed).apply(xp, x.astype(np.int32), dim)
        return xp.clip((total + (1 << bits >> 1)) >> bits, 0, 255).astype(np.uint8)


def scale_of(size: int, out: int, align_corners: bool, scale: float | None, real: Any) -> Any:
    """Return the distance between two results, in elements."""
    if align_corners:
        return real(size - 1) / real(out - 1) if out > 1 else real(0)
    return real(1.0 / scale) if scale is not None and scale > 0 else real(size) / real(out)


def _positions(size: int, out: int, align_corners: bool, scale: float | None, real: Any) -> np.ndarray:
    step, at = scale_of(size, out, align_corners, scale, real), np.arange(out).astype(real)
    return step * at if align_corners else step * (at + real(0.5)) - real(0.5)


@lru_cache(maxsize=256)
def nearest(size: int, out: int, scale: float | None, exact: bool) -> Taps:
    """Return the table of the nearest element ("nearest-exact"), or of the one before ("nearest")."""
    step = scale_of(size, out, False, scale, np.float32)
    at = np.arange(out, dtype=np.float32) + np.float32(0.5 if exact else 0)
    index = np.floor(at * step).astype(np.int64)
    return Taps(size, np.minimum(index, size - 1)[None])


@lru_cache(maxsize=256)
def linear(size: int, out: int, align_corners: bool, scale: float | None, real: Any) -> Taps:
    """Return the table of linear interpolation."""
    if size == out and scale in (None, 1):
        return Taps(size, np.arange(size)[None])
    at = np.maximum(_positions(size, out, align_corners, scale, real), 0)
    lower = np.minimum(at.astype(np.int64), size - 1)
    upper = np.minimum(lower + 1, size - 1)
    share = np.clip(at - lower.astype(real), 0, 1)
    return Taps(size, np.stack([lower, upper]), np.stack([1 - share, share]).astype(np.float64))


_CUBIC = -0.75


@lru_cache(maxsize=256)
def cubic(size: int, out: int, align_corners: bool, scale: float | None, real: Any) -> Taps:
    """Return the table of cubic convolution (Keys 1981) with a = -0.75; outside, the outermost element goes on."""
    at = _positions(size, out, align_corners, scale, real)
    whole = np.floor(at)
    share = np.clip(at - whole, 0, 1).astype(np.float64)
    base = whole.astype(np.int64)
    index = np.stack([np.clip(base + k, 0, size - 1) for k in (-1, 0, 1, 2)])
    return Taps(size, index, np.stack(cubic_weights(share)))


def cubic_weights(share: Any) -> list[Any]:
    """Return the weights of the four elements around a place, `share` of the way from the second to the third."""
    far, near = _cubic_far, _cubic_near
    return [far(share + 1), near(share), near(1 - share), far(2 - share)]


def _cubic_near(t: Any, a: float = _CUBIC) -> Any:
    return ((a + 2) * t - (a + 3)) * t * t + 1


def _cubic_far(t: Any, a: float = _CUBIC) -> Any:
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a


def _triangle(t: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(t), 0)


def _smooth(t: np.ndarray) -> np.ndarray:
    t = np.abs(t)
    return np.where(t < 1, _cubic_near(t, -0.5), np.where(t < 2, _cubic_far(t, -0.5), 0))


def _lanczos(t: np.ndarray) -> np.ndarray:
    return np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0)


_FILTERS = {"bilinear": (2, _triangle), "bicubic": (4, _smooth), "lanczos": (6, _lanczos)}


@lru_cache(maxsize=256)
def antialiased(mode: str, size: int, out: int, align_corners: bool, scale: float | None, real: Any) -> Taps:
    """Return the table of a filter as wide as a step between results, which when made smaller uses every element."""
    width, function = _FILTERS[mode]
    step = float(scale_of(size, out, align_corners, scale, real))
    reach = width / 2 * max(step, 1.0)
    center = step * (np.arange(out) + 0.5)
    first = np.maximum((center - reach + 0.5).astype(np.int64), 0)
    count = np.minimum((center + reach + 0.5).astype(np.int64), size) - first
    k = np.arange(int(count.max(initial=1)))[:, None]
    weights = function((k + first - center + 0.5) / max(step, 1.0)) * (k < count)
    index = np.minimum(k, count - 1) + first
    return Taps(size, index.clip(0, size - 1), weights / weights.sum(0))


@lru_cache(maxsize=256)
def average(size: int, out: int) -> Taps:
    """Return the table of the means of `out` windows of nearly equal size that cover everything."""
    first, count = windows(size, out)
    k = np.arange(int(count.max(initial=0)))[:, None]
    return Taps(size, first + np.minimum(k, count - 1), (k < count) / count)


def windows(size: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each of the `out` windows of adaptive pooling begins, and how many elements it has."""
    at = np.arange(out)
    first = at * size // max(out, 1)
    last = -((-(at + 1) * size) // max(out, 1))
    return first, last - first


def output_length(size: int, factor: float) -> int:
    """Return the size that a dimension has after scaling by `factor`."""
    return math.floor(float(size) * factor)
