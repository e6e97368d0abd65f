"""Switches of PyTorch that scripts set, most of which have nothing to change here."""

from __future__ import annotations

import warnings
from typing import Any

from disttorch.backends import namespace_for
from disttorch.core.device import CPU, device

__all__ = [
    "are_deterministic_algorithms_enabled", "get_default_device", "get_deterministic_debug_mode",
    "get_float32_matmul_precision", "get_num_interop_threads", "is_deterministic_algorithms_warn_only_enabled",
    "set_default_device", "set_deterministic_debug_mode", "set_float32_matmul_precision", "set_flush_denormal",
    "set_num_interop_threads", "use_deterministic_algorithms",
]  # fmt: skip

_MODES = ("default", "warn", "error")
_PRECISIONS = ("highest", "high", "medium")

_deterministic = 0
_precision = "highest"


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Ask for the same result in every run, which every function gives in any case."""
    global _deterministic
    if not isinstance(mode, bool):
        raise TypeError(f"use_deterministic_algorithms(): argument 'mode' must be bool, not {type(mode).__name__}")
    _deterministic = (1 if warn_only else 2) if mode else 0


def are_deterministic_algorithms_enabled() -> bool:
    """Whether `use_deterministic_algorithms` asked for them."""
    return _deterministic > 0


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether `use_deterministic_algorithms` asked for warnings only."""
    return _deterministic == 1


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """Set what `use_deterministic_algorithms` sets, as a number or a word: 0 "default", 1 "warn", 2 "error"."""
    global _deterministic
    if debug_mode not in (*_MODES, 0, 1, 2):
        raise RuntimeError(f"debug_mode must be 0, 1, 2 or one of {', '.join(_MODES)}, got {debug_mode!r}")
    _deterministic = _MODES.index(debug_mode) if isinstance(debug_mode, str) else debug_mode


def get_deterministic_debug_mode() -> int:
    """Return what `set_deterministic_debug_mode` has set, as a number."""
    return _deterministic


def set_float32_matmul_precision(precision: str) -> None:
    """Accept "highest", "high" or "medium"; products of float32 are computed in float32 with any of them."""
    global _precision
    if precision not in _PRECISIONS:
        warnings.warn(f"expected one of {', '.join(_PRECISIONS)}, got {precision!r}: nothing changes", stacklevel=2)
        return
    _precision = precision


def get_float32_matmul_precision() -> str:
    """Return what `set_float32_matmul_precision` was given."""
    return _precision


def set_flush_denormal(mode: bool) -> bool:
    """Return False: denormal numbers are not set to zero."""
    return False


def set_num_interop_threads(n: int) -> None:
    """Accept a number of threads that run operations side by side; there is one."""
    if not isinstance(n, int) or n <= 0:
        raise RuntimeError(f"set_num_interop_threads expects a positive integer, got {n!r}")


def get_num_interop_threads() -> int:
    """Return 1: operations run one after the other."""
    return 1


def get_default_device() -> device:
    """Return the device of tensors that are made without naming one."""
    return CPU


def set_default_device(device: Any) -> None:
    """Accept the CPU; RuntimeError for a device that is not there."""
    namespace_for(_named(device))


def _named(target: Any) -> device:
    return CPU if target is None else device(target)
