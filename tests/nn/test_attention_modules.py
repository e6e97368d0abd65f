"""Attention and transformer modules beside plain NumPy, and what masks must and must not let through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch import nn


def numbers(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(
    layer: Any, query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Attention of one sample [L, E], [S, E]: its result and the weights [heads, L, S]."""
    state = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    projected = zip((query, key, value), np.split(state["in_proj_weight"], 3), np.split(state["in_proj_bias"], 3))
    q, k, v = (np.stack(np.split(x @ w.T + b, layer.num_heads, 1)) for x, w, b in projected)
    weights = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(layer.head_dim) + mask)
    together = np.concatenate(list(weights @ v), 1)
    return together @ state["out_proj.weight"].T + state["out_proj.bias"], weights


@pytest.mark.parametrize("batch_first", [False, True])
def test_attention(batch_first: bool) -> None:
    layer = nn.MultiheadAttention(6, 2, batch_first=batch_first).double()
    nn.init.normal_(layer.in_proj_bias)
    query, key, value = numbers(2, 4, 6), numbers(2, 3, 6, seed=1), numbers(2, 3, 6, seed=2)
    mask = np.where(np.random.default_rng(3).random((4, 3)) < 0.3, -np.inf, 0.5)
    mask[:, 0] = 0
    given = [x if batch_first else x.transpose(0, 1) for x in (query, key, value)]
    out, weights = layer(*given, attn_mask=torch.from_numpy(mask), average_attn_weights=False)
    alone, mean_weights = layer(query[1], key[1], value[1], attn_mask=torch.from_numpy(mask))
    for n in range(2):
        expected, expected_weights = by_hand(layer, *(x[n].numpy() for x in (query, key, value)), mask)
        found = out[n] if batch_first else out[:, n]
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(weights[n].detach().numpy(), expected_weights, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(alone.detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(mean_weights.detach().numpy(), expected_weights.mean(0), rtol=1e-10, atol=1e-12)


def test_keys_of_other_widths_and_a_key_of_its_own() -> None:
    layer = nn.MultiheadAttention(6, 3, kdim=4, vdim=5, add_bias_kv=True, add_zero_attn=True).double()
    assert list(layer.state_dict()) == [
        "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias", "bias_k", "bias_v", "out_proj.weight",
        "out_proj.bias",
    ]  # fmt: skip
    out, weights = layer(numbers(4, 6), numbers(2, 4), numbers(2, 5))
    assert (out.shape, weights.shape) == ((4, 6), (4, 4))  # two keys, the layer's own and the zero one


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_causal_encoder_does_not_look_ahead(norm_first: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, norm_first=norm_first, activation="gelu")
    net = nn.TransformerEncoder(layer, 2).double().eval()
    x, mask = numbers(5, 3, 8), nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    changed = x.clone()
    changed[3] = numbers(3, 8, seed=1)
    for options in ({"mask": mask}, {"mask": mask, "is_causal": True}, {"mask": mask == -torch.inf}):
        before, after = net(x, **options), net(changed, **options)
        np.testing.assert_allclose(after[:3].detach().numpy(), before[:3].detach().numpy(), rtol=1e-12)
        assert (after[3:] - before[3:]).abs().min() > 0


def test_padding_is_not_looked_at() -> None:
    torch.manual_seed(0)
    net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True).double().eval()
    src, tgt = numbers(2, 5, 8), numbers(2, 3, 8, seed=1)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    changed = src.clone()
    changed[1, 3:] = numbers(2, 8, seed=2)
    outs = [net(x, tgt, src_key_padding_mask=padding, memory_key_padding_mask=padding) for x in (src, changed)]
    np.testing.assert_allclose(outs[0].detach().numpy(), outs[1].detach().numpy(), rtol=1e-12)


def test_layers_of_a_stack_are_copies() -> None:
    layer = nn.TransformerDecoderLayer(4, 1, 8)
    net = nn.TransformerDecoder(layer, 3)
    assert len({id(p) for p in net.parameters()}) == 3 * len(list(layer.parameters()))
    np.testing.assert_array_equal(net.layers[2].linear1.weight.detach().numpy(), layer.linear1.weight.detach().numpy())
