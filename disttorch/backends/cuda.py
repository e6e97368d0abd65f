"""Switches for computing on GPUs, as `torch.backends.cuda`: they can be set and change nothing."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

matmul = SimpleNamespace(
    allow_tf32=False,
    allow_fp16_reduced_precision_reduction=True,
    allow_bf16_reduced_precision_reduction=True,
)


def is_built() -> bool:
    """Whether the library that computes on GPUs is installed."""
    return find_spec("cupy") is not None
