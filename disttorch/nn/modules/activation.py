"""Activation functions as modules, and attention, which PyTorch has in the same place."""

from __future__ import annotations

import warnings
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.nn import functional as F
from disttorch.nn import init
from disttorch.nn.modules.linear import NonDynamicallyQuantizableLinear
from disttorch.nn.modules.module import Module
from disttorch.nn.parameter import Parameter
from disttorch.ops.attention import score_mask
from disttorch.ops.creation import empty


class _MaybeInPlace(Module):
    """An activation that can write its result into its input's memory."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def _with_inplace(self, text: str) -> str:
        return ", ".join([*([text] if text else []), *(["inplace=True"] if self.inplace else [])])

    def extra_repr(self) -> str:
        return self._with_inplace("")


class ReLU(_MaybeInPlace):
    """max(x, 0)."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element."""
        return F.relu(input, self.inplace)


class SiLU(_MaybeInPlace):
    """x * sigmoid(x), also known as swish."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element."""
        return F.silu(input, self.inplace)


class LeakyReLU(_MaybeInPlace):
    """x where x > 0, else negative_slope * x."""

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element."""
        return F.leaky_relu(input, self.negative_slope, self.inplace)

    def extra_repr(self) -> str:
        return self._with_inplace(f"negative_slope={self.negative_slope}")


class ELU(_MaybeInPlace):
    """x where x > 0, else alpha * (exp(x) - 1) (arXiv:1511.07289)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element."""
        return F.elu(input, self.alpha, self.inplace)

    def extra_repr(self) -> str:
        return self._with_inplace(f"alpha={self.alpha}")


class Hardtanh(_MaybeInPlace):
    """x limited to [min_val, max_val]."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.min_val = min_val
        self.max_val = max_val
        if max_val <= min_val:
            raise AssertionError(f"max_val ({max_val}) must be greater than min_val ({min_val})")

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element."""
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self) -> str:
        return self._with_inplace(f"min_val={self.min_val}, max_val={self.max_val}")


class ReLU6(Hardtanh):
    """min(max(x, 0), 6)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self) -> str:
        return self._with_inplace("")


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element."""
        return F.sigmoid(input)


class LogSigmoid(Module):
    """log(sigmoid(x)), without overflow."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element."""
        return F.logsigmoid(input)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element."""
        return F.tanh(input)


class GELU(Module):
    """x * Phi(x), Phi the normal distribution function; `approximate="tanh"` approximates it."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element."""
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        """Apply the function to each element."""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Module):
    """exp(x) / sum(exp(x)) along `dim`."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Normalise along `dim`."""
        return F.softmax(input, self.dim, _stacklevel=5)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """log(softmax(x)) along `dim`."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Normalise along `dim`."""
        return F.log_softmax(input, self.dim, _stacklevel=5)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


# -- attention ------------------------------------------------------------------------------------


def added_masks(
    query: Tensor, padding: Tensor | None, mask: Tensor | None, padding_name: str, mask_name: str
) -> tuple[Tensor | None, Tensor | None]:
    """Return both masks as what is added to the scores; a warning if one is bool and the other is not."""
    if padding is not None and mask is not None and padding.dtype is not mask.dtype:
        warnings.warn(
            f"Support for mismatched {padding_name} and {mask_name} is deprecated. Use same type for both instead.",
            stacklevel=4,
        )
    return (
        None if padding is None else score_mask(padding, query, padding_name),
        None if mask is None else score_mask(mask, query, mask_name),
    )


class MultiheadAttention(Module):
    """`num_heads` attentions side by side, of queries, keys and values projected to `embed_dim` (arXiv:1706.03762).

    `in_proj_weight` [3 embed_dim, embed_dim] and `in_proj_bias` project all three; with another `kdim` or `vdim` there
    are `q_proj_weight`, `k_proj_weight` [embed_dim, kdim] and `v_proj_weight` [embed_dim, vdim] instead. `out_proj` is
    the linear layer behind the heads. `bias_k` and `bias_v` [1, 1, embed_dim] are a key and value of their own with
    `add_bias_kv`; `add_zero_attn` adds a key and value of zeros. `dropout` is the rate for the weights in training.
    """

    in_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and num_heads={num_heads} instead"
            )
        super().__init__()
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == self.vdim == embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        if embed_dim % num_heads:
            raise AssertionError("embed_dim must be divisible by num_heads")
        self._make_parameters(bias, add_bias_kv, {"device": device, "dtype": dtype})
        self.add_zero_attn = add_zero_attn
        self._reset_parameters()

    def _make_parameters(self, bias: bool, add_bias_kv: bool, options: dict[str, Any]) -> None:
        def register(name: str, shape: tuple[int, ...], wanted: bool) -> None:
            self.register_parameter(name, Parameter(empty(shape, **options)) if wanted else None)

        width, together = self.embed_dim, self._qkv_same_embed_dim
        if together:
            register("in_proj_weight", (3 * width, width), True)
        for name, columns in (("q", width), ("k", self.kdim), ("v", self.vdim)):
            register(f"{name}_proj_weight", (width, columns), not together)
        if not together:
            register("in_proj_weight", (), False)
        register("in_proj_bias", (3 * width,), bias)
        self.out_proj = NonDynamicallyQuantizableLinear(width, width, bias, **options)
        if add_bias_kv:
            register("bias_k", (1, 1, width), True)
            register("bias_v", (1, 1, width), True)
        else:
            self.bias_k = self.bias_v = None

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None and self.out_proj.bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for added in (self.bias_k, self.bias_v):
            if added is not None:
                init.xavier_normal_(added)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the result [L, N, embed_dim] for query [L, N, embed_dim], key [S, N, kdim] and value [S, N, vdim].

        With `batch_first` N comes first; all may be without N. With `need_weights` the second result is the weights,
        [N, L, S] averaged over the heads or [N, heads, L, S]; otherwise None. Masks are true where nothing may look, or
        are added to the scores: `key_padding_mask` [N, S], `attn_mask` [L, S] or [N * heads, L, S]. `is_causal` says that
        `attn_mask` is the causal one.
        """
        key_padding_mask, attn_mask = added_masks(query, key_padding_mask, attn_mask, "key_padding_mask", "attn_mask")
        swapped = self.batch_first and query.ndim == 3
        if swapped:  # one tensor stays one: its projections are then computed together
            seconds = {id(x): x.transpose(1, 0) for x in (query, key, value)}
            query, key, value = (seconds[id(x)] for x in (query, key, value))
        out, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k,
            self.bias_v, self.add_zero_attn, self.dropout, self.out_proj.weight, self.out_proj.bias, self.training,
            key_padding_mask, need_weights, attn_mask, not self._qkv_same_embed_dim, self.q_proj_weight,
            self.k_proj_weight, self.v_proj_weight, average_attn_weights=average_attn_weights, is_causal=is_causal,
        )  # fmt: skip
        return (out.transpose(1, 0) if swapped else out), weights
