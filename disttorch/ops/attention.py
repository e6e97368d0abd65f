"""Attention: softmax(Q K^T / sqrt(E)) V, alone and with the projections of several heads (arXiv:1706.03762)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.ops.dropout import dropout
from disttorch.ops.join import cat
from disttorch.ops.linalg import linear, matmul
from disttorch.ops.padding import pad
from disttorch.ops.registry import traced
from disttorch.ops.softmax import softmax

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(query @ key^T * scale + mask) @ value; query [*, L, E], key [*, S, E], value [*, S, Ev].

    `attn_mask` is bool, True where a query may look at a key, or is added to the scores; `is_causal` lets query i
    look at the keys up to i. `scale` is 1 / sqrt(E) unless given. `dropout_p` is always applied. With `enable_gqa`
    several heads (dimension -3) of the query share one of key and value. A query that may look at nothing gets zeros.
    """
    _check_attention(query, key, value, attn_mask, is_causal)
    dtype = query._a.dtype
    if enable_gqa:
        key, value = _shared(key, query), _shared(value, query)
    query, key, value = (
        traced.cast(x, np.dtype(np.float32)) if dtype.itemsize == 2 else x for x in (query, key, value)
    )
    root = math.sqrt(1 / math.sqrt(query._a.shape[-1]) if scale is None else scale)
    scores = matmul(query * root, traced.mT(key * root))
    if is_causal:
        attn_mask = wrap(backend_of(scores._a).namespace.tri(*scores._a.shape[-2:], dtype=bool))
    if attn_mask is not None:
        scores = scores + (_additive(attn_mask, scores) if attn_mask._a.dtype == bool else attn_mask)
    weights = softmax(scores, -1) if attn_mask is None or is_causal else _softmax_or_zeros(scores)
    out = matmul(dropout(weights, dropout_p), value)
    return out if out._a.dtype == dtype else traced.cast(out, dtype)


