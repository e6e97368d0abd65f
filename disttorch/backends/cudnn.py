"""Switches of NVIDIA's library of layers, as `torch.backends.cudnn`: they can be set and change nothing."""

from __future__ import annotations

enabled = True
benchmark = False
deterministic = False
allow_tf32 = True


def is_available() -> bool:
    """Whether the library can be used."""
    return False


def version() -> int | None:
    """Return the library's version, None without it."""
    return None
