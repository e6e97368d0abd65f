"""Looking rows up in a table."""

from __future__ import annotations

__all__: list[str] = []
