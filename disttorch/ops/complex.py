"""Complex numbers: their parts, their angle, and making them of two real numbers.

A gradient with respect to z = x + iy is dL/dx + i dL/dy, as in PyTorch.
"""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.ops.arithmetic import conj
from disttorch.ops.define import binary, expect_tensor, unary, view_operator
from disttorch.ops.registry import both
from disttorch.ops.shape import permute, transpose

__all__ = [
    "adjoint", "angle", "complex", "imag", "polar", "real", "view_as_complex", "view_as_real",
]  # fmt: skip
METHODS = """
    adjoint angle
"""


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


@view_operator(name="view_as_real")
def view_as_real(xp, x):
    """Return a view [..., 2] of a complex tensor: the real and the imaginary parts, side by side."""
    if x.dtype.kind != "c":
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return x[..., None].view(x.real.dtype)


@view_as_real.vjp
def _(F, g):
    return F.view_as_complex(F.clone(g, True))


@view_operator(name="view_as_complex")
def view_as_complex(xp, x):
    """Return a complex view of a tensor [..., 2] whose last dimension holds the real and the imaginary parts."""
    if x.dtype not in _COMPLEX_OF:
        raise RuntimeError(f"view_as_complex is only supported for float32 and float64 tensors, but got {x.dtype}")
    if not x.ndim:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if x.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if x.size and x.strides[-1] != x.itemsize:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    if any([s % (2 * x.itemsize) for s, n in zip(x.strides[:-1], x.shape) if n > 1]):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    return x.view(_COMPLEX_OF[x.dtype])[..., 0]


_COMPLEX_OF = {np.dtype(np.float32): np.dtype(np.complex64), np.dtype(np.float64): np.dtype(np.complex128)}


@view_as_complex.vjp
def _(F, g):
    return F.view_as_real(g)


@binary(name="complex")
def _complex(xp, x, y):
    z = xp.empty(np.broadcast_shapes(x.shape, y.shape), _COMPLEX_OF[x.dtype])
    z.real, z.imag = x, y
    return z


@_complex.vjp("x")
def _(F, g):
    return F.real(g)


@_complex.vjp("y")
def _(F, g):
    return F.imag(g)


@binary(name="polar")
def _polar(xp, x, y):
    z = xp.empty(np.broadcast_shapes(x.shape, y.shape), _COMPLEX_OF[x.dtype])
    z.real, z.imag = x * xp.cos(y), x * xp.sin(y)
    return z


@_polar.vjp("x")
def _(F, g, y):
    return F.real(g) * F.cos(y) + F.imag(g) * F.sin(y)


@_polar.vjp("y")
def _(F, g, x, y):
    return (F.imag(g) * F.cos(y) - F.real(g) * F.sin(y)) * x


def complex(real: Tensor, imag: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return real + i imag of two tensors of the same floating type."""
    _check_parts("complex", "real", real, "imag", imag, out)
    return _complex(real, imag, out=out)


def polar(abs: Tensor, angle: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return abs * (cos(angle) + i sin(angle)) of two tensors of the same floating type; angles are in radians."""
    _check_parts("polar", "abs", abs, "angle", angle, out)
    return _polar(abs, angle, out=out)


def _check_parts(function: str, name: str, first: Any, other_name: str, second: Any, out: Tensor | None) -> None:
    have, other = (expect_tensor(v, function, n).dtype for v, n in ((first, name), (second, other_name)))
    if have.numpy not in _COMPLEX_OF:
        raise RuntimeError(
            f"{function}(): expected both inputs to be float32 or float64 tensors but got {have!r} and {other!r}"
        )
    if have is not other:
        raise RuntimeError(
            f"Expected object of scalar type {have!r} but got scalar type {other!r} for second argument of {function}()"
        )
    if out is not None and out.dtype is not have.to_complex():
        raise RuntimeError(
            f"Expected object of scalar type {have.to_complex()!r} but got scalar type {out.dtype!r} for argument 'out'"
        )


@unary(float_result=True)
def angle(xp, x):
    """Return the angle of a complex number in radians; of a real one 0, or pi where it is negative."""
    if x.dtype.kind == "c":
        return xp.angle(x)
    return xp.where(xp.isnan(x), x, xp.where(x < 0, x.dtype.type(pi), x.dtype.type(0)))


@angle.vjp
def _(F, g, x):
    if not F.is_complex(x):
        return g * 0
    return F.where(x == 0, 0.0, g * (x * 1j / F.where(x == 0, 1.0, F.conj(x) * x)))


def adjoint(input: Tensor) -> Tensor:
    """Return the conjugate transpose of a matrix, or of each of a batch of matrices."""
    expect_tensor(input, "adjoint")
    if input._a.ndim == 1:
        raise RuntimeError(
            "tensor.adjoint() is only supported on matrices or batches of matrices. Got 1-D tensor: use conj() for its "
            "conjugate"
        )
    return conj(transpose(input, -2, -1)) if input._a.ndim else conj(input)


def conjugate_transposed(input: Tensor) -> Tensor:
    """The property `H`: the conjugate transpose of one matrix."""
    if input._a.ndim not in (0, 2):
        raise RuntimeError(
            f"tensor.H is only supported on matrices (2-D tensors). Got {input._a.ndim}-D tensor. For batches of matrices, "
            "consider using tensor.mH"
        )
    return conj(permute(input, tuple(range(input._a.ndim))[::-1]))
