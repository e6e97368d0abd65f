"""Views by stride, windows, and writing into a copy through a view."""

from __future__ import annotations

__all__: list[str] = []
