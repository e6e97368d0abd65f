"""Layers as functions, with PyTorch's signatures: `from disttorch.nn import functional as F`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from disttorch import ops
from disttorch.autograd.tensor import Tensor
from disttorch.core import dtypes
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
from disttorch.ops.adaptive_pool import *
from disttorch.ops.attention import *
from disttorch.ops.conv import *
from disttorch.ops.ctc import *
from disttorch.ops.distance import pdist
from disttorch.ops.dropout import *
from disttorch.ops.elementary import tanh
from disttorch.ops.embedding import *
from disttorch.ops.fold import *
from disttorch.ops.grid import *
from disttorch.ops.linalg import linear
from disttorch.ops.loss import *
from disttorch.ops.margin_loss import *
from disttorch.ops.norm import *
from disttorch.ops.padding import *
from disttorch.ops.pool import *
from disttorch.ops.resample import *
from disttorch.ops.similarity import bilinear, cosine_similarity, normalize, pairwise_distance
from disttorch.ops.softmax import gumbel_softmax

__all__ = [
    "bilinear", "celu", "celu_", "cosine_similarity", "elu", "elu_", "gelu", "glu", "gumbel_softmax", "hardshrink",
    "hardsigmoid", "hardswish", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "linear", "log_softmax",
    "logsigmoid", "mish", "normalize", "pairwise_distance", "pdist", "prelu", "relu", "relu6", "relu_", "rrelu",
    "rrelu_", "selu", "selu_", "sigmoid", "silu", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh",
    "tanhshrink", "threshold", "threshold_",
]  # fmt: skip
for _module in (
    ops.adaptive_pool, ops.attention, ops.conv, ops.ctc, ops.dropout, ops.embedding, ops.fold, ops.loss,
    ops.margin_loss, ops.norm, ops.padding, ops.pool, ops.resample,
):  # fmt: skip
    __all__ += _module.__all__

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
