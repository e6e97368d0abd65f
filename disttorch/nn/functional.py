"""Layers as functions, with PyTorch's signatures: `from disttorch.nn import functional as F`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from disttorch import ops
from disttorch.autograd.grad_mode import no_grad
from disttorch.autograd.tensor import Tensor
from disttorch.core import dtypes
from disttorch.nn._padding import pad
from disttorch.ops import activation
from disttorch.ops.activation import (
    celu_,
    elu_,
    gelu,
    glu,
    hardshrink,
    hardtanh_,
    leaky_relu_,
    logsigmoid,
    prelu,
    relu_,
    rrelu_,
    selu_,
    sigmoid,
    softplus,
    softshrink,
    softsign,
    tanhshrink,
    threshold_,
)
from disttorch.ops.attention import *
from disttorch.ops.conv import *
from disttorch.ops.creation import zeros
from disttorch.ops.ctc import *
from disttorch.ops.define import expect_tensor
from disttorch.ops.dropout import *
from disttorch.ops.elementary import tanh
from disttorch.ops.embedding import *
from disttorch.ops.linalg import linear
from disttorch.ops.loss import *
from disttorch.ops.margin_loss import *
from disttorch.ops.norm import *
from disttorch.ops.pool import *
from disttorch.ops.random import dropout
from disttorch.ops.registry import traced
from disttorch.ops.resample import *
from disttorch.ops.similarity import bilinear, cosine_similarity, normalize, pairwise_distance
from disttorch.ops.softmax import gumbel_softmax

__all__ = [
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "bilinear", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "celu", "celu_", "conv1d", "conv2d", "conv3d", "cosine_embedding_loss",
    "cosine_similarity", "cross_entropy", "ctc_loss", "dropout", "elu", "elu_", "embedding",
    "gaussian_nll_loss", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "hardtanh_", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "leaky_relu", "leaky_relu_",
    "linear", "log_softmax", "logsigmoid", "margin_ranking_loss", "max_pool1d", "max_pool2d", "max_pool3d",
    "mish", "mse_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
    "nll_loss", "normalize", "one_hot", "pad", "pairwise_distance", "poisson_nll_loss", "prelu", "relu",
    "relu6", "relu_", "rrelu", "rrelu_", "selu", "selu_", "sigmoid", "silu", "smooth_l1_loss",
    "soft_margin_loss", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink",
    "threshold", "threshold_", "triplet_margin_loss", "triplet_margin_with_distance_loss",
]  # fmt: skip

# -- activations ----------------------------------------------------------------------------------


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return max(x, 0), in the memory of `input` if `inplace`."""
    return relu_(input) if inplace else activation.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return x where x > 0, else negative_slope * x, in the memory of `input` if `inplace`."""
    function = leaky_relu_ if inplace else activation.leaky_relu
    return function(input, negative_slope)


def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """Return x where x > 0, else x times a slope: in training random in [lower, upper), else their mean."""
    function = rrelu_ if inplace else activation.rrelu
    return function(input, lower, upper, training)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """Return x where x > threshold, else `value`, in the memory of `input` if `inplace`."""
    function = threshold_ if inplace else activation.threshold
    return function(input, threshold, value)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x limited to [min_val, max_val], in the memory of `input` if `inplace`."""
    function = hardtanh_ if inplace else activation.hardtanh
    return function(input, min_val, max_val)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x where x > 0, else alpha * (exp(x) - 1), in the memory of `input` if `inplace`."""
    function = elu_ if inplace else activation.elu
    return function(input, alpha)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x where x > 0, else alpha * (exp(x / alpha) - 1), in the memory of `input` if `inplace`."""
    function = celu_ if inplace else activation.celu
    return function(input, alpha)


def _may_be_in_place(name: str) -> Callable[..., Tensor]:
    plain, in_place = getattr(activation, name), getattr(activation, name + "_")

    def function(input: Tensor, inplace: bool = False) -> Tensor:
        return in_place(input) if inplace else plain(input)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{plain.__doc__} With `inplace`, in the memory of `input`."
    return function


relu6, selu, silu, mish, hardsigmoid, hardswish = map(
    _may_be_in_place, ("relu6", "selu", "silu", "mish", "hardsigmoid", "hardswish")
)


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return exp(x) / sum(exp(x)) along `dim`, computed in `dtype` if given."""
    return ops.softmax.softmax(input, _chosen_dim("softmax", input, dim, _stacklevel), dtype)


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dtypes.dtype | None = None) -> Tensor:
    """Return softmax(-x) along `dim`, computed in `dtype` if given."""
    return ops.softmax.softmin(input, _chosen_dim("softmin", input, dim, _stacklevel), dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: dtypes.dtype | None = None
) -> Tensor:
    """Return log(softmax(x)) along `dim`, computed in `dtype` if given."""
    return ops.softmax.log_softmax(input, _chosen_dim("log_softmax", input, dim, _stacklevel), dtype)


def _chosen_dim(function: str, input: Tensor, dim: int | None, stacklevel: int) -> int:
    if dim is not None:
        return dim
    warnings.warn(
        f"Implicit dimension choice for {function} has been deprecated. Change the call to include dim=X as an argument.",
        UserWarning,
        stacklevel=stacklevel,
    )
    return 0 if input.ndim in (0, 1, 3) else 1


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
