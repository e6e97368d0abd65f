"""GPUs: whether there are any, and which one is current. Without any, what needs one raises RuntimeError."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from disttorch._legacy import CUDA_TYPES
from disttorch.backends import cuda_device_count, namespace_for
from disttorch.core.device import device as device_class

__all__ = [
    "current_device", "device", "device_count", "empty_cache", "get_device_capability", "get_device_name",
    "get_device_properties", "is_available", "is_bf16_supported", "is_initialized", "manual_seed", "manual_seed_all",
    "memory_allocated", "memory_reserved", "seed", "seed_all", "set_device", "synchronize",
]  # fmt: skip

globals().update(CUDA_TYPES)


def is_available() -> bool:
    """Whether a CUDA device can be used."""
    return cuda_device_count() > 0


def device_count() -> int:
    """Return the number of CUDA devices that can be used."""
    return cuda_device_count()


def is_initialized() -> bool:
    """Whether the library that reaches the devices has been loaded."""
    return is_available() and "cupy" in sys.modules


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the current device computes with bfloat16: it does not here."""
    return False


# -- one device -----------------------------------------------------------------------------------------------------


def _chosen(target: Any) -> Any:
    """Return CuPy's object for a device, given as an index, a string or None for the current one."""
    where = device_class("cuda", target) if isinstance(target, int) else device_class(target or "cuda")
    found = namespace_for(where).cuda.Device
    return found() if where.index is None else found(where.index)


def current_device() -> int:
    """Return the number of the current device."""
    return int(_chosen(None).id)


def set_device(device: Any) -> None:
    """Make a device the current one; a negative number does nothing."""
    if not isinstance(device, int) or device >= 0:
        _chosen(device).use()


def synchronize(device: Any = None) -> None:
    """Wait until a device has done all its work."""
    _chosen(device).synchronize()


class device:
    """Make a device the current one within a `with` statement; a negative number or None does nothing."""

    def __init__(self, device: Any) -> None:
        nothing = device is None or (isinstance(device, int) and device < 0)
        self._chosen = None if nothing else _chosen(device)

    def __enter__(self) -> None:
        if self._chosen is not None:
            self._chosen.__enter__()

    def __exit__(self, *exc: object) -> None:
        if self._chosen is not None:
            self._chosen.__exit__(*exc)


def get_device_properties(device: Any = None) -> Any:
    """Return a device's `name`, `major` and `minor` version, `total_memory` (bytes), `multi_processor_count`."""
    found = namespace_for(device_class("cuda")).cuda.runtime.getDeviceProperties(_chosen(device).id)
    return SimpleNamespace(
        name=found["name"].decode(),
        major=found["major"],
        minor=found["minor"],
        total_memory=found["totalGlobalMem"],
        multi_processor_count=found["multiProcessorCount"],
    )


def get_device_name(device: Any = None) -> str:
    """Return the name of a device."""
    return get_device_properties(device).name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """Return the compute capability of a device, (major, minor)."""
    found = get_device_properties(device)
    return found.major, found.minor


# -- memory; none is in use without a device ------------------------------------------------------------------------


def _pool() -> Any:
    return namespace_for(device_class("cuda")).get_default_memory_pool() if is_initialized() else None


def empty_cache() -> None:
    """Give memory that no tensor holds back to the devices."""
    pool = _pool()
    if pool is not None:
        pool.free_all_blocks()


def memory_allocated(device: Any = None) -> int:
    """Return how many bytes of the current device's memory tensors hold."""
    pool = _pool()
    return 0 if pool is None else pool.used_bytes()


def memory_reserved(device: Any = None) -> int:
    """Return how many bytes of the current device's memory are held, in use or not."""
    pool = _pool()
    return 0 if pool is None else pool.total_bytes()


# -- seeds: one generator, which `torch.manual_seed` seeds, draws all random numbers --------------------------------


def manual_seed(seed: int) -> None:
    """Accept a seed and do nothing: `torch.manual_seed` seeds the random numbers of all devices."""


def manual_seed_all(seed: int) -> None:
    """Accept a seed and do nothing: `torch.manual_seed` seeds the random numbers of all devices."""


def seed() -> None:
    """Do nothing: `torch.seed` seeds the random numbers of all devices."""


def seed_all() -> None:
    """Do nothing: `torch.seed` seeds the random numbers of all devices."""
