"""The operators that do not run on the double of CuPy, each with the reason."""

from __future__ import annotations

EXCEPTIONS: dict[str, str] = {}
