"""Sorting, ranking, searching and distinct elements."""

from __future__ import annotations

__all__: list[str] = []
