"""Products of vectors, matrices and tensors beyond `matmul`: added products, contractions, powers."""

from __future__ import annotations

__all__: list[str] = []
