"""Samples of `disttorch.ops.resample`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.rows.conv import layer
from disttorch.testing.sample import A, Sample, one

_RESIZED: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 2, 3), {"size": 5}),
    ((1, 1, 2, 3), {"scale_factor": 1.6, "mode": "nearest-exact"}),
    ((1, 2, 4), {"size": 3, "mode": "linear"}),
    ((1, 1, 3, 2), {"size": (5, 3), "mode": "bilinear", "align_corners": True}),
    ((1, 1, 4, 3), {"size": (2, 2), "mode": "bilinear", "antialias": True}),
    ((1, 1, 3, 3), {"scale_factor": (1.5, 2), "mode": "bicubic"}),
    ((1, 1, 5, 4), {"size": (2, 3), "mode": "bicubic", "antialias": True}),
    ((1, 1, 2, 2, 3), {"size": (3, 2, 4), "mode": "trilinear"}),
    ((1, 1, 5, 3), {"size": (3, 2), "mode": "area"}),
)


def samples() -> Iterator[Sample]:
    """Yield the samples of resizing and of rearranging."""
    for shape, named in _RESIZED:
        yield from one("interpolate", layer("interpolate", **named), A(*shape), covers="resample")
    for name, named in (
        ("upsample", {"mode": "bilinear", "align_corners": False}),
        ("upsample_nearest", {}),
        ("upsample_bilinear", {}),
    ):
        yield from one(name, _quietly(layer(name, 3, **named)), A(1, 1, 2, 2), covers="resample")
    yield from one("pixel_shuffle", layer("pixel_shuffle", 2), A(1, 4, 1, 2), covers="permute", expected=_shuffled)
    yield from one("pixel_unshuffle", layer("pixel_unshuffle", 2), A(2, 2, 4), covers="permute")
    yield from one("channel_shuffle", layer("channel_shuffle", 2), A(1, 4, 2), covers="permute",
                   expected=lambda x: x[:, [0, 2, 1, 3]])  # fmt: skip


def _quietly(call: Any) -> Any:
    """Return a call without the warning that the function is deprecated."""

    def quiet(*arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return call(*arguments)

    return quiet


def _shuffled(x: Any) -> Any:
    return np.stack([x[:, [0, 1]], x[:, [2, 3]]], 2).transpose(0, 3, 2, 4, 1).reshape(1, 1, 2, 4)
