"""The transformer of Vaswani et al., arXiv:1706.03762: encoder, decoder and their layers.

Attributes, parameters and results are PyTorch's. There are no nested tensors, so in evaluation the positions that
`src_key_padding_mask` names are computed like the others, not left zero.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.nn import functional as F
from disttorch.nn import init
from disttorch.nn.modules.activation import MultiheadAttention, added_masks
from disttorch.nn.modules.container import ModuleList
from disttorch.nn.modules.dropout import Dropout
from disttorch.nn.modules.linear import Linear
from disttorch.nn.modules.module import Module
from disttorch.nn.modules.normalization import LayerNorm
from disttorch.ops.creation import full
from disttorch.ops.diagonals import triu

Activation = str | Callable[[Tensor], Tensor]


class _Layer(Module):
    """What the layers share: self-attention and two linear layers, each with a normalization and dropout around it."""

    norms: int

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        options = {"device": device, "dtype": dtype}
        self._make_attention(d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first, **options)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **options)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **options)
        self.norm_first = norm_first
        for k in range(1, self.norms + 1):
            setattr(self, f"norm{k}", LayerNorm(d_model, layer_norm_eps, bias=bias, **options))
        for k in range(1, self.norms + 1):
            setattr(self, f"dropout{k}", Dropout(dropout))
        self.activation = _activation(activation)

    def _make_attention(self, d_model: int, nhead: int, **options: Any) -> None:
        self.self_attn = MultiheadAttention(d_model, nhead, **options)

    def _sa_block(
        self, x: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        y, _ = self.self_attn(x, x, x, key_padding_mask, False, attn_mask, is_causal=is_causal)
        return self.dropout1(y)

    def _ff_block(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.linear1(x)))
        return getattr(self, f"dropout{self.norms}")(self.linear2(hidden))

    def _through(self, x: Tensor, *blocks: Callable[[Tensor], Tensor]) -> Tensor:
        """Add each block's result to its input, with the normalization before the block or behind the sum."""
        for k, block in enumerate(blocks, 1):
            norm = getattr(self, f"norm{k}")
            x = x + block(norm(x)) if self.norm_first else norm(x + block(x))
        return x


_LAYER = """

    `d_model` is the width, `dim_feedforward` that between the two linear layers, with `activation` ("relu", "gelu" or a
    function) there. `norm_first` normalizes before each part instead of behind it. `batch_first` says that tensors are
    [N, L, d_model], not [L, N, d_model]; they may be without N.
    """


class TransformerEncoderLayer(_Layer):
    __doc__ = "Self-attention, then two linear layers." + _LAYER
    norms = 2

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Map [L, N, d_model] to [L, N, d_model]; see `MultiheadAttention` for the masks."""
        padding, mask = added_masks(src, src_key_padding_mask, src_mask, "src_key_padding_mask", "src_mask")
        return self._through(src, lambda x: self._sa_block(x, mask, padding, is_causal), self._ff_block)


class TransformerDecoderLayer(_Layer):
    __doc__ = "Self-attention, attention to an encoder's result, then two linear layers." + _LAYER
    norms = 3

    def _make_attention(self, d_model: int, nhead: int, **options: Any) -> None:
        super()._make_attention(d_model, nhead, **options)
        self.multihead_attn = MultiheadAttention(d_model, nhead, **options)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Map tgt [L, N, d_model], and memory [S, N, d_model] to look at, to [L, N, d_model]."""
        return self._through(
            tgt,
            lambda x: self._sa_block(x, tgt_mask, tgt_key_padding_mask, tgt_is_causal),
            lambda x: self._mha_block(x, memory, memory_mask, memory_key_padding_mask, memory_is_causal),
            self._ff_block,
        )

    def _mha_block(
        self, x: Tensor, memory: Tensor, mask: Tensor | None, padding: Tensor | None, is_causal: bool
    ) -> Tensor:
        y, _ = self.multihead_attn(x, memory, memory, padding, False, mask, is_causal=is_causal)
        return self.dropout2(y)


class _Stack(Module):
    """Copies of a layer, one behind the other, and a normalization behind them."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def _is_causal(self, x: Tensor, mask: Tensor | None, is_causal: bool | None) -> bool:
        """Return the hint, or without one whether a mask is the causal one."""
        if is_causal is not None or mask is None:
            return bool(is_causal)
        length = x.shape[1 if self.layers[0].self_attn.batch_first and x.ndim == 3 else 0]
        causal = _causal_mask(length, mask.device, mask.dtype)
        return mask.shape == causal.shape and bool((mask == causal).all())


class TransformerEncoder(_Stack):
    """`num_layers` copies of a `TransformerEncoderLayer`, then `norm`, if given.

    `enable_nested_tensor` and `mask_check` are accepted: there are no nested tensors.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__(encoder_layer, num_layers, norm)
        self.enable_nested_tensor = enable_nested_tensor
        self.mask_check = mask_check

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Map [L, N, d_model] to [L, N, d_model]; without `is_causal` the mask itself tells whether it is causal."""
        padding, mask = added_masks(src, src_key_padding_mask, mask, "src_key_padding_mask", "mask")
        causal = self._is_causal(src, mask, is_causal)
        for layer in self.layers:
            src = layer(src, src_mask=mask, is_causal=causal, src_key_padding_mask=padding)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(_Stack):
    """`num_layers` copies of a `TransformerDecoderLayer`, then `norm`, if given."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Map tgt [L, N, d_model] and memory [S, N, d_model] to [L, N, d_model]."""
        causal = self._is_causal(tgt, tgt_mask, tgt_is_causal)
        for layer in self.layers:
            tgt = layer(
                tgt,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=causal,
                memory_is_causal=memory_is_causal,
            )
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder and a decoder, each with a normalization behind its layers; `custom_*` take their places."""

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Any = None,
        custom_decoder: Any = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first)
        if custom_encoder is None:
            encoder_layer = TransformerEncoderLayer(*sizes, **options)
            norm = LayerNorm(d_model, layer_norm_eps, **options)
            custom_encoder = TransformerEncoder(encoder_layer, num_encoder_layers, norm)
        self.encoder = custom_encoder
        if custom_decoder is None:
            decoder_layer = TransformerDecoderLayer(*sizes, **options)
            norm = LayerNorm(d_model, layer_norm_eps, **options)
            custom_decoder = TransformerDecoder(decoder_layer, num_decoder_layers, norm)
        self.decoder = custom_decoder
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Map src [S, N, d_model] and tgt [T, N, d_model] to [T, N, d_model]."""
        batch_dim = 0 if self.batch_first else 1
        if src.ndim == 3 and src.shape[batch_dim] != tgt.shape[batch_dim]:
            raise RuntimeError("the batch number of src and tgt must be equal")
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise RuntimeError("the feature number of src and tgt must be equal to d_model")
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal,
            memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """Return the causal mask [sz, sz]: minus infinity above the diagonal, zero elsewhere."""
        return _causal_mask(sz, device, dtype)


def _causal_mask(size: int, device: Any, dtype: Any) -> Tensor:
    return triu(full((size, size), float("-inf"), device=device, dtype=dtype), 1)


def _activation(given: Activation) -> Callable[[Tensor], Tensor]:
    if not isinstance(given, str):
        return given
    if given not in ("relu", "gelu"):
        raise RuntimeError(f"activation should be relu/gelu, not {given}")
    return F.relu if given == "relu" else F.gelu
