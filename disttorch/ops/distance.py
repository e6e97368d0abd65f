"""Distances between points, and norms limited by scaling."""

from __future__ import annotations

__all__: list[str] = []
