"""The operators that do not agree with PyTorch on every sample, each with the reason."""

from __future__ import annotations

DIFFERENCES: dict[str, str] = {}
