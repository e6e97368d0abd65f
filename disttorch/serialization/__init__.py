"""Saving and loading in PyTorch's zip format; safetensors is a module of its own here."""

from disttorch.serialization.checkpoint import get_unsafe_globals_in_checkpoint, load, save
from disttorch.serialization.globals import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    safe_globals,
)

__all__ = [
    "add_safe_globals",
    "clear_safe_globals",
    "get_safe_globals",
    "get_unsafe_globals_in_checkpoint",
    "load",
    "safe_globals",
    "save",
]
