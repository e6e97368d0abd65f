"""Which array library an array belongs to, and that library's kernels.

The type of an array is its device: `numpy.ndarray` is the CPU, `cupy.ndarray` a GPU. A backend gives the
library's own namespace (`numpy`, `cupy`) for what both libraries do alike, and a module of kernels with the
same function names for what they do not. CuPy is imported when a CUDA device is first asked for.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any, NamedTuple

import numpy as np

from disttorch.backends import numpy as numpy_kernels
from disttorch.core.device import CPU, device

# `disttorch-run` sets it to the number of the GPU that "cuda" without a number means in a worker.
DEVICE_VARIABLE = "DISTTORCH_GPU"
_MEMORY_TYPE_HOST = 1  # cudaMemoryTypeHost: allocated or registered by CUDA


class Backend(NamedTuple):
    """An array library: its namespace, its kernels, and what CuPy has beyond NumPy (`cupyx`; None for NumPy)."""

    namespace: Any
    kernels: Any
    extension: Any = None


_NUMPY = Backend(np, numpy_kernels)
_backends: dict[type, Backend] = {np.ndarray: _NUMPY}


def register(array_type: type, namespace: Any, kernels: Any, extension: Any) -> None:
    """Make arrays of `array_type` usable as the memory of tensors."""
    _backends[array_type] = Backend(namespace, kernels, extension)


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
    if isinstance(array, (np.ndarray, np.generic)):
        return CPU
    return device("cuda", array.device.id)


def address(array: Any) -> int:
    """Return where in memory the first element of an array lies."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def namespace_for(target: device) -> Any:
    """Return the array library that makes arrays on `target`; RuntimeError where the device is not there."""
    if target.type == "cpu":
        return np
    count = cuda_device_count()
    if not count:
        raise RuntimeError(f"device '{target}' was asked for, but {_why_no_gpu()}; use device 'cpu'")
    if target.index is not None and target.index >= count:
        raise RuntimeError(f"device '{target}' was asked for, but there are {count} CUDA devices, counted from 0")
    return _cupy()


def copied_to_gpu(host: np.ndarray, target: device) -> Any:
    """Return a copy of an array on a CUDA device, the current one if `target` has no number."""
    library = namespace_for(target)
    if target.index is None:
        return library.asarray(host)
    with library.cuda.Device(target.index):
        return library.asarray(host)


def empty_like_pinned(host: np.ndarray) -> np.ndarray:
    """Return an array like `host` in page-locked memory, not filled; RuntimeError where there is no CUDA device."""
    library = namespace_for(device("cuda"))
    if not host.size:
        return np.empty_like(host)
    made: np.ndarray = _backends[library.ndarray].extension.empty_like_pinned(host)
    return made


def is_pinned(host: np.ndarray) -> bool:
    """Say whether an array lies in page-locked memory."""
    if not host.size or not cuda_device_count():
        return False
    runtime = namespace_for(device("cuda")).cuda.runtime
    return bool(runtime.pointerGetAttributes(host.ctypes.data).type == _MEMORY_TYPE_HOST)


def _has_cupy() -> bool:
    spec = importlib.util.find_spec("cupy")
    return spec is not None and spec.origin is not None  # a folder that happens to be called so has no origin


def _why_no_gpu() -> str:
    if not _has_cupy():
        return "CuPy is not installed (pip install 'disttorch[cuda12]' or 'disttorch[cuda13]')"
    return "CuPy finds no CUDA device"


@functools.cache
def cuda_device_count() -> int:
    """Return the number of usable CUDA devices: 0 without CuPy."""
    if not _has_cupy():
        return 0
    import cupy

    return int(cupy.cuda.runtime.getDeviceCount()) if cupy.cuda.is_available() else 0


@functools.cache
def _cupy() -> Any:
    import cupy
    import cupyx

    from disttorch.backends import cupy as kernels

    chosen = os.environ.get(DEVICE_VARIABLE, "")
    if chosen.isdecimal():
        cupy.cuda.Device(int(chosen)).use()
    register(cupy.ndarray, cupy, kernels, cupyx)
    return cupy
