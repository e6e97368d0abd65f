"""Normalization of layers and batches."""

from __future__ import annotations

__all__: list[str] = []
