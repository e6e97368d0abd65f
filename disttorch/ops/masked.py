"""Reductions and normalizations over the elements that a mask selects."""

from __future__ import annotations

__all__: list[str] = []
