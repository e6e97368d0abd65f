"""Apple's GPUs, as `torch.backends.mps`: there is no support for them."""

from __future__ import annotations


def is_available() -> bool:
    """Whether such a GPU can be used."""
    return False


def is_built() -> bool:
    """Whether this version can compute on such a GPU."""
    return False
