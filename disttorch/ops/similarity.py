"""How alike vectors are: cosines, distances, bilinear forms, and vectors of norm 1."""

from __future__ import annotations

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.core.dtypes import from_numpy_dtype
from disttorch.core.promotion import promote_types
from disttorch.ops.define import broadcast_error, expect_tensor
from disttorch.ops.linalg import matmul
from disttorch.ops.reduce import sum
from disttorch.ops.registry import traced
from disttorch.ops.rounding import clamp_min
from disttorch.ops.write import write_out

__all__ = ["bilinear", "cosine_similarity", "pairwise_distance"]


def raised(x: Tensor, smallest: float) -> Tensor:
    """Return max(x, smallest), through which gradients pass as if nothing had been raised."""
    return x + clamp_min(smallest - x.detach(), 0)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Return x1 · x2 / (max(|x1|, eps) max(|x2|, eps)) along `dim`; the shapes broadcast."""
    first, second = (expect_tensor(x, "cosine_similarity", n)._a.dtype for x, n in ((x1, "x1"), (x2, "x2")))
    d = promote_types(from_numpy_dtype(first), from_numpy_dtype(second))
    if not d.is_floating_point:
        raise RuntimeError(f"expected common dtype to be floating point, yet common dtype is {d!r}")
    shape = common_shape(x1, x2)
    x1, x2 = x1.to(d).expand(shape), x2.to(d).expand(shape)
    unit1 = x1 / raised(x1.norm(2, dim, True), eps)
    unit2 = x2 / raised(x2.norm(2, dim, True), eps)
    return sum(unit1 * unit2, dim)


def common_shape(x: Tensor, y: Tensor) -> tuple[int, ...]:
    """Return the shape that two tensors broadcast to; RuntimeError if they do not."""
    try:
        return np.broadcast_shapes(x._a.shape, y._a.shape)
    except ValueError:
        raise broadcast_error(x._a, y._a) from None


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """Return the p-norm of x1 - x2 + eps along the last dimension."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    """Return x / max(|x|, eps), with the p-norm |x| along `dim`."""
    result = input / clamp_min(input.norm(p, dim, True), eps)
    return result if out is None else write_out(out, result, "normalize")


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x1^T W[k] x2 + b[k] for each k: [*, m], [*, n], weight [out, m, n] and bias [out] give [*, out]."""
    x1, x2, w = (expect_tensor(x, "bilinear")._a for x in (input1, input2, weight))
    if x1.shape[:-1] != x2.shape[:-1]:
        raise RuntimeError(
            f"bilinear(): input batch dimensions do not match: got {list(x1.shape)} and {list(x2.shape)}"
        )
    if w.ndim != 3 or x1.shape[-1:] != w.shape[1:2] or x2.shape[-1:] != w.shape[2:]:
        raise RuntimeError(
            f"bilinear(): expected weight [out, m, n] for inputs [*, m] and [*, n], got weight {list(w.shape)} for inputs "
            f"{list(x1.shape)} and {list(x2.shape)}"
        )
    out, m, n = w.shape
    batch = x1.shape[:-1]
    rows = traced.reshape(traced.permute(weight, (1, 0, 2)), (m, out * n))
    halfway = traced.reshape(matmul(input1, rows), (*batch, out, n))
    result = sum(halfway * traced.unsqueeze(input2, -2), -1, dtype=input1.dtype)
    return result if bias is None else result + bias
