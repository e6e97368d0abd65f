"""Random tensors of every layout against PyTorch: the same seed gives the same bits, and leaves the generator in the same state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

import disttorch  # noqa: E402

FLOATS = ("float16", "bfloat16", "float32", "float64")
LAYOUTS: dict[str, Callable[..., Any]] = {
    "few": lambda t, d: t.zeros(5, dtype=d),
    "rows": lambda t, d: t.zeros(3, 11, dtype=d),
    "columns": lambda t, d: t.zeros(5, 7, dtype=d).t(),
    "every other": lambda t, d: t.zeros(5, 14, dtype=d)[:, ::2],
    "permuted": lambda t, d: t.zeros(3, 4, 5, dtype=d).permute(2, 0, 1),
}
FILLS: dict[str, Callable[[Any], Any]] = {
    "uniform_": lambda x: x.uniform_(-2, 3.5),
    "cauchy_": lambda x: x.cauchy_(1, 2.5),
    "geometric_": lambda x: x.geometric_(0.3),
    "log_normal_": lambda x: x.log_normal_(0.1, 0.4),
    "random_": lambda x: x.random_(0, 17),
}
LIKE: dict[str, Callable[[Any, Any], Any]] = {
    "rand_like": lambda t, x: t.rand_like(x),
    "randint_like": lambda t, x: t.randint_like(x, 1, 9),
    "bernoulli": lambda t, x: t.bernoulli(x + 0.25),
    "normal": lambda t, x: t.normal(x + 1, 0.5) if x.numel() < 16 else t.normal(x[:2] + 1, x[:2] + 2),
    "multinomial": lambda t, x: t.multinomial(x.reshape(-1).float() + 1, 3),
}


def elements(tensor: Any) -> np.ndarray:
    """Return the elements of a tensor of either library."""
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def draw(t: Any, function: Callable[..., Any]) -> list[np.ndarray]:
    """Return what is drawn from a seed, its strides, and what comes after it."""
    t.manual_seed(11)
    drawn = function(t)
    return [elements(drawn), np.asarray(drawn.stride()), elements(t.rand(2))]


def assert_equal_bits(function: Callable[..., Any]) -> None:
    for ours, theirs in zip(draw(disttorch, function), draw(torch, function)):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FILLS)
def test_filled_in_place(name: str, dtype: str, layout: str) -> None:
    assert_equal_bits(lambda t: FILLS[name](LAYOUTS[layout](t, getattr(t, dtype))))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", LIKE)
def test_like_another_tensor(name: str, dtype: str, layout: str) -> None:
    assert_equal_bits(lambda t: LIKE[name](t, LAYOUTS[layout](t, getattr(t, dtype))))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int8"])
def test_whole_numbers(dtype: str) -> None:
    assert_equal_bits(lambda t: t.zeros(4, 5, dtype=getattr(t, dtype)).t().geometric_(0.2))
    assert_equal_bits(lambda t: t.randint_like(t.zeros(4, 5, dtype=getattr(t, dtype)).t(), 90))
