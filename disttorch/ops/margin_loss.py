"""Losses that compare scores or pairs, and connectionist temporal classification."""

from __future__ import annotations

__all__: list[str] = []
