"""`autograd.functional` and `func` against formulas and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import disttorch as torch
from disttorch import func
from disttorch.autograd.functional import hessian, hvp, jacobian, jvp, vhp, vjp
from disttorch.testing import assert_close


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.5, 1.5, shape))


def slopes(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, eps: float = 1e-6) -> np.ndarray:
    """Return the Jacobian [*result.shape, *x.shape] by central differences."""
    columns = []
    for place in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[place] = eps
        above, below = function(x + torch.from_numpy(step)), function(x - torch.from_numpy(step))
        columns.append(((above - below) / (2 * eps)).numpy())
    return np.stack(columns, -1).reshape(*columns[0].shape, *x.shape)


def curve(x: torch.Tensor) -> torch.Tensor:
    return (x.exp() * x).sum(1) * x[0, 0]


def bowl(x: torch.Tensor) -> torch.Tensor:
    return (x**3).sum() * x[0, 0].sin()


def near(found: torch.Tensor, expected: np.ndarray, atol: float = 1e-7) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, 1e-6, atol)


@pytest.mark.parametrize("find", [jacobian, lambda f, x: func.jacrev(f)(x), lambda f, x: func.jacfwd(f)(x)])
def test_jacobian(find: Any) -> None:
    x = numbers(2, 3)
    found = find(curve, x)
    assert found.shape == (2, 2, 3)
    assert not found.requires_grad
    near(found, slopes(curve, x))


@pytest.mark.parametrize("find", [hessian, lambda f, x: func.hessian(f)(x)])
def test_hessian(find: Any) -> None:
    x = numbers(2, 3)
    near(find(bowl, x), slopes(func.grad(bowl), x))


def test_products_agree_with_the_matrices() -> None:
    x, v, u = numbers(2, 3), numbers(2, 3, seed=1), numbers(2, seed=2)
    j, h = jacobian(curve, x), hessian(bowl, x)
    assert_close(vjp(curve, x, u)[1], torch.from_numpy(np.einsum("i,ijk->jk", u, j)))
    assert_close(jvp(curve, x, v)[1], torch.from_numpy(np.einsum("ijk,jk->i", j, v)))
    for product in (vhp, hvp):
        assert_close(product(bowl, x, v)[1], torch.from_numpy(np.einsum("ijkl,kl->ij", h, v)))
    assert_close(func.jvp(curve, (x,), (v,)), jvp(curve, x, v))
    assert_close(func.vjp(curve, x)[1](u)[0], vjp(curve, x, u)[1])
    assert_close(func.linearize(curve, x)[1](v), jvp(curve, x, v)[1])


def test_results_can_be_differentiated_with_create_graph() -> None:
    x = numbers(2, 3).requires_grad_()
    j = jacobian(curve, x, create_graph=True)
    j.sum().backward()
    near(x.grad, slopes(lambda z: jacobian(curve, z).sum(), x.detach()))


def test_arguments_keep_their_grad() -> None:
    x = numbers(2, 3).requires_grad_()
    func.grad(bowl)(x)
    jacobian(curve, x)
    assert x.grad is None
    assert x.is_leaf


def test_derivatives_of_any_order() -> None:
    f: Any = torch.sin
    for expected in (np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin, np.cos):
        f = func.grad(f)
        found = f(torch.tensor(0.7, dtype=torch.float64))
        assert not found.requires_grad
        near(found, expected(0.7))


def test_an_inner_derivative_does_not_see_the_outer_variable() -> None:
    def product(x: torch.Tensor) -> torch.Tensor:
        return x * func.grad(lambda y: x * y)(x)  # x * x

    near(func.grad(product)(torch.tensor(3.0)), 6.0)


def test_a_transform_leaves_no_graph_unless_something_outside_requires_grad() -> None:
    w = numbers(3).requires_grad_()
    alone, (value, back) = func.grad(lambda x: (x**2).sum())(numbers(3)), func.vjp(torch.exp, numbers(3))
    assert not alone.requires_grad
    assert not value.requires_grad
    assert not back(numbers(3))[0].requires_grad
    bound = func.grad(lambda x: (x * w).sum())(numbers(3))
    assert torch.autograd.grad(bound.sum(), w)[0].tolist() == [1.0, 1.0, 1.0]
    with torch.no_grad():
        assert not func.grad(lambda x: (x * w).sum())(numbers(3)).requires_grad


def test_grad_works_within_no_grad_and_respects_it_inside() -> None:
    with torch.no_grad():
        near(func.grad(lambda x: x**3)(torch.tensor(2.0)), 12.0)
    near(func.grad(lambda x: x * torch.no_grad()(lambda z: z**2)(x))(torch.tensor(2.0)), 4.0)


def test_an_error_in_the_function_ends_its_level() -> None:
    def fails(x: torch.Tensor) -> torch.Tensor:
        kept.append(x)
        raise KeyError("own")

    kept: list[torch.Tensor] = []
    with pytest.raises(KeyError):
        func.grad(fails)(numbers(2))
    assert not func.grad(lambda y: (y * kept[0]).sum())(numbers(2)).requires_grad


class Pair(NamedTuple):
    a: Any
    b: Any


def test_arguments_and_results_can_be_nested() -> None:
    tree = {"p": Pair(numbers(2), [numbers(3)])}
    found = func.grad(lambda t: (t["p"].a ** 2).sum() + (t["p"].b[0] * 3).sum())(tree)
    assert type(found["p"]) is Pair
    assert_close(found["p"].a, tree["p"].a * 2)
    assert found["p"].b[0].tolist() == [3.0, 3.0, 3.0]


# -- vmap ---------------------------------------------------------------------------------------------------------


def test_vmap_is_a_loop() -> None:
    x, y = numbers(4, 3), numbers(3, 5, seed=1)
    assert_close(func.vmap(lambda r: (r * 2).sum())(x), (x * 2).sum(1))
    assert_close(
        func.vmap(lambda r, c: r[:, None] * c, (0, None), 1)(x, y), torch.stack([r[:, None] * y for r in x], 1)
    )
    assert_close(torch.vmap(lambda c: c * 2, 1, -1)(y), y * 2)


def test_vmap_may_branch_on_a_value() -> None:
    found = func.vmap(lambda v: v * 2 if v > 0 else -v)(torch.tensor([1.0, -3.0]))
    assert found.tolist() == [2.0, 3.0]


def test_vmap_passes_gradients() -> None:
    x = numbers(4, 3).requires_grad_()
    func.vmap(lambda r: r.exp().sum())(x).sum().backward()
    assert_close(x.grad, x.detach().exp())


def test_vmap_writes_through_views() -> None:
    x = torch.zeros(3, 2)
    func.vmap(lambda r: r.add_(1))(x)
    assert x.tolist() == [[1.0, 1.0]] * 3


def test_randomness() -> None:
    x = torch.zeros(4)
    draw = lambda v: v + torch.rand(())  # noqa: E731
    with torch.random.fork_rng():
        with pytest.raises(RuntimeError, match="randomness error mode"):
            func.vmap(draw)(x)
        torch.manual_seed(0)
        same = func.vmap(draw, randomness="same")(x)
        torch.manual_seed(0)
        different = func.vmap(draw, randomness="different")(x)
        torch.manual_seed(0)
        assert different.tolist() == torch.rand(4).tolist()
    assert len(set(same.tolist())) == 1


# -- modules ------------------------------------------------------------------------------------------------------


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(2, 2, bias=False)
        self.second = torch.nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def test_functional_call_replaces_for_one_call() -> None:
    net, x = torch.nn.Linear(2, 1), torch.ones(2)
    before = net(x)
    found = func.functional_call(net, {"weight": torch.ones(1, 2), "bias": torch.tensor([5.0])}, (x,))
    assert found.tolist() == [7.0]
    assert net(x).tolist() == before.tolist()


def test_functional_call_restores_after_an_error() -> None:
    net = torch.nn.Linear(2, 1)
    weight = net.weight
    with pytest.raises(Exception, match=r"shape|size|dim"):
        func.functional_call(net, {"weight": torch.ones(1, 5)}, (torch.ones(2),))
    assert net.weight is weight


def test_functional_call_ties_what_the_module_ties() -> None:
    twice = {"first.weight": torch.eye(2) * 2}
    assert func.functional_call(Tied(), twice, torch.ones(2)).tolist() == [4.0, 4.0]
    with pytest.raises(RuntimeError, match="strict"):
        func.functional_call(torch.nn.Linear(2, 1), {"bias": torch.ones(1)}, torch.ones(2), strict=True)
    with pytest.raises(ValueError, match="several"):
        func.functional_call(Tied(), (twice, twice), torch.ones(2))


def test_gradients_per_sample() -> None:
    net, x = torch.nn.Linear(3, 1), numbers(4, 3).float()
    params = {name: p.detach() for name, p in net.named_parameters()}

    def loss(p: Any, row: torch.Tensor) -> torch.Tensor:
        return (func.functional_call(net, p, row) ** 2).sum()

    found = func.vmap(func.grad(loss), (None, 0))(params, x)
    for k in range(4):
        expected = torch.autograd.grad((net(x[k]) ** 2).sum(), list(net.parameters()))
        assert_close(found["weight"][k], expected[0])
        assert_close(found["bias"][k], expected[1])
