"""Real and imaginary parts."""

from __future__ import annotations

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.ops.define import view_operator
from disttorch.ops.registry import both

__all__ = [
    "imag", "real",
]  # fmt: skip


@view_operator(name="real_part", grad_name="RealBackward0")
def _real(xp, x):
    return x.real


@_real.vjp
def _(F, g):
    return g * F.constant(g, np.complex64(1) if g.dtype.itemsize <= 4 else np.complex128(1))


@view_operator(name="imag_part", grad_name="ImagBackward0")
def _imag(xp, x):
    return x.imag


@_imag.vjp
def _(F, g):
    return g * F.constant(g, np.complex64(1j) if g.dtype.itemsize <= 4 else np.complex128(1j))


def real(input: Tensor) -> Tensor:
    """Return a view of the real parts; a real tensor is its own."""
    return _real(input) if input._a.dtype.kind == "c" else input


def imag(input: Tensor) -> Tensor:
    """Return a view of the imaginary parts of a complex tensor."""
    if input._a.dtype.kind != "c":
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return _imag(input)


both("real", lambda a: a.real, real)
both("imag", lambda a: a.imag, imag)
