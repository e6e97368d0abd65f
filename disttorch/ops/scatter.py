"""Reading from and writing to positions along a dimension."""

from __future__ import annotations

__all__: list[str] = []
