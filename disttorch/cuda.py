"""GPUs: whether there are any, and which one is current."""

from __future__ import annotations

from disttorch.backends import cuda_device_count


def is_available() -> bool:
    """Whether a CUDA device can be used."""
    return cuda_device_count() > 0


def device_count() -> int:
    """Return the number of CUDA devices that can be used."""
    return cuda_device_count()
