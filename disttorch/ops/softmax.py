"""Softmax and its relatives."""

from __future__ import annotations

from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.backends import kernels_of
from disttorch.core import dtypes
from disttorch.core.stream import default_stream
from disttorch.ops.arithmetic import not_for
from disttorch.ops.creation import finish, zeros_like
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.registry import traced
from disttorch.ops.shape import row_major, wrap_dim
from disttorch.ops.write import write_out

__all__ = ["log_softmax", "softmax"]
METHODS = """
    log_softmax softmax
"""


@operator(1, name="softmax")
def _softmax(xp, x, dim):
    return row_major(kernels_of(x).softmax(x, dim))


@_softmax.vjp
def _(F, g, out, dim):
    return F.softmax_grad(g, out, dim)


@operator(2)
def softmax_grad(xp, g, y, dim):
    """Return y * (g - sum(g * y)), the derivative of y = softmax(x)."""
    return kernels_of(g).softmax_grad(g, y, dim)


@softmax_grad.vjp("g")
def _(F, u, y, dim):
    return F.softmax_grad(u, y, dim)


@softmax_grad.vjp("y")
def _(F, u, g, y, dim):
    return u * (g - F.sum(g * y, (dim,), True)) - g * F.sum(u * y, (dim,), True)


@operator(1, name="log_softmax")
def _log_softmax(xp, x, dim):
    return row_major(kernels_of(x).log_softmax(x, dim))


@_log_softmax.vjp
def _(F, g, out, dim):
    return F.log_softmax_grad(g, out, dim)


@operator(2)
def log_softmax_grad(xp, g, y, dim):
    """Return g - exp(y) * sum(g), the derivative of y = log_softmax(x)."""
    return kernels_of(g).log_softmax_grad(g, y, dim)


@log_softmax_grad.vjp("g")
def _(F, u, y, dim):
    return u - F.sum(u * F.exp(y), (dim,), True)


@log_softmax_grad.vjp("y")
def _(F, u, g, y, dim):
    return -u * F.exp(y) * F.sum(g, (dim,), True)


def _normalised(function: Any, input: Tensor, dim: int, dtype: dtypes.dtype | None, out: Tensor | None) -> Tensor:
    name = function.op.name
    expect_tensor(input, name)
    if dtype is not None:
        input = input.to(dtype)
    not_for(f"{name}_kernel_impl", input._a, "biuc")
    d = wrap_dim(dim, input._a.ndim)
    if input._a.ndim:
        result = function(input, d)
    else:
        result = traced.reshape(function(traced.reshape(input, (1,)), 0), ())
    return result if out is None else write_out(out, result, name)


def softmax(input: Tensor, dim: int, dtype: dtypes.dtype | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return exp(x) / sum(exp(x)) along `dim`, without overflow, computed in `dtype` if given."""
    return _normalised(_softmax, input, dim, dtype, out)


def log_softmax(input: Tensor, dim: int, dtype: dtypes.dtype | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return log(softmax(x)) along `dim`, without overflow, computed in `dtype` if given."""
    return _normalised(_log_softmax, input, dim, dtype, out)


def softmin(input: Tensor, dim: int, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return softmax(-x) along `dim`."""
    return softmax(-input, dim, dtype)


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """Return a sample of the Gumbel-Softmax distribution along `dim` (arXiv:1611.00712, arXiv:1611.01144).

    With `hard` the result is one-hot, and its gradient is that of the sample. `eps` has no effect.
    """
    x = expect_tensor(logits, "gumbel_softmax", "logits")._a
    noise = -traced.log(finish(default_stream.exponential(x.shape, x.dtype), logits.device, False))
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = soft.detach().argmax(dim, keepdim=True)
    return zeros_like(soft).scatter(dim, index, 1.0) - soft.detach() + soft
