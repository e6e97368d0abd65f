"""Attention and transformer modules beside PyTorch's: initial values, masks, warnings, errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import disttorch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


def outcome(scenario: Callable[[Any], Any], library: Any) -> Any:
    """Return arrays, texts of warnings, or the error."""
    library.manual_seed(3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = [value.detach().numpy() for value in scenario(library) if value is not None]
        except Exception as error:
            return f"{type(error).__name__}: {error}".replace("disttorch", "torch")
    said = [str(w.message) for w in caught if "nested" not in str(w.message)]  # PyTorch's nested tensors
    return [*found, *said]


def compare(scenario: Callable[[Any], Any], tolerance: float = 1e-6) -> None:
    ours, theirs = outcome(scenario, disttorch), outcome(scenario, torch)
    if isinstance(theirs, str):
        assert theirs.startswith(ours)  # PyTorch's goes on with advice
        return
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        if isinstance(b, str):
            assert a == b
        else:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.MultiheadAttention(8, 2),
        lambda nn: nn.MultiheadAttention(8, 2, bias=False, kdim=3, vdim=5, add_bias_kv=True),
        lambda nn: nn.TransformerDecoderLayer(8, 2, 16),
        lambda nn: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, nn.LayerNorm(8)),
        lambda nn: nn.Transformer(8, 2, 1, 1, 16, activation=nn.GELU()),
    ],
    ids=range(5),
)
def test_text_names_and_initial_values(make: Callable[[Any], Any]) -> None:
    modules = []
    for library in (disttorch, torch):
        library.manual_seed(3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            modules.append(make(library.nn))
    assert repr(modules[0]) == repr(modules[1])
    ours, theirs = (module.state_dict() for module in modules)
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name].numpy(), value.numpy(), rtol=3e-7, atol=1e-7, err_msg=name)


def encoder(library: Any, **options: Any) -> Any:
    nn = library.nn
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, **options), 2, nn.LayerNorm(8))


def with_gradient(library: Any, module: Any, *inputs: Any, **masks: Any) -> Any:
    """Return the result, its gradient for the first input, and that of a parameter."""
    x = inputs[0].requires_grad_()
    y = module(x, *inputs[1:], **masks)
    y = y[0] if isinstance(y, tuple) else y
    (y * library.arange(y.numel()).view(y.shape).cos()).sum().backward()
    return y, x.grad, next(module.parameters()).grad


ENCODERS: list[Callable[[Any], Any]] = [
    lambda lib: with_gradient(lib, encoder(lib), lib.randn(5, 2, 8)),
    lambda lib: with_gradient(
        lib, encoder(lib, batch_first=True, norm_first=True, activation="gelu"), lib.randn(2, 5, 8)
    ),
    lambda lib: with_gradient(lib, encoder(lib, bias=False), lib.randn(5, 8)),
    lambda lib: with_gradient(
        lib, encoder(lib), lib.randn(5, 2, 8), mask=lib.nn.Transformer.generate_square_subsequent_mask(5)
    ),
    lambda lib: with_gradient(lib, encoder(lib), lib.randn(5, 2, 8), mask=lib.ones(5, 5).triu(1).bool()),
    lambda lib: with_gradient(
        lib,
        encoder(lib),
        lib.randn(3, 2, 8),
        mask=lib.zeros(3, 3),
        src_key_padding_mask=lib.tensor([[False, False, True], [False, False, False]]),
    ),
    lambda lib: with_gradient(lib, encoder(lib), lib.randn(5, 2, 8), is_causal=True),
    lambda lib: with_gradient(lib, encoder(lib), lib.randn(5, 2, 8), mask=lib.zeros(4, 4)),
    lambda lib: [lib.nn.Transformer.generate_square_subsequent_mask(3)],
    lambda lib: with_gradient(
        lib,
        lib.nn.Transformer(8, 2, 1, 1, 16, 0.0, batch_first=True),
        lib.randn(2, 5, 8),
        lib.randn(2, 4, 8),
        tgt_mask=lib.nn.Transformer.generate_square_subsequent_mask(4),
    ),
    lambda lib: lib.nn.Transformer(8, 2, 1, 1, 16)(lib.randn(5, 2, 8), lib.randn(5, 3, 8)),
    lambda lib: lib.nn.Transformer(8, 2, 1, 1, 16)(lib.randn(5, 2, 8), lib.randn(5, 2, 7)),
    lambda lib: lib.nn.TransformerEncoderLayer(8, 2, activation="tanh"),
    lambda lib: lib.nn.MultiheadAttention(8, 2)(*[lib.randn(5, 2, 8)] * 3),
    lambda lib: lib.nn.MultiheadAttention(8, 2, batch_first=True)(
        lib.randn(2, 5, 8), lib.randn(2, 3, 8), lib.randn(2, 3, 8), average_attn_weights=False
    ),
    lambda lib: lib.nn.MultiheadAttention(8, 2, add_zero_attn=True)(*[lib.randn(5, 2, 8)] * 3, need_weights=False),
    lambda lib: lib.nn.MultiheadAttention(8, 3),
    lambda lib: lib.nn.MultiheadAttention(8, 0),
    lambda lib: lib.nn.MultiheadAttention(8, 2)(*[lib.randn(5, 2, 7)] * 3),
    lambda lib: lib.nn.MultiheadAttention(8, 2)(*[lib.randn(5)] * 3),
]


@pytest.mark.parametrize("scenario", ENCODERS, ids=range(len(ENCODERS)))
def test_results(scenario: Callable[[Any], Any]) -> None:
    compare(scenario, 2e-5)
