"""Padding at the ends of dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.ops.define import expect_tensor
from disttorch.ops.registry import traced
from disttorch.ops.scatter import index_select

_MODES = ("constant", "reflect", "replicate", "circular")


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Add elements before and after the last dimensions; negative numbers take elements away.

    `pad` is (before, after) of the last dimension, then of the one before it, and so on. "constant"
    adds `value` (0). The other modes are for the last 1, 2 or 3 dimensions of images, with or
    without a batch dimension: "reflect" mirrors at the outermost element, "replicate" repeats it,
    "circular" goes on at the other end. Raises RuntimeError for more padding than a mode can make.
    """
    sizes = [int(p) for p in pad]
    shape = expect_tensor(input, "pad")._a.shape
    if len(sizes) % 2:
        raise RuntimeError(f"Padding length must be divisible by 2, got {sizes}")
    if len(sizes) > 2 * len(shape):
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got "
            f"padding length {len(sizes)} and input of dimension {len(shape)}"
        )
    if mode not in _MODES:
        raise NotImplementedError(f"Unrecognised padding mode {mode}, expected one of {_MODES}")
    ends = [(sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)][::-1]
    first = len(shape) - len(ends)
    _check_result(shape, first, ends)
    if mode == "constant":
        return _pad_constant(input, first, ends, 0 if value is None else value)
    if value:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if len(ends) not in (1, 2, 3) or first not in (1, 2):
        raise NotImplementedError(
            "Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now: the last "
            "1, 2 or 3 dimensions of a tensor with one or two more, got "
            f"{len(ends)} of {len(shape)}"
        )
    for k, (before, after) in enumerate(ends):
        if before or after:
            index = _source(shape[first + k], before, after, mode)
            input = index_select(input, first + k, wrap(_like(input, index)))
    return input


def _like(input: Tensor, index: np.ndarray) -> Any:
    return backend_of(input._a).namespace.asarray(index)


def _check_result(shape: tuple[int, ...], first: int, ends: list[tuple[int, int]]) -> None:
    for k, (before, after) in enumerate(ends):
        if shape[first + k] + before + after < 0:
            raise RuntimeError(
                f"The input size {shape[first + k]}, plus negative padding {before} and {after} "
                "resulted in a negative output size, which is invalid. Check dimension "
                f"{first + k} of your input."
            )


def _pad_constant(input: Tensor, first: int, ends: list[tuple[int, int]], value: Any) -> Tensor:
    shape = input._a.shape
    whole = [slice(None)] * first
    cropped = [
        slice(max(-before, 0), size - max(-after, 0)) for size, (before, after) in zip(shape[first:], ends, strict=True)
    ]
    result = [size + before + after for size, (before, after) in zip(shape[first:], ends, strict=True)]
    inside = [slice(max(before, 0), size - max(after, 0)) for size, (before, after) in zip(result, ends, strict=True)]
    xp = backend_of(input._a).namespace
    background = wrap(xp.full((*shape[:first], *result), value, input._a.dtype))
    kept = traced.slice(input, (*whole, *cropped))
    return traced.view_scatter(background, kept, ((traced.slice.op, 0, ((*whole, *inside),)),))


def _source(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """Return for each position of a padded dimension the position that it is taken from."""
    at = np.arange(-before, size + after)
    if mode == "replicate":
        return at.clip(0, size - 1)
    most = size - 1 if mode == "reflect" else size
    if max(before, after) > most:
        raise RuntimeError(
            f"{mode} padding of ({before}, {after}) is too large for a dimension of size {size}: "
            f"at most {most} at each end"
        )
    if mode == "circular":
        return at % size
    mirrored = np.abs(at)
    return np.where(mirrored < size, mirrored, 2 * (size - 1) - mirrored)
