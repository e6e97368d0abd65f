"""Layers as functions, with PyTorch's signatures: `from disttorch.nn import functional as F`."""

from __future__ import annotations

import warnings
from typing import Any

from disttorch.autograd.grad_mode import no_grad
from disttorch.autograd.tensor import Tensor
from disttorch.core import dtypes
from disttorch.nn._reduction import accepts_legacy
from disttorch.ops import activation, loss
from disttorch.ops.activation import gelu, logsigmoid, sigmoid, softplus
from disttorch.ops.adaptive_pool import *
from disttorch.ops.attention import *
from disttorch.ops.conv import *
from disttorch.ops.creation import zeros
from disttorch.ops.define import expect_tensor
from disttorch.ops.dropout import *
from disttorch.ops.elementary import tanh
from disttorch.ops.embedding import *
from disttorch.ops.fold import *
from disttorch.ops.linalg import linear
from disttorch.ops.loss import huber_loss
from disttorch.ops.margin_loss import *
from disttorch.ops.norm import *
from disttorch.ops.padding import *
from disttorch.ops.pool import *
from disttorch.ops.registry import traced
from disttorch.ops.resample import *
from disttorch.ops.write import inplace as in_place

__all__ = [
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "conv1d", "conv2d", "conv3d", "cross_entropy", "dropout",
    "elu", "elu_", "embedding", "gelu", "hardtanh", "hardtanh_", "huber_loss", "l1_loss",
    "leaky_relu", "leaky_relu_", "linear", "log_softmax", "logsigmoid", "max_pool1d", "max_pool2d",
    "max_pool3d", "mse_loss", "nll_loss", "one_hot", "pad", "relu", "relu6", "relu_", "sigmoid",
    "silu", "smooth_l1_loss", "softmax", "softplus", "tanh",
]  # fmt: skip

# -- activations ----------------------------------------------------------------------------------

relu_ = in_place(activation.relu)
leaky_relu_ = in_place(activation.leaky_relu)
elu_ = in_place(activation.elu)
hardtanh_ = in_place(activation.hardtanh)
_relu6_ = in_place(activation.relu6)
_silu_ = in_place(activation.silu)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return max(x, 0), in the memory of `input` if `inplace`."""
    return relu_(input) if inplace else activation.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return x where x > 0, else negative_slope * x, in the memory of `input` if `inplace`."""
    function = leaky_relu_ if inplace else activation.leaky_relu
    return function(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x where x > 0, else alpha * (exp(x) - 1), in the memory of `input` if `inplace`."""
    function = elu_ if inplace else activation.elu
    return function(input, alpha)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return x * sigmoid(x), in the memory of `input` if `inplace`."""
    return _silu_(input) if inplace else activation.silu(input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """Return min(max(x, 0), 6), in the memory of `input` if `inplace`."""
    return _relu6_(input) if inplace else activation.relu6(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x limited to [min_val, max_val], in the memory of `input` if `inplace`."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    function = hardtanh_ if inplace else activation.hardtanh
    return function(input, min_val, max_val)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return exp(x) / sum(exp(x)) along `dim`, computed in `dtype` if given."""
    return activation.softmax(input, _chosen_dim("softmax", input, dim, _stacklevel), dtype=dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dtypes.dtype | None = None
) -> Tensor:
    """Return log(softmax(x)) along `dim`, computed in `dtype` if given."""
    return activation.log_softmax(input, _chosen_dim("log_softmax", input, dim, _stacklevel), dtype=dtype)


def _chosen_dim(function: str, input: Tensor, dim: int | None, stacklevel: int) -> int:
    if dim is not None:
        return dim
    warnings.warn(
        f"Implicit dimension choice for {function} has been deprecated. Change the call to include dim=X as an argument.",
        UserWarning,
        stacklevel=stacklevel,
    )
    return 0 if input.ndim in (0, 1, 3) else 1


# -- losses ---------------------------------------------------------------------------------------

mse_loss = accepts_legacy(loss.mse_loss)
l1_loss = accepts_legacy(loss.l1_loss)
smooth_l1_loss = accepts_legacy(loss.smooth_l1_loss)
nll_loss = accepts_legacy(loss.nll_loss)
cross_entropy = accepts_legacy(loss.cross_entropy)
binary_cross_entropy = accepts_legacy(loss.binary_cross_entropy)
binary_cross_entropy_with_logits = accepts_legacy(loss.binary_cross_entropy_with_logits)


# -- look-up --------------------------------------------------------------------------------------


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Return int64 [*, num_classes] with a one at each class number of `tensor` (int64) [*].

    -1 classes means one more than the largest number. A number out of range raises RuntimeError.
    """
    classes = expect_tensor(tensor, "one_hot", "tensor")._a
    if classes.dtype != "int64":
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if not classes.size and num_classes <= 0:
        raise RuntimeError("Can not infer total number of classes from empty tensor.")
    if classes.size and classes.min() < 0:
        raise RuntimeError("Class values must be non-negative.")
    if num_classes == -1:
        num_classes = int(classes.max()) + 1
    elif classes.size and classes.max() >= num_classes:
        raise RuntimeError("Class values must be smaller than num_classes.")
    shape = (*classes.shape, num_classes)
    empty = zeros(shape, dtype=tensor.dtype, device=tensor.device)
    return empty.scatter(-1, tensor.detach().unsqueeze(-1), value=1) if classes.size else empty


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Return the rows of `weight` [rows, D] that `input` [*], integers, names: [*, D].

    Rows named `padding_idx` pass no gradient on. With `max_norm`, rows in use with a larger
    `norm_type`-norm are scaled to it first, in `weight` itself. A row out of range raises
    IndexError; gradients scaled by frequency and sparse gradients are not in disttorch.
    """
    if scale_grad_by_freq or sparse:
        raise NotImplementedError(
            "embedding(): scale_grad_by_freq=True and sparse=True are not in disttorch; leave them out"
        )
    rows = expect_tensor(input, "embedding")._a
    if rows.dtype.kind not in "iu":
        raise RuntimeError(
            "Expected tensor for argument 'input' to have one of the following scalar types: Long, "
            f"Int; but got {input.dtype!r} instead (while checking arguments for embedding)"
        )
    count = weight.shape[0]
    if rows.size and (rows.min() < 0 or rows.max() >= count):
        raise IndexError(f"index out of range in self: embedding has {count} rows")
    if padding_idx is not None:
        if not -count <= padding_idx < count:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= count
    if max_norm is not None:
        _limit_rows(weight, rows, max_norm, norm_type)
    found = weight[input.detach()]
    if padding_idx is None:
        return found
    is_padding = traced.eq(input.detach(), padding_idx).unsqueeze(-1)
    return traced.where(is_padding, found.detach(), found)


def _limit_rows(weight: Tensor, rows: Any, max_norm: float, norm_type: float) -> None:
    with no_grad():
        for row in sorted({int(r) for r in rows.reshape(-1)}):
            size = float(weight[row].norm(norm_type))
            if size > max_norm:
                weight[row].mul_(max_norm / (size + 1e-7))
