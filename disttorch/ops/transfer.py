"""Copies between the memories of devices."""

from __future__ import annotations

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.backends import copied_to_gpu, device_of
from disttorch.core.device import device
from disttorch.ops.define import operator

__all__: list[str] = []


@operator(1, name="to_device", grad_name="ToCopyBackward0")
def _to_device(xp, x, target, source):
    if target.type == "cpu":
        return x.copy() if type(x) is np.ndarray else x.get()
    return copied_to_gpu(x if type(x) is np.ndarray else x.get(), target)


@_to_device.vjp
def _(F, g, target, source):
    return F.to_device(g, source, target)


def to_device(input: Tensor, target: device) -> Tensor:
    """Return the tensor on a device: itself if it is there; RuntimeError where there is no such device."""
    source = device_of(input._a)
    if target.type == source.type and target.index in (None, source.index):
        return input
    return _to_device(input, target, source)
