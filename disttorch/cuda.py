"""GPUs: whether there are any, and which one is current. Without any, what needs one raises RuntimeError."""

from __future__ import annotations

from typing import Any

from disttorch._legacy import CUDA_TYPES
from disttorch.backends import cuda_device_count, namespace_for
from disttorch.core.device import device as device_class

__all__ = [
    "current_device", "device", "device_count", "empty_cache", "get_device_capability", "get_device_name",
    "get_device_properties", "get_rng_state_all", "is_available", "is_bf16_supported", "is_initialized", "manual_seed",
    "manual_seed_all", "max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved",
    "reset_peak_memory_stats", "seed", "seed_all", "set_device", "set_rng_state_all", "synchronize",
]  # fmt: skip

globals().update(CUDA_TYPES)


def is_available() -> bool:
    """Whether a CUDA device can be used."""
    return cuda_device_count() > 0


def device_count() -> int:
    """Return the number of CUDA devices that can be used."""
    return cuda_device_count()


def is_initialized() -> bool:
    """Whether a CUDA device is in use."""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the current device computes with bfloat16."""
    return False


# -- what needs a device ------------------------------------------------------------------------------------------


def _require(target: Any = None) -> None:
    namespace_for(device_class("cuda", target) if isinstance(target, int) else device_class(target or "cuda"))


def current_device() -> int:
    """Return the number of the current device."""
    _require()
    return 0


def set_device(device: Any) -> None:
    """Make a device the current one; a negative number does nothing."""
    if not isinstance(device, int) or device >= 0:
        _require(device)


def synchronize(device: Any = None) -> None:
    """Wait until a device has done all its work."""
    _require(device)


def get_device_name(device: Any = None) -> str:
    """Return the name of a device."""
    return get_device_properties(device).name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """Return the compute capability of a device, (major, minor)."""
    found = get_device_properties(device)
    return found.major, found.minor


def get_device_properties(device: Any = None) -> Any:
    """Return name, memory and capability of a device."""
    _require(device)


class device:
    """Make a device the current one within a `with` statement; a negative number does nothing."""

    def __init__(self, device: Any) -> None:
        self._target = device

    def __enter__(self) -> None:
        set_device(self._target)

    def __exit__(self, *exc: object) -> None:
        """Do nothing: no device has been left."""


# -- what does nothing without a device -----------------------------------------------------------------------------


def manual_seed(seed: int) -> None:
    """Seed the generator of the current device; without one, nothing happens."""


def manual_seed_all(seed: int) -> None:
    """Seed the generators of all devices; without one, nothing happens."""


def seed() -> None:
    """Seed the generator of the current device at random; without one, nothing happens."""


def seed_all() -> None:
    """Seed the generators of all devices at random; without one, nothing happens."""


def get_rng_state_all() -> list[Any]:
    """Return the states of the generators of all devices."""
    return []


def set_rng_state_all(new_states: Any) -> None:
    """Restore what `get_rng_state_all` returned."""


def empty_cache() -> None:
    """Give memory that is not in use back to the devices."""


def reset_peak_memory_stats(device: Any = None) -> None:
    """Start `max_memory_allocated` and `max_memory_reserved` anew."""


def memory_allocated(device: Any = None) -> int:
    """Return how many bytes of a device's memory tensors hold."""
    return 0


max_memory_allocated = max_memory_reserved = memory_reserved = memory_allocated
