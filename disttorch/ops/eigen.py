"""Singular values, eigenvalues, and what is made of them: the pseudoinverse and the rank.

The derivatives are those of Giles 2008, "Collected matrix derivative results", and of Seeger et al. 2017, "Auto-
differentiating linear algebra"; they hold for distinct singular or eigenvalues. The phase of a vector is not determined,
and a result that depends on it has no derivative.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from disttorch.autograd.grad_mode import is_grad_enabled
from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of, kernels_of
from disttorch.ops.define import for_both, operator
from disttorch.ops.factor import LinAlgError, check_floating, check_matrix, check_square
from disttorch.ops.registry import raw
from disttorch.ops.write import type_label, with_out

__all__ = [
    "eig", "eigh", "eigvals", "eigvalsh", "matrix_rank", "pinv", "svd", "svdvals",
]  # fmt: skip


@for_both("differences")
def _differences(F, values: Any) -> Any:
    """Return E with E_ij = values_j - values_i, and 1 on the diagonal so that one can divide by it."""
    n = values.ndim
    return F.unsqueeze(values, n - 1) - F.unsqueeze(values, n) + F.eye_of(values)


def _did_not_converge(function: str) -> LinAlgError:
    return LinAlgError(
        f"{function}: The algorithm failed to converge because the input matrix is ill-conditioned or has too many repeated "
        "singular or eigenvalues."
    )


# -- singular values ----------------------------------------------------------------------------------------------


class SVDResult(NamedTuple):
    U: Tensor
    S: Tensor
    Vh: Tensor


@operator(1, name="svd", grad_name="LinalgSvdBackward0")
def _svd(xp, x, full_matrices):
    try:
        with kernels_of(x).linalg_errors(x):
            u, s, vh = xp.linalg.svd(x, full_matrices)
    except np.linalg.LinAlgError:
        raise _did_not_converge("linalg.svd") from None
    return xp.ascontiguousarray(u), s, xp.ascontiguousarray(vh)


@_svd.vjp
def _(F, g, x_shape, out0, out1, out2, full_matrices):
    (m, n), (u, s, vh), (gu, gs, gvh) = x_shape[-2:], (out0, out1, out2), g
    k = min(m, n)
    u, vh = F.leading(u, None, k), F.leading(vh, k, None)
    gu = None if gu is None else F.leading(gu, None, k)
    gvh = None if gvh is None else F.leading(gvh, k, None)
    row, column = F.unsqueeze(s, s.ndim - 1), F.unsqueeze(s, s.ndim)
    inner = 0.0 if gs is None else F.diagonal_matrix(gs, u)
    gap = F.differences(s) * (row + column + F.eye_of(s) * (1 - 2 * column))  # s_j^2 - s_i^2, and 1 on the diagonal
    if gu is not None:
        turn = F.skew(F.matmul(F.mH(u), gu))
        inner = inner + turn / gap * row
        if F.is_complex(u):
            inner = inner + F.diagonal_matrix(F.diagonal_of(turn) / (s * 2), u)
    if gvh is not None:
        inner = inner + column * (F.skew(F.matmul(vh, F.mH(gvh))) / gap)
    found = F.matmul(u, F.matmul(inner, vh))
    if gu is not None and m > k:
        scaled = gu / row
        found = found + F.matmul(scaled - F.matmul(u, F.matmul(F.mH(u), scaled)), vh)
    if gvh is not None and n > k:
        scaled = gvh / column
        found = found + F.matmul(u, scaled - F.matmul(F.matmul(scaled, F.mH(vh)), vh))
    return found


@for_both("skew")
def _skew(F, x: Any) -> Any:
    """Return x - x^H."""
    return x - F.mH(x)


def _check_driver(function: str, driver: str | None) -> None:
    if driver is not None:
        raise RuntimeError(
            f"{function}: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER backend."
        )


@with_out
def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> SVDResult:
    """Return (U, S, Vh), A = U diag(S) Vh with S descending: [*, m, m], [*, k], [*, n, n]; or the first k columns and rows."""
    check_floating("linalg.svd", A)
    check_matrix("linalg.svd", A)
    _check_driver("torch.linalg.svd", driver)
    return SVDResult(*_svd(A, full_matrices))


def _recording(x: Tensor) -> bool:
    return x.requires_grad and is_grad_enabled()


@with_out
def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """Return the singular values [*, k], in descending order."""
    check_floating("linalg.svdvals", A)
    check_matrix("linalg.svdvals", A)
    _check_driver("torch.linalg.svdvals", driver)
    if _recording(A):
        return _svd(A, False)[1]
    try:
        with kernels_of(A._a).linalg_errors(A._a):
            return wrap(_library(A).linalg.svd(A._a, compute_uv=False))
    except np.linalg.LinAlgError:
        raise _did_not_converge("linalg.svd") from None


def _library(x: Tensor) -> Any:
    return backend_of(x._a).namespace


# -- eigenvalues --------------------------------------------------------------------------------------------------


class EigResult(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


class EighResult(NamedTuple):
    eigenvalues: Tensor
    eigenvectors: Tensor


@operator(1, name="eigh", grad_name="LinalgEighBackward0")
def _eigh(xp, x, uplo):
    try:
        with kernels_of(x).linalg_errors(x):
            values, vectors = xp.linalg.eigh(x, uplo)
    except np.linalg.LinAlgError:
        raise _did_not_converge("linalg.eigh") from None
    return values, xp.ascontiguousarray(vectors)


@_eigh.vjp
def _(F, g, out0, out1):
    values, vectors, (gl, gv) = out0, out1, g
    inner = 0.0 if gl is None else F.diagonal_matrix(gl, vectors)
    if gv is not None:
        turned = F.matmul(F.mH(vectors), gv) / F.differences(values) * (1 - F.eye_of(values))
        inner = inner + (turned + F.mH(turned)) * 0.5
    return F.matmul(vectors, F.matmul(inner, F.mH(vectors)))


def _check_hermitian(function: str, x: Tensor, uplo: str) -> str:
    check_floating(function, x)
    check_square(function, x)
    if not isinstance(uplo, str) or uplo.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {uplo}")
    return uplo.upper()


@with_out
def eigh(A: Tensor, UPLO: str = "L") -> EighResult:
    """Return (eigenvalues, eigenvectors) of symmetric or Hermitian A, ascending, by its lower ("L") or upper triangle."""
    return EighResult(*_eigh(A, _check_hermitian("linalg.eigh", A, UPLO)))


@with_out
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """Return the eigenvalues of symmetric or Hermitian A, ascending, by its lower ("L") or upper triangle."""
    uplo = _check_hermitian("linalg.eigvalsh", A, UPLO)
    if _recording(A):
        return _eigh(A, uplo)[0]
    try:
        with kernels_of(A._a).linalg_errors(A._a):
            return wrap(_library(A).linalg.eigvalsh(A._a, uplo))
    except np.linalg.LinAlgError:
        raise _did_not_converge("linalg.eigh") from None


@operator(1, name="eig", grad_name="LinalgEigBackward0")
def _eig(xp, x):
    try:
        with kernels_of(x).linalg_errors(x):
            values, vectors = xp.linalg.eig(x)
    except np.linalg.LinAlgError:
        raise _did_not_converge("linalg.eig") from None
    d = np.result_type(x.dtype, np.complex64)
    return values.astype(d), xp.ascontiguousarray(vectors).astype(d)


@_eig.vjp
def _(F, g, out0, out1):
    values, vectors, (gl, gv) = out0, out1, g
    adjoint = F.mH(vectors)
    inner = 0.0 if gl is None else F.diagonal_matrix(gl, vectors)
    if gv is not None:
        turned = F.matmul(adjoint, gv)
        lengths = F.unsqueeze(F.real(F.diagonal_of(turned)), values.ndim - 1)  # LAPACK's vectors have length 1
        turned = (turned - F.matmul(adjoint, vectors) * lengths) / F.conj(F.differences(values))
        inner = inner + turned * (1 - F.eye_of(values))
    return F.solve(adjoint, F.matmul(inner, adjoint))[0]


def _check_finite(function: str, x: Tensor) -> None:
    check_floating(function, x)
    check_square(function, x)
    if not _library(x).isfinite(x._a).all():
        raise RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs.")


@with_out
def eig(A: Tensor) -> EigResult:
    """Return (eigenvalues, eigenvectors) of square matrices, complex; the vectors are columns of length 1."""
    _check_finite("linalg.eig", A)
    return EigResult(*_eig(A))


@with_out
def eigvals(A: Tensor) -> Tensor:
    """Return the eigenvalues of square matrices, complex."""
    _check_finite("linalg.eigvals", A)
    if _recording(A):
        return _eig(A)[0]
    with kernels_of(A._a).linalg_errors(A._a):
        values = _library(A).linalg.eigvals(A._a)
    return wrap(values.astype(np.result_type(A._a.dtype, np.complex64)))


# -- pseudoinverse and rank ---------------------------------------------------------------------------------------


def _threshold(largest: Any, atol: Any, rtol: Any, shape: tuple[int, ...]) -> Any:
    """Return what singular values count as zero: max(atol, rtol * the largest); rtol is max(m, n) eps unless one is given."""
    xp = backend_of(largest).namespace
    if rtol is None:
        default = np.finfo(largest.dtype).eps * max(shape[-2:])
        given = None if atol is None else xp.asarray(atol)
        rtol = default if given is None else xp.where(given > 0, 0.0, default)
    limit = xp.asarray(rtol) * largest
    return limit if atol is None else xp.maximum(xp.asarray(atol), limit)


def _tolerance(value: Any, name: str, function: str) -> Any:
    if isinstance(value, Tensor):
        if value._a.dtype.kind == "c":
            raise RuntimeError(f"{function}: {name} tensor of complex type is not supported.")
        return value._a
    return value


def _largest(values: Any) -> Any:
    return values.max(-1) if values.shape[-1] else values.sum(-1)


@operator(1, name="pinv", grad_name="LinalgPinvBackward0")
def _pinv(xp, x, atol, rtol, hermitian):
    if hermitian:
        values, left = raw.eigh(x, "L")
        right = raw.mH(left)
    else:
        left, values, right = raw.svd(x, False)
    size = xp.absolute(values)
    kept = size > xp.asarray(_threshold(_largest(size), atol, rtol, x.shape))[..., None]
    inverse = xp.where(kept, 1 / xp.where(kept, values, 1), 0).astype(values.dtype)
    return xp.ascontiguousarray(raw.mH(right) @ (inverse[..., None] * raw.mH(left)))


@_pinv.vjp
def _(F, g, x, out):
    return pinv_grad(F, g, x, out)


def pinv_grad(F: Any, g: Any, x: Any, inverse: Any) -> Any:
    """Return the gradient of the pseudoinverse at constant rank (Golub & Pereyra 1973, equation 4.12)."""
    adjoint, gh = F.mH(inverse), F.mH(g)
    outside_columns = gh - F.matmul(x, F.matmul(inverse, gh))
    outside_rows = gh - F.matmul(F.matmul(gh, inverse), x)
    return (
        F.matmul(F.matmul(outside_columns, inverse), adjoint)
        + F.matmul(adjoint, F.matmul(inverse, outside_rows))
        - F.matmul(adjoint, F.matmul(g, adjoint))
    )


@with_out
def pinv(
    A: Tensor,
    rcond: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
) -> Tensor:
    """Return the Moore-Penrose inverses; singular values up to max(atol, rtol * the largest) count as zero.

    `atol` and `rtol` are numbers or tensors of the batch's shape; rtol is max(m, n) eps unless one of them is given.
    With `hermitian` the eigenvalues of the lower triangle are used.
    """
    d = A._a.dtype
    if d.kind in "biu" or d.itemsize == 2 or A._a.ndim < 2:
        raise RuntimeError(
            f"linalg.pinv({type_label(d)}{{{list(A._a.shape)}}}): expected a tensor with 2 or more dimensions of float, double, "
            "cfloat or cdouble types"
        )
    rtol = rcond if rtol is None else rtol
    tolerances = [_tolerance(v, name, "torch.linalg.pinv") for v, name in ((atol, "atol"), (rtol, "rtol"))]
    if hermitian:
        check_square("linalg.pinv", A)
    return _pinv(A, *tolerances, hermitian)


@with_out
def matrix_rank(
    A: Tensor,
    tol: Any = None,
    hermitian: bool = False,
    *,
    atol: Any = None,
    rtol: Any = None,
) -> Tensor:
    """Return how many singular values of each matrix are larger than max(atol, rtol * the largest), as int64."""
    check_matrix("linalg.matrix_rank", A)
    if tol is not None:
        atol, rtol = tol, 0.0
    atol, rtol = (_tolerance(v, name, "torch.linalg.matrix_rank") for v, name in ((atol, "atol"), (rtol, "rtol")))
    values = (eigvalsh if hermitian else svdvals)(A.detach())._a
    xp = _library(A)
    size = xp.absolute(values)
    limit = xp.asarray(_threshold(_largest(size), atol, rtol, A._a.shape))
    return wrap(xp.asarray((size > limit[..., None]).sum(-1)))
