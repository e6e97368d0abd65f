"""Matrix products and the affine map."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.registry import raw, traced
from disttorch.ops.write import write_out

__all__ = [
    "bmm", "dot", "matmul", "mm", "mv", "outer",
]  # fmt: skip
METHODS = """
    bmm dot matmul mm mv outer
"""

# Gradients of X @ Y, on stacks of matrices: g @ Y^H and X^H @ g; the engine sums over broadcast stacks.


def _product(xp: Any, x: Any, y: Any) -> Any:
    found = xp.matmul(x, y)
    return found if found.dtype is x.dtype else found.astype(x.dtype)  # of bfloat16 NumPy makes float32


@operator(2, name="mm")
def _mm(xp, x, y):
    return _product(xp, x, y)


@_mm.vjp("x")
def _(F, g, y):
    return F.mm(g, F.conj(F.mT(y)))


@_mm.vjp("y")
def _(F, g, x):
    return F.mm(F.conj(F.mT(x)), g)


def _mm_into(x: Any, y: Any, into: Any) -> Any:
    if type(into) is np.ndarray and x.dtype == y.dtype == into.dtype and into.dtype.kind in "fc":
        return np.matmul(x, y, out=into)
    return raw.mm(x, y)


raw.mm_into = _mm_into
raw.mT = lambda a: a.swapaxes(-1, -2)
traced.mT = lambda a: traced.transpose(a, a._a.ndim - 2, a._a.ndim - 1)


@operator(2, name="bmm")
def _bmm(xp, x, y):
    return _product(xp, x, y)


@_bmm.vjp("x")
def _(F, g, y):
    return F.bmm(g, F.conj(F.mT(y)))


@_bmm.vjp("y")
def _(F, g, x):
    return F.bmm(F.conj(F.mT(x)), g)


@operator(2, name="mv")
def _mv(xp, x, v):
    return _product(xp, x, v)


@_mv.vjp("x")
def _(F, g, v):
    return F.outer(g, F.conj(v))


@_mv.vjp("v")
def _(F, g, x):
    return F.mv(F.conj(F.mT(x)), g)


@operator(2, name="dot")
def _dot(xp, x, y):
    return _product(xp, x, y)


@_dot.vjp("x")
def _(F, g, y):
    return g * F.conj(y)


@_dot.vjp("y")
def _(F, g, x):
    return g * F.conj(x)


raw.outer = lambda x, y: x[:, None] * y


@operator(3, name="linear", grad_name="AddmmBackward0")
def _linear(xp, x, weight, bias):
    y = _product(xp, x, weight.T)
    if bias is not None:
        y += bias
    return y


@_linear.vjp("x")
def _(F, g, weight):
    return F.matmul(g, F.conj(weight))


@_linear.vjp("weight")
def _(F, g, x, *, into=None):
    g, x = F.mT(F.rows(g)), F.conj(F.rows(x))
    return F.mm(g, x) if into is None else F.mm_into(g, x, into)


@_linear.vjp("bias")
def _(F, g):
    return g


_BOOL = np.dtype(bool)


def _check_same_type(function: str, *tensors: Tensor) -> None:
    first = tensors[0]._a.dtype
    if first is _BOOL and all([x._a.size for x in tensors]):
        raise NotImplementedError(f"\"{function}\" not implemented for 'Bool': convert the tensor to a type that is")
    for tensor in tensors[1:]:
        if tensor._a.dtype != first:
            raise RuntimeError(
                f"{function}: expected both operands to have the same dtype, but got: {tensors[0].dtype!r} and {tensor.dtype!r}"
            )


def _shapes(x: Tensor, y: Tensor) -> str:
    return f"({'x'.join(map(str, x._a.shape))} and {'x'.join(map(str, y._a.shape))})"


def mm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the product of two matrices, [n, m] @ [m, p]."""
    if input._a.ndim != 2:
        raise RuntimeError("self must be a matrix")
    if mat2._a.ndim != 2:
        raise RuntimeError("mat2 must be a matrix")
    _check_same_type("mm", input, mat2)
    if input._a.shape[1] != mat2._a.shape[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied {_shapes(input, mat2)}")
    result = _mm(input, mat2)
    return result if out is None else write_out(out, result, "mm")


def bmm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the products of two stacks of matrices, [b, n, m] @ [b, m, p]."""
    if input._a.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if mat2._a.ndim != 3:
        raise RuntimeError("batch2 must be a 3D tensor")
    _check_same_type("bmm", input, mat2)
    b, _, m = input._a.shape
    if mat2._a.shape[:2] != (b, m):
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{b}, {m}] but got: "
            f"[{mat2._a.shape[0]}, {mat2._a.shape[1]}]."
        )
    result = _bmm(input, mat2)
    return result if out is None else write_out(out, result, "bmm")


def mv(input: Tensor, vec: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the product of a matrix and a vector, [n, m] @ [m]."""
    if input._a.ndim != 2 or vec._a.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got {input._a.ndim}, {vec._a.ndim}")
    _check_same_type("mv", input, vec)
    if input._a.shape[1] != vec._a.shape[0]:
        raise RuntimeError(
            f"size mismatch, got input ({input._a.shape[0]}), mat {_shapes(input, input)[1:-1].split(' ')[0]}, vec ({vec._a.shape[0]})"
        )
    result = _mv(input, vec)
    return result if out is None else write_out(out, result, "mv")


def dot(input: Tensor, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the sum of the products of two vectors' elements; complex ones are not conjugated."""
    if input._a.ndim != 1 or tensor._a.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input._a.ndim}D and {tensor._a.ndim}D tensors")
    _check_same_type("dot", input, tensor)
    if input._a.shape != tensor._a.shape:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor {list(input._a.shape)} and src {list(tensor._a.shape)} to have the same "
            f"number of elements, but got {input._a.size} and {tensor._a.size} elements respectively"
        )
    result = _dot(input, tensor)
    return result if out is None else write_out(out, result, "dot")


