"""Seeds, generators and random tensors; the numbers themselves are compared with PyTorch in tests/parity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch.random import fork_rng

MAKERS: dict[str, Any] = {
    "rand": lambda **k: torch.rand(5, **k),
    "randn": lambda **k: torch.randn(4, 5, **k),
    "randint": lambda **k: torch.randint(0, 9, (7,), **k),
    "randperm": lambda **k: torch.randperm(9, **k),
    "normal": lambda **k: torch.normal(torch.zeros(4), torch.ones(4), **k),
    "bernoulli": lambda **k: torch.bernoulli(torch.full((20,), 0.5), **k),
    "multinomial": lambda **k: torch.multinomial(torch.ones(9), 4, **k),
    "uniform_": lambda **k: torch.empty(5).uniform_(-1, 1, **k),
    "normal_": lambda **k: torch.empty(5).normal_(1, 2, **k),
    "random_": lambda **k: torch.empty(5, dtype=torch.int64).random_(9, **k),
    "bernoulli_": lambda **k: torch.empty(20).bernoulli_(0.5, **k),
    "exponential_": lambda **k: torch.empty(5).exponential_(2.0, **k),
    "cauchy_": lambda **k: torch.empty(5).cauchy_(1.0, 2.0, **k),
    "geometric_": lambda **k: torch.empty(5).geometric_(0.3, **k),
    "log_normal_": lambda **k: torch.empty(5).log_normal_(**k),
    "rand_like": lambda **k: torch.rand_like(torch.ones(5), **k),
    "randn_like": lambda **k: torch.randn_like(torch.ones(5), **k),
    "randint_like": lambda **k: torch.randint_like(torch.ones(5), 9, **k),
}


def test_first_numbers_of_seed_0() -> None:
    torch.manual_seed(0)
    np.testing.assert_allclose(torch.rand(3).numpy(), [0.49625659, 0.76822180, 0.08847743], rtol=1e-6)
    torch.manual_seed(0)
    np.testing.assert_allclose(torch.randn(3).numpy(), [1.5409961, -0.2934289, -2.1787894], rtol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_a_seed_repeats_the_numbers(name: str) -> None:
    torch.manual_seed(3)
    first, second = MAKERS[name](), MAKERS[name]()
    torch.manual_seed(3)
    assert MAKERS[name]().tolist() == first.tolist()
    assert MAKERS[name]().tolist() == second.tolist()
    generator = torch.Generator().manual_seed(3)
    assert MAKERS[name](generator=generator).tolist() == first.tolist()


@pytest.mark.parametrize("name", MAKERS)
def test_a_generator_leaves_the_default_one_alone(name: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    MAKERS[name](generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_states_are_saved_and_restored() -> None:
    generator = torch.Generator()
    generator.manual_seed(7)
    torch.rand(3, generator=generator)
    state = generator.get_state()
    assert (state.dtype, tuple(state.shape)) == (torch.uint8, (5056,))
    first = torch.randn(5, generator=generator)
    generator.set_state(state)
    assert torch.equal(torch.randn(5, generator=generator), first)
    assert generator.initial_seed() == 7
    with pytest.raises(TypeError, match=r"expected a torch.ByteTensor"):
        generator.set_state([1])


def test_the_default_state() -> None:
    state = torch.get_rng_state()
    a = torch.rand(2)
    torch.set_rng_state(state)
    assert torch.equal(torch.rand(2), a)
    torch.manual_seed(11)
    assert torch.initial_seed() == 11
    seed = torch.seed()
    assert torch.initial_seed() == seed


def test_fork_rng() -> None:
    torch.manual_seed(2)
    with fork_rng():
        torch.rand(10)
    first = torch.rand(3)
    torch.manual_seed(2)
    assert torch.equal(torch.rand(3), first)


def test_ranges_and_types() -> None:
    torch.manual_seed(0)
    u = torch.rand(1000)
    assert u.min().item() >= 0
    assert u.max().item() < 1
    assert torch.rand(3, dtype=torch.float64).dtype is torch.float64
    i = torch.randint(-3, 4, (1000,))
    assert sorted(set(i.tolist())) == list(range(-3, 4))
    assert torch.randint(5, (2, 3)).shape == (2, 3)
    assert sorted(torch.randperm(50).tolist()) == list(range(50))
    assert torch.rand_like(torch.zeros(2, 3, dtype=torch.float64)).dtype is torch.float64
    assert torch.randn_like(torch.zeros(2, 3)).shape == (2, 3)
    assert abs(torch.randn(10_000).std().item() - 1) < 0.05
    assert abs(torch.empty(10_000).exponential_(2.0).mean().item() - 0.5) < 0.03
    assert set(torch.bernoulli(torch.tensor([0.0, 1.0] * 9)).tolist()) == {0.0, 1.0}
    assert torch.rand(2, requires_grad=True).requires_grad


def test_multinomial() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0])
    assert sorted(torch.multinomial(weights, 2).tolist()) == [1, 2]
    drawn = torch.multinomial(weights, 4000, replacement=True)
    assert abs((drawn == 2).sum().item() / 4000 - 0.75) < 0.05
    assert torch.multinomial(torch.ones(3, 4), 2).shape == (3, 2)


def test_filling_counts_a_version_and_spares_leaves() -> None:
    x = torch.zeros(3)
    x.uniform_()
    assert x._version == 1
    with pytest.raises(RuntimeError, match=r"leaf Variable that requires grad.* in-place operation"):
        torch.zeros(3, requires_grad=True).normal_()


def test_filling_cuts_the_graph() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.normal_()
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_dropout() -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    y = torch.dropout(x, 0.25, True)
    values = set(np.round(y.tolist(), 4).tolist())
    assert values == {0.0, round(1 / 0.75, 4)}
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert torch.dropout(x, 0.25, False) is x
    assert torch.dropout(x, 1.0, True).sum().item() == 0
    with pytest.raises(ValueError, match=r"dropout probability has to be between 0 and 1, but got 1.5"):
        torch.dropout(x, 1.5, True)
