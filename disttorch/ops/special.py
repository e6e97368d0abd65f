"""Special functions of mathematical physics, probability and statistics."""

from __future__ import annotations

__all__: list[str] = []
