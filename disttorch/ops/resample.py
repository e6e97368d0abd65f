"""Interpolation, sampling on grids, folding and shuffling of pixels."""

from __future__ import annotations

__all__: list[str] = []
