"""Linear systems, inverses and determinants."""

from __future__ import annotations

__all__: list[str] = []
