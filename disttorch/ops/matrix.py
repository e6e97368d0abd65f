"""Factorizations, inverses and solutions under the names that `torch` itself has for them."""

from __future__ import annotations

__all__: list[str] = []
