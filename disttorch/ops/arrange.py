"""Arrangements made of simpler ones: stacking along named dimensions, tiling, rolling, rotating, meshes and combinations."""

from __future__ import annotations

__all__: list[str] = []
