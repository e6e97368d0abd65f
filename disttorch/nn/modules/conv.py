"""Convolution layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.nn import functional as F
from disttorch.nn.modules.linear import reset_weight_and_bias
from disttorch.nn.modules.module import Module
from disttorch.nn.modules.utils import ntuple
from disttorch.nn.parameter import Parameter
from disttorch.ops.creation import empty

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """A convolution over `dimensions` spatial dimensions."""

    dimensions: int
    function: Callable[..., Tensor]
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        n = self.dimensions
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = ntuple(kernel_size, n)
        self.stride = ntuple(stride, n)
        self.padding: Any = padding if isinstance(padding, str) else ntuple(padding, n)
        self.dilation = ntuple(dilation, n)
        self.transposed = False
        self.output_padding = (0,) * n
        self.groups = groups
        self.padding_mode = padding_mode
        self._check()
        self._reversed_padding_repeated_twice = self._ends()
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        own_bias = Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", own_bias)
        self.reset_parameters()

    def _check(self) -> None:
        if self.groups <= 0:
            raise ValueError("groups must be a positive integer")
        if self.in_channels % self.groups:
            raise ValueError("in_channels must be divisible by groups")
        if self.out_channels % self.groups:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(self.padding, str):
            if self.padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {self.padding!r}, should be 'same' or 'valid'")
            if self.padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if self.padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"padding_mode must be one of {_PADDING_MODES}, but got padding_mode='{self.padding_mode}'"
            )

    def _ends(self) -> list[int]:
        """Return the padding at both ends of each dimension, the last first, as for `F.pad`."""
        ends: list[int] = []
        for k in reversed(range(self.dimensions)):
            if self.padding == "valid":
                ends += [0, 0]
            elif self.padding == "same":
                total = self.dilation[k] * (self.kernel_size[k] - 1)
                ends += [total // 2, total - total // 2]
            else:
                ends += [self.padding[k], self.padding[k]]
        return ends

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, uniform in +-1 / sqrt(fan_in)."""
        reset_weight_and_bias(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve [N, in_channels, *S] (or without N)."""
        return self._conv_forward(input, self.weight, self.bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        convolve = type(self).function
        return convolve(input, weight, bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.padding):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


_ARGUMENTS = """

    `padding` is a number of elements for both ends, one for each dimension, "valid" (none) or
    "same" (the output as large as the input; stride 1). `padding_mode` says what they are: "zeros",
    "reflect", "replicate" or "circular". `weight` is [out_channels, in_channels / groups,
    *kernel_size], `bias` [out_channels] (None without `bias`).
    """


class Conv1d(_ConvNd):
    __doc__ = "Cross-correlation over [N, in_channels, L] or [in_channels, L]." + _ARGUMENTS
    dimensions = 1
    function = staticmethod(F.conv1d)


class Conv2d(_ConvNd):
    __doc__ = "Cross-correlation over [N, in_channels, H, W] or [in_channels, H, W]." + _ARGUMENTS
    dimensions = 2
    function = staticmethod(F.conv2d)


class Conv3d(_ConvNd):
    __doc__ = "Cross-correlation over [N, in_channels, D, H, W] or [in_channels, D, H, W]." + _ARGUMENTS
    dimensions = 3
    function = staticmethod(F.conv3d)
