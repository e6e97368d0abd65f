"""Copies between the memories of devices."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch import backends
from disttorch.autograd.record import type_name
from disttorch.autograd.tensor import Tensor
from disttorch.backends import copied_to_gpu, device_of
from disttorch.core.device import CPU, device
from disttorch.ops.define import operator

__all__: list[str] = []
METHODS = """
    is_pinned pin_memory
"""


@operator(1, name="to_device", grad_name="ToCopyBackward0")
def _to_device(xp, x, target, source, pinned):
    if pinned:
        return backends.pinned_copy(x)
    if target.type == "cpu":
        return x.copy() if type(x) is np.ndarray else x.get()
    return copied_to_gpu(x if type(x) is np.ndarray else x.get(), target)


@_to_device.vjp
def _(F, g, target, source, pinned):
    return g if pinned else F.to_device(g, source, target, False)


def to_device(input: Tensor, target: device) -> Tensor:
    """Return the tensor on a device: itself if it is there; RuntimeError where there is no such device."""
    source = device_of(input._a)
    if target.type == source.type and target.index in (None, source.index):
        return input
    return _to_device(input, target, source, False)


def pin_memory(input: Tensor, device: Any = None) -> Tensor:
    """Return the tensor in page-locked memory, from which copies to a GPU are faster: itself if it is there.

    RuntimeError for a tensor on a GPU, and where there is no CUDA device.
    """
    if device_of(input._a).type != "cpu":
        raise RuntimeError(f"cannot pin '{type_name(input)}' only dense CPU tensors can be pinned")
    return input if backends.is_pinned(input._a) else _to_device(input, CPU, CPU, True)


def is_pinned(input: Tensor, device: Any = None) -> bool:
    """Whether the tensor lies in page-locked memory."""
    return device_of(input._a).type == "cpu" and backends.is_pinned(input._a)
