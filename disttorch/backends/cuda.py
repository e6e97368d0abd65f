"""Switches for computing on GPUs, as `torch.backends.cuda`: they can be set and change nothing without one."""

from __future__ import annotations

from types import SimpleNamespace

matmul = SimpleNamespace(
    allow_tf32=False,
    allow_fp16_reduced_precision_reduction=True,
    allow_bf16_reduced_precision_reduction=True,
)


def is_built() -> bool:
    """Whether this version can compute on GPUs."""
    return False