def outer(input: Tensor, vec2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the products of every pair of two vectors' elements, [n, m]."""
    if input._a.ndim != 1 or vec2._a.ndim != 1:
        raise RuntimeError(f"outer: Expected 1-D arguments, got {input._a.ndim}-D and {vec2._a.ndim}-D")
    result = traced.unsqueeze(input, 1) * vec2
    return result if out is None else write_out(out, result, "outer")


def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the product of vectors, matrices or stacks of matrices; the stacks' dimensions are broadcast."""
    if out is not None:
        return write_out(out, matmul(input, other), "matmul")
    expect_tensor(input, "matmul")
    expect_tensor(other, "matmul", "other")
    m, n = input._a.ndim, other._a.ndim
    if not m or not n:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {m}D and {n}D")
    if m == 2 and n == 2:
        return mm(input, other)
    if m == 1 and n == 1:
        return dot(input, other)
    if m == 2 and n == 1:
        return mv(input, other)
    _check_same_type("matmul", input, other)
    if n == 1:
        return traced.squeeze(matmul(input, traced.unsqueeze(other, 1)), (m - 1,))
    if m == 1:
        return traced.squeeze(matmul(traced.unsqueeze(input, 0), other), (n - 2,))
    if input._a.shape[-1] != other._a.shape[-2]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied {_shapes(input, other)}")
    try:
        return _bmm(input, other)
    except ValueError:
        raise RuntimeError(f"the stacks of matrices do not broadcast: {_shapes(input, other)}") from None


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return input @ weight^T + bias: [*, in] with weight [out, in] and bias [out] gives [*, out]."""
    if out is not None:
        return write_out(out, linear(input, weight, bias), "linear")
    x, w = input._a, weight._a
    if w.ndim != 2:
        return matmul(input, traced.t(weight)) if bias is None else matmul(input, traced.t(weight)) + bias
    _check_same_type("linear", input, weight, *(() if bias is None else (bias,)))
    if not x.ndim:
        raise RuntimeError(f"both arguments to linear need to be at least 1D, but they are 0D and {w.ndim}D")
    if x.shape[-1] != w.shape[1]:
        rows = x.size // x.shape[-1] if x.shape[-1] else 0
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({rows}x{x.shape[-1]} and {w.shape[1]}x{w.shape[0]})"
        )
    if bias is not None and bias._a.shape not in ((w.shape[0],), (1,), ()):
        raise RuntimeError(
            f"The expanded size of the tensor ({w.shape[0]}) must match the existing size ({bias._a.shape[-1]}) at non-singleton "
            f"dimension {x.ndim - 1}.  Target sizes: {[*x.shape[:-1], w.shape[0]]}.  Tensor sizes: {list(bias._a.shape)}"
        )
    return _linear(input, weight, bias)


def _rows(F: Any, a: Any) -> Any:
    return a if a.ndim == 2 else F.reshape(a, (-1 if a.ndim > 1 else 1, a.shape[-1]))


raw.rows = lambda a: _rows(raw, a)
traced.rows = lambda a: _rows(traced, a)
raw.matmul = lambda x, y: x @ y
traced.matmul = matmul
traced.outer = outer
