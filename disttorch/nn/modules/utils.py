"""Sizes given as one number or one for each dimension."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def ntuple(value: Any, n: int) -> tuple[Any, ...]:
    """Return `n` times a number, or a sequence as a tuple."""
    return tuple(value) if isinstance(value, Iterable) else (value,) * n
