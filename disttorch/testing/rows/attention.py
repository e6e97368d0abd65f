"""Samples of `disttorch.ops.attention`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Mask, Sample, functional, one


def samples() -> Iterator[Sample]:
    """Yield the samples of attention."""
    q, k, v = A(2, 3, 2), A(2, 4, 2), A(2, 4, 3)
    name = "scaled_dot_product_attention"
    yield from one(name, _attention(), q, k, v, covers="bmm softmax", expected=_expected)
    yield from one(name, _attention(is_causal=True, scale=0.5), q, k, v, covers="bmm softmax")
    yield from one(name, _attention(enable_gqa=True), A(1, 2, 2, 2), A(1, 1, 3, 2), A(1, 1, 3, 2), covers="bmm softmax")
    for mask in (A(3, 4), Mask(2, 1, 4)):
        yield from one(name, lambda t, q, k, v, m: functional(t).scaled_dot_product_attention(q, k, v, m), q, k, v, mask,
                       covers="bmm softmax")  # fmt: skip
    weights = (A(12, 4), A(12), A(4, 4), A(4))
    for options in ({}, {"need_weights": False, "add_zero_attn": True}):
        yield from one("multi_head_attention_forward", _heads(**options), A(2, 1, 4), A(3, 1, 4), *weights,
                       covers="bmm softmax linear")  # fmt: skip


def _attention(**named: Any) -> Any:
    return lambda t, *qkv: functional(t).scaled_dot_product_attention(*qkv, **named)


def _expected(q: Any, k: Any, v: Any) -> Any:
    weights = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
    return weights / weights.sum(-1, keepdims=True) @ v


def _heads(add_zero_attn: bool = False, **named: Any) -> Any:
    def call(t: Any, query: Any, key: Any, *weights: Any) -> Any:
        w_in, b_in, w_out, b_out = weights
        padding = t.tensor([[False, True, False]])
        found = functional(t).multi_head_attention_forward(
            query,
            key,
            key,
            4,
            2,
            w_in,
            b_in,
            None,
            None,
            add_zero_attn,
            0.0,
            w_out,
            b_out,
            key_padding_mask=padding,
            **named,
        )
        return [x for x in found if x is not None]

    return call
