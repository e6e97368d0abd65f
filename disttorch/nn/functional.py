"""Layers as functions, with PyTorch's signatures: `from disttorch.nn import functional as F`."""

from __future__ import annotations

import warnings
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.core import dtypes
from disttorch.nn._reduction import accepts_legacy
from disttorch.ops import activation, loss
from disttorch.ops.activation import gelu, logsigmoid, sigmoid, softplus
from disttorch.ops.adaptive_pool import *
from disttorch.ops.attention import *
from disttorch.ops.conv import *
from disttorch.ops.dropout import *
from disttorch.ops.elementary import tanh
from disttorch.ops.embedding import *
from disttorch.ops.fold import *
from disttorch.ops.grid import *
from disttorch.ops.linalg import linear
from disttorch.ops.loss import huber_loss
from disttorch.ops.margin_loss import *
from disttorch.ops.norm import *
from disttorch.ops.padding import *
from disttorch.ops.pool import *
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
