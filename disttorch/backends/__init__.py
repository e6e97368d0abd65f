"""Which array library an array belongs to, and that library's kernels.

The type of an array is its device: `numpy.ndarray` is the CPU, `cupy.ndarray` a GPU. A backend gives the
library's own namespace (`numpy`, `cupy`) for what both libraries do alike, and a module of kernels with the
same function names for what they do not.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from disttorch.backends import numpy as numpy_kernels
from disttorch.core.device import CPU, device


class Backend(NamedTuple):
    """An array library: its namespace and its kernels."""

    namespace: Any
    kernels: Any


_NUMPY = Backend(np, numpy_kernels)
_backends: dict[type, Backend] = {np.ndarray: _NUMPY}


def register(array_type: type, namespace: ModuleType | Any, kernels: ModuleType | Any) -> None:
    """Make arrays of `array_type` usable as the memory of tensors."""
    _backends[array_type] = Backend(namespace, kernels)


def backend_of(array: Any) -> Backend:
    """Return the backend of an array; NumPy's scalars count as NumPy arrays."""
    found = _backends.get(type(array))
    if found is not None:
        return found
    if isinstance(array, (np.ndarray, np.generic, bool, int, float, complex)):
        return _NUMPY
    raise TypeError(f"expected an array of a known library, got {type(array).__name__}")


def kernels_of(array: Any) -> Any:
    """Return the kernels module for an array."""
    return backend_of(array).kernels


def device_of(array: Any) -> device:
    """Return the device that holds an array."""
    if isinstance(array, np.ndarray):
        return CPU
    return device("cuda", array.device.id)


def namespace_for(target: device) -> Any:
    """Return the array library that makes arrays on `target`; RuntimeError where the device is not there."""
    if target.type == "cpu":
        return np
    raise RuntimeError(
        f"device '{target}' was asked for, but this version of disttorch computes on the CPU only; use device 'cpu'"
    )


def cuda_device_count() -> int:
    """Return the number of usable CUDA devices."""
    return 0