def _check_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool) -> None:
    if mask is not None and is_causal:
        raise RuntimeError("scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    types = [x._a.dtype for x in (query, key, value)]
    if types[1:] != types[:-1]:
        raise RuntimeError(
            f"Expected query, key, and value to have the same dtype, but got query.dtype: {query.dtype!r} key.dtype: "
            f"{key.dtype!r} and value.dtype: {value.dtype!r} instead."
        )
    if min(x._a.ndim for x in (query, key, value)) < 2:
        raise RuntimeError(
            f"Expected query, key, and value to all be at least 2 dimensional, but got query: {query._a.ndim}, key: "
            f"{key._a.ndim} and value: {value._a.ndim} instead."
        )


def _shared(x: Tensor, query: Tensor) -> Tensor:
    """Return key or value with each head repeated for the query's heads that share it."""
    heads, wanted = x._a.shape[-3], query._a.shape[-3]
    if wanted % heads:
        raise RuntimeError(
            f"Number of heads in key and value must divide the number of heads in query, {wanted}: {heads}"
        )
    *lead, heads, length, width = x._a.shape
    spread = traced.expand(traced.unsqueeze(x, x._a.ndim - 2), (*lead, heads, wanted // heads, length, width))
    return traced.reshape(spread, (*lead, wanted, length, width))


def _additive(allowed: Tensor, like: Tensor) -> Tensor:
    """Return zeros where `allowed` is true and minus infinity elsewhere."""
    return wrap(backend_of(allowed._a).namespace.where(allowed._a, 0, -np.inf).astype(like._a.dtype))


def _softmax_or_zeros(scores: Tensor) -> Tensor:
    nothing = (scores._a == -np.inf).all(-1, keepdims=True)
    if not nothing.any():
        return softmax(scores, -1)
    zero = traced.zeros_from(scores, ())
    return traced.where(wrap(nothing), zero, softmax(traced.where(wrap(nothing), zero, scores), -1))


# -- several heads ------------------------------------------------------------------------------------------------


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return the attention of `num_heads` heads, [L, N, E], and with `need_weights` its weights [N, L, S].

    query is [L, N, E], key and value are [S, N, *], or all without N. `in_proj_weight` [3 E, E] or three separate
    weights project them, `out_proj_weight` the result. Masks are true where nothing may look, or are added to the
    scores: `key_padding_mask` [N, S], `attn_mask` [L, S] or [N * num_heads, L, S]. `bias_k`, `bias_v` and
    `add_zero_attn` append a key; `static_k`, `static_v` [N * num_heads, S, E / num_heads] replace the projected ones.
    `is_causal` says that `attn_mask` is the causal one.
    """
    batched = _check_dims(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        query, key, value = (traced.unsqueeze(x, 1) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else traced.unsqueeze(key_padding_mask, 0)
    length, batch, width = query._a.shape
    _check_widths(query, key, value, embed_dim_to_check, num_heads, use_separate_proj_weight)
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    causal = is_causal and key_padding_mask is None and not need_weights
    mask = None if causal or attn_mask is None else _mask_of_heads(attn_mask, query, key, num_heads)
    padding = None if key_padding_mask is None else score_mask(key_padding_mask, query, "key_padding_mask")

    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    q, k, v = _projected((query, key, value), in_proj_weight, separate, in_proj_bias)
    if (bias_k is None) != (bias_v is None):
        raise AssertionError("bias_k and bias_v must both be given, or neither")
    added = int(bias_k is not None)
    if bias_k is not None:
        if static_k is not None or static_v is not None:
            raise AssertionError("bias cannot be added to static key or value.")
        k, v = _appended(k, bias_k), _appended(v, bias_v)
    heads = (batch, num_heads, width // num_heads)
    q, k, v = _split(q, heads), _static_or_split(static_k, k, heads), _static_or_split(static_v, v, heads)
    if add_zero_attn:
        added += 1
        k, v = (cat([x, traced.zeros_from(x, (batch, num_heads, 1, heads[2]))], 2) for x in (k, v))
    mask = _joined(mask, padding, added, batch, k._a.shape[2])

    rate = dropout_p if training else 0.0
    if need_weights:
        out, weights = _attention_with_weights(q, k, v, mask, rate)
    else:
        out, weights = scaled_dot_product_attention(q, k, v, mask, rate, causal), None
    out = traced.reshape(traced.permute(out, (2, 0, 1, 3)), (length * batch, width))
    out = traced.reshape(linear(out, out_proj_weight, out_proj_bias), (length, batch, -1))
    if weights is not None and average_attn_weights:
        weights = weights.mean(1)
    if batched:
        return out, weights
    return traced.squeeze(out, (1,)), None if weights is None else traced.squeeze(weights, (0,))


def _check_dims(
    query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, mask: Tensor | None, num_heads: int
) -> bool:
    """Return whether there is a batch dimension; AssertionError for numbers of dimensions that do not go together."""
    n = query._a.ndim
    if n not in (2, 3):
        raise AssertionError(f"query should be unbatched 2D or batched 3D tensor but received {n}-D query tensor")
    if key._a.ndim != n or value._a.ndim != n:
        raise AssertionError(
            f"For a {n}-D query, expected key and value to be {n}-D but found {key._a.ndim}-D and {value._a.ndim}-D tensors"
        )
    if padding is not None and padding._a.ndim != n - 1:
        raise AssertionError(
            f"For a {n}-D query, expected key_padding_mask to be None or {n - 1}-D but found {padding._a.ndim}-D tensor instead"
        )
    if mask is not None and mask._a.ndim not in (2, 3):
        raise AssertionError(f"expected attn_mask to be None, 2-D or 3-D but found {mask._a.ndim}-D tensor instead")
    if n == 2 and mask is not None and mask._a.ndim == 3:
        wanted = (num_heads, query._a.shape[0], key._a.shape[0])
        if mask._a.shape != wanted:
            raise AssertionError(f"Expected attn_mask shape to be {wanted} but got {mask._a.shape}")
    return n == 3


def _check_widths(query: Tensor, key: Tensor, value: Tensor, width: int, num_heads: int, separate: bool) -> None:
    given = query._a.shape[2]
    if given != width:
        raise AssertionError(f"was expecting embedding dimension of {width}, but got {given}")
    if given % num_heads:
        raise AssertionError(f"embed_dim {given} not divisible by num_heads {num_heads}")
    same = slice(2) if separate else slice(3)
    if key._a.shape[same] != value._a.shape[same]:
        raise AssertionError(f"key shape {key._a.shape} does not match value shape {value._a.shape}")


def score_mask(mask: Tensor, query: Tensor, name: str) -> Tensor:
    """Return a mask to add to the scores."""
    if mask._a.dtype == bool:
        return _additive(wrap(~mask._a), query)
    if mask._a.dtype.kind in "iuc":
        raise AssertionError(f"only bool and floating types of {name} are supported")
    return mask


def _mask_of_heads(mask: Tensor, query: Tensor, key: Tensor, num_heads: int) -> Tensor:
    """Return the attention mask as [1 or N, 1 or heads, L, S]."""
    mask = score_mask(mask, query, "attn_mask")
    batch, size = query._a.shape[1], (query._a.shape[0], key._a.shape[0])
    wanted = size if mask._a.ndim == 2 else (batch * num_heads, *size)
    if mask._a.shape != wanted:
        raise RuntimeError(f"The shape of the {mask._a.ndim}D attn_mask is {mask.shape}, but should be {wanted}.")
    return traced.reshape(mask, (1, 1, *size) if mask._a.ndim == 2 else (batch, num_heads, *size))


def _projected(inputs: Any, packed: Tensor | None, separate: Any, bias: Tensor | None) -> list[Tensor]:
    width = inputs[0]._a.shape[2]
    if separate is None:
        if packed is None:
            raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
        if inputs[0] is inputs[1] is inputs[2]:
            return list(traced.split_with_sizes(linear(inputs[0], packed, bias), (width,) * 3, 2))
        separate = traced.split_with_sizes(packed, (width,) * 3, 0)
    for name, weight, x in zip("qkv", separate, inputs):
        if weight is None:
            raise AssertionError(f"use_separate_proj_weight is True but {name}_proj_weight is None")
        if weight._a.shape != (width, x._a.shape[2]):
            raise AssertionError(
                f"expecting {name}_proj_weight of shape {(width, x._a.shape[2])}, got {weight._a.shape}"
            )
    biases = (None,) * 3 if bias is None else traced.split_with_sizes(bias, (width,) * 3, 0)
    return [linear(x, w, b) for x, w, b in zip(inputs, separate, biases)]


def _appended(x: Tensor, last: Any) -> Tensor:
    """Return x [S, N, E] with `last`, E elements, behind it in every sample."""
    _, batch, width = x._a.shape
    return cat([x, traced.expand(traced.reshape(last, (1, 1, width)), (1, batch, width))], 0)


def _split(x: Tensor, heads: tuple[int, int, int]) -> Tensor:
    """Return x [S, N, E] as [N, heads, S, E / heads]."""
    return traced.permute(traced.reshape(x, (x._a.shape[0], *heads)), (1, 2, 0, 3))


def _static_or_split(static: Tensor | None, x: Tensor, heads: tuple[int, int, int]) -> Tensor:
    if static is None:
        return _split(x, heads)
    batch, count, width = heads
    if static._a.shape[0] != batch * count or static._a.shape[2] != width:
        raise AssertionError(
            f"expecting a static key or value of shape [{batch * count}, S, {width}], but got {list(static._a.shape)}"
        )
    return traced.reshape(static, (batch, count, -1, width))


def _joined(mask: Tensor | None, padding: Tensor | None, added: int, batch: int, keys: int) -> Tensor | None:
    """Return both masks as one that broadcasts to [N, heads, L, S]; the `added` last keys are free to look at."""
    if added:
        mask = None if mask is None else pad(mask, (0, added))
        padding = None if padding is None else pad(padding, (0, added))
    if padding is None:
        return mask
    if padding._a.shape != (batch, keys):
        raise AssertionError(f"Expected key_padding_mask of shape {(batch, keys)}, but got {padding._a.shape}")
    padding = traced.reshape(padding, (batch, 1, 1, keys))
    return padding if mask is None else mask + padding


def _attention_with_weights(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout_p: float
) -> tuple[Tensor, Tensor]:
    scores = matmul(q * math.sqrt(1 / q._a.shape[-1]), traced.mT(k))
    weights = dropout(softmax(scores if mask is None else scores + mask, -1), dropout_p)
    return matmul(weights, v), weights
