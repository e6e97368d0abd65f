"""The computer's accelerator, as `torch.accelerator`: a CUDA device, where there is one."""

from __future__ import annotations

from disttorch.backends import cuda_device_count
from disttorch.core.device import device

__all__ = ["current_accelerator", "device_count", "is_available"]


def is_available() -> bool:
    """Whether there is an accelerator."""
    return cuda_device_count() > 0


def device_count() -> int:
    """Return the number of accelerators."""
    return cuda_device_count()


def current_accelerator(check_available: bool = False) -> device | None:
    """Return the accelerator's device, None where there is none."""
    return device("cuda") if is_available() else None
