"""Padding layers."""

from __future__ import annotations

from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.nn import functional as F
from disttorch.nn.modules.module import Module
from disttorch.nn.modules.utils import ntuple


class _PadNd(Module):
    """Padding of the last `dimensions` dimensions with a mode of `F.pad`.

    `padding` is a number for all ends, or (before, after) of the last dimension, then of the one
    before it, and so on.
    """

    dimensions: int
    mode: str

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = ntuple(padding, 2 * self.dimensions)

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with its last dimensions padded."""
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPadNd(_PadNd):
    mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with its last dimensions padded."""
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPadNd):
    """Add `value` at both ends of [*, L]."""

    dimensions = 1


class ConstantPad2d(_ConstantPadNd):
    """Add `value` around [*, H, W]."""

    dimensions = 2


class ConstantPad3d(_ConstantPadNd):
    """Add `value` around [*, D, H, W]."""

    dimensions = 3


class _ZeroPad:
    """The part of the zero-padding layers that is not that of the constant ones."""

    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)  # type: ignore[call-arg]

    def extra_repr(self) -> str:
        return f"{self.padding}"  # type: ignore[attr-defined]


class ZeroPad1d(_ZeroPad, ConstantPad1d):
    """Add zeros at both ends of [*, L]."""


class ZeroPad2d(_ZeroPad, ConstantPad2d):
    """Add zeros around [*, H, W]."""


class ZeroPad3d(_ZeroPad, ConstantPad3d):
    """Add zeros around [*, D, H, W]."""


class ReflectionPad1d(_PadNd):
    """Mirror [N, C, L] at its outermost elements."""

    dimensions, mode = 1, "reflect"


class ReflectionPad2d(_PadNd):
    """Mirror [N, C, H, W] at its outermost elements."""

    dimensions, mode = 2, "reflect"


class ReflectionPad3d(_PadNd):
    """Mirror [N, C, D, H, W] at its outermost elements."""

    dimensions, mode = 3, "reflect"


class ReplicationPad1d(_PadNd):
    """Repeat the outermost elements of [N, C, L]."""

    dimensions, mode = 1, "replicate"


class ReplicationPad2d(_PadNd):
    """Repeat the outermost elements of [N, C, H, W]."""

    dimensions, mode = 2, "replicate"


class ReplicationPad3d(_PadNd):
    """Repeat the outermost elements of [N, C, D, H, W]."""

    dimensions, mode = 3, "replicate"


class _CircularPadNd(_PadNd):
    mode = "circular"

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with its last dimensions padded."""
        n = self.dimensions
        if input.ndim not in (n + 1, n + 2):
            raise ValueError(f"expected {n + 1}D or {n + 2}D input (got {input.ndim}D input)")
        return super().forward(input)


class CircularPad1d(_CircularPadNd):
    """Go on at the other end of [N, C, L]."""

    dimensions = 1


class CircularPad2d(_CircularPadNd):
    """Go on at the other end of [N, C, H, W]."""

    dimensions = 2


class CircularPad3d(_CircularPadNd):
    """Go on at the other end of [N, C, D, H, W]."""

    dimensions = 3
