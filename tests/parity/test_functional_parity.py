"""`autograd.functional` and `func` against PyTorch's: values, structure, requires_grad, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
# PyTorch's forward mode warns about a compiler of its own.
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")]

from torch.autograd import functional as theirs  # noqa: E402

import disttorch  # noqa: E402
from disttorch.autograd import functional as ours  # noqa: E402

Case = Callable[[Any], Any]


def numbers(t: Any, *shape: int, seed: int = 0) -> Any:
    """Return float64 numbers between 0.5 and 1.5."""
    return t.from_numpy(np.random.default_rng(seed).uniform(0.5, 1.5, shape))


def plain(value: Any) -> Any:
    """Return nested tensors as (values, requires_grad), to be compared."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(plain(v) for v in value) if type(value) in (tuple, list) else [plain(v) for v in value]
    if isinstance(value, (torch.Tensor, disttorch.Tensor)):
        return value.detach().numpy(), value.requires_grad
    return value


def compare(mine: Any, other: Any, path: str = "") -> None:
    assert type(mine) is type(other), path
    if isinstance(mine, dict):
        assert list(mine) == list(other), path
        for k in mine:
            compare(mine[k], other[k], f"{path}.{k}")
    elif isinstance(mine, (tuple, list)):
        assert len(mine) == len(other), path
        for i, (a, b) in enumerate(zip(mine, other)):
            compare(a, b, f"{path}[{i}]")
    elif isinstance(mine, np.ndarray):
        assert mine.dtype == other.dtype, path
        np.testing.assert_allclose(mine, other, 1e-9, 1e-12, err_msg=path)
    else:
        assert mine == other, path


def outcome(case: Case, t: Any) -> Any:
    try:
        return plain(case(t))
    except (AttributeError, NameError):  # a mistake in the case, or a name that is missing
        raise
    except Exception as error:
        return type(error).__name__


# -- autograd.functional ------------------------------------------------------------------------------------------


def one(x: Any) -> Any:
    return (x.exp() * x).sum(1)


def scalar(x: Any) -> Any:
    return (x**3).sum() * x[0, 0]


def two(x: Any, y: Any) -> Any:
    return (x * y).sum(), (x.sin() * 2), y**2 * x.sum()


def two_to_scalar(x: Any, y: Any) -> Any:
    return (x**2 * y).sum() + (y**3).prod()


def constant(x: Any) -> Any:
    return x.detach() * 2


def linear(x: Any) -> Any:
    return (x * 3).sum()


def functional(t: Any) -> Any:
    return ours if t is disttorch else theirs


FUNCTIONAL: dict[str, Case] = {
    "jacobian": lambda t: functional(t).jacobian(one, numbers(t, 2, 3)),
    "jacobian of several": lambda t: functional(t).jacobian(two, (numbers(t, 2), numbers(t, 2, seed=1))),
    "jacobian of a constant": lambda t: functional(t).jacobian(constant, numbers(t, 2)),
    "jacobian of a constant, strict": lambda t: functional(t).jacobian(constant, numbers(t, 2), strict=True),
    "jacobian of the first only, strict": lambda t: functional(t).jacobian(
        lambda x, y: x * 2, (numbers(t, 2), numbers(t, 2)), strict=True
    ),
    "jacobian, vectorized": lambda t: functional(t).jacobian(one, numbers(t, 2, 3), vectorize=True),
    "jacobian, strict and vectorized": lambda t: functional(t).jacobian(
        one, numbers(t, 2, 3), strict=True, vectorize=True
    ),
    "jacobian, create_graph": lambda t: functional(t).jacobian(
        one, numbers(t, 2, 3).requires_grad_(), create_graph=True
    ),
    "jacobian of no tensor": lambda t: functional(t).jacobian(lambda x: 3, numbers(t, 2)),
    "jacobian at no tensor": lambda t: functional(t).jacobian(one, 3.0),
    "hessian": lambda t: functional(t).hessian(scalar, numbers(t, 2, 3)),
    "hessian of two": lambda t: functional(t).hessian(two_to_scalar, (numbers(t, 2), numbers(t, 2, seed=1))),
    "hessian of a vector": lambda t: functional(t).hessian(one, numbers(t, 2, 3)),
    "hessian of a linear function": lambda t: functional(t).hessian(linear, numbers(t, 2)),
    "hessian of a linear function, strict": lambda t: functional(t).hessian(linear, numbers(t, 2), strict=True),
    "hessian, create_graph": lambda t: functional(t).hessian(
        scalar, numbers(t, 1, 2).requires_grad_(), create_graph=True
    ),
    "vjp": lambda t: functional(t).vjp(one, numbers(t, 2, 3), numbers(t, 2)),
    "vjp of a scalar": lambda t: functional(t).vjp(scalar, numbers(t, 2, 3)),
    "vjp without v": lambda t: functional(t).vjp(one, numbers(t, 2, 3)),
    "vjp, v of another shape": lambda t: functional(t).vjp(one, numbers(t, 2, 3), numbers(t, 3)),
    "vjp, v of another length": lambda t: functional(t).vjp(one, numbers(t, 2, 3), (numbers(t, 2), numbers(t, 2))),
    "vjp of several": lambda t: functional(t).vjp(
        two, (numbers(t, 2), numbers(t, 2)), (numbers(t), numbers(t, 2), numbers(t, 2))
    ),
    "vjp of a constant": lambda t: functional(t).vjp(constant, numbers(t, 2), numbers(t, 2)),
    "vjp of a constant, strict": lambda t: functional(t).vjp(constant, numbers(t, 2), numbers(t, 2), strict=True),
    "vjp, create_graph": lambda t: functional(t).vjp(scalar, numbers(t, 2, 3).requires_grad_(), create_graph=True),
    "jvp": lambda t: functional(t).jvp(one, numbers(t, 2, 3), numbers(t, 2, 3, seed=3)),
    "jvp of several": lambda t: functional(t).jvp(two, (numbers(t, 2), numbers(t, 2)), (numbers(t, 2), numbers(t, 2))),
    "jvp without v": lambda t: functional(t).jvp(one, numbers(t, 2, 3)),
    "jvp of a linear function": lambda t: functional(t).jvp(linear, numbers(t, 2), numbers(t, 2, seed=1)),
    "jvp of a constant": lambda t: functional(t).jvp(constant, numbers(t, 2), numbers(t, 2)),
    "jvp of a constant, strict": lambda t: functional(t).jvp(constant, numbers(t, 2), numbers(t, 2), strict=True),
    "jvp, create_graph": lambda t: functional(t).jvp(
        one, numbers(t, 2, 3).requires_grad_(), numbers(t, 2, 3), create_graph=True
    ),
    "vhp": lambda t: functional(t).vhp(scalar, numbers(t, 2, 3), numbers(t, 2, 3, seed=5)),
    "vhp of two": lambda t: functional(t).vhp(
        two_to_scalar, (numbers(t, 2), numbers(t, 2)), (numbers(t, 2), numbers(t, 2))
    ),
    "vhp of a linear function": lambda t: functional(t).vhp(linear, numbers(t, 2), numbers(t, 2)),
    "vhp of a linear function, strict": lambda t: functional(t).vhp(linear, numbers(t, 2), numbers(t, 2), strict=True),
    "vhp of a vector": lambda t: functional(t).vhp(one, numbers(t, 2, 3), numbers(t, 2, 3)),
    "hvp": lambda t: functional(t).hvp(scalar, numbers(t, 2, 3), numbers(t, 2, 3, seed=5)),
    "hvp of two": lambda t: functional(t).hvp(
        two_to_scalar, (numbers(t, 2), numbers(t, 2)), (numbers(t, 2), numbers(t, 2))
    ),
    "hvp, create_graph": lambda t: functional(t).hvp(
        scalar, numbers(t, 2, 3).requires_grad_(), numbers(t, 2, 3), create_graph=True
    ),
    "hvp without v": lambda t: functional(t).hvp(scalar, numbers(t, 2, 3)),
}


# -- func -----------------------------------------------------------------------------------------------------------


def weights(t: Any) -> dict[str, Any]:
    return {"w": numbers(t, 3, 2, seed=1), "b": [numbers(t, 2, seed=2), numbers(t, seed=3)]}


def affine(p: dict[str, Any], x: Any) -> Any:
    return ((x @ p["w"] + p["b"][0]) * p["b"][1]).tanh()


def loss(p: dict[str, Any], x: Any) -> Any:
    return (affine(p, x) ** 2).sum()


def with_aux(x: Any) -> Any:
    return (x**2).sum(), {"twice": x * 2}


def third(t: Any) -> Any:
    return t.func.grad(t.func.grad(t.func.grad(lambda x: (x**4 * x.sin()).sum())))


def closed_over(t: Any) -> Any:
    w = numbers(t, 3, seed=4).requires_grad_()
    g = t.func.grad(lambda x: (x * w).exp().sum())(numbers(t, 3))
    return g, t.autograd.grad(g.sum(), w)


def mixed(t: Any) -> Any:
    inner = t.func.grad(lambda x, y: (x**2 * y**3).sum())
    return t.func.grad(lambda y: inner(numbers(t), y))(numbers(t, seed=1))


def confusion(t: Any) -> Any:
    """The classic trap: the derivative of x * d(x + y)/dy with respect to x is 1."""
    return t.func.grad(lambda x: x * t.func.grad(lambda y: x + y)(x))(numbers(t))


def pulled(t: Any) -> Any:
    y, back = t.func.vjp(affine, weights(t), numbers(t, 4, 3))
    return y, back(numbers(t, 4, 2, seed=9)), back(numbers(t, 4, 2, seed=8))


def two_products(t: Any) -> Any:
    x, v = numbers(t, 3), numbers(t, 3, seed=1)
    return t.func.grad(lambda x: t.func.vjp(lambda z: z**3, x)[1](v)[0].sum())(x)


def network(t: Any) -> Any:
    t.manual_seed(0)
    return t.nn.Sequential(t.nn.Linear(3, 4), t.nn.Tanh(), t.nn.Linear(4, 1)).double()


def called_with(t: Any) -> Any:
    net = network(t)
    params = {k: p.detach() * 2 for k, p in net.named_parameters()}
    x = numbers(t, 5, 3)
    per_sample = t.func.vmap(
        t.func.grad(lambda p, row: t.func.functional_call(net, p, (row,)).sum()), in_dims=(None, 0)
    )(params, x)
    return net(x), t.func.functional_call(net, params, x), per_sample


def ensemble(t: Any) -> Any:
    nets = [network(t) for _ in range(2)]
    params, buffers = t.func.stack_module_state(nets)
    call = t.func.vmap(lambda p, x: t.func.functional_call(nets[0], p, (x,)), in_dims=(0, None))
    return params, buffers, call(params, numbers(t, 5, 3))


def backward_through(t: Any) -> Any:
    x = numbers(t, 3).requires_grad_()
    y = t.func.vmap(lambda row: row.sin() * 2)(x)
    (y.sum() + t.func.jacrev(lambda z: z**2)(x).sum()).backward()
    return y, x.grad


def without_grad(t: Any) -> Any:
    x = numbers(t, 3).requires_grad_()
    with t.no_grad():
        return t.func.grad(lambda z: (z**2).sum())(x), t.func.jacrev(lambda z: z**2)(x)


def vmap(t: Any, *args: Any, **kwargs: Any) -> Any:
    return t.func.vmap(*args, **kwargs)


FUNC: dict[str, Case] = {
    "grad": lambda t: t.func.grad(loss)(weights(t), numbers(t, 4, 3)),
    "grad of the second": lambda t: t.func.grad(loss, 1)(weights(t), numbers(t, 4, 3)),
    "grad of the last": lambda t: t.func.grad(loss, -1)(weights(t), numbers(t, 4, 3)),
    "grad of both": lambda t: t.func.grad(loss, (0, 1))(weights(t), numbers(t, 4, 3)),
    "grad of one in a tuple": lambda t: t.func.grad(loss, (1,))(weights(t), numbers(t, 4, 3)),
    "grad with aux": lambda t: t.func.grad(with_aux, has_aux=True)(numbers(t, 3)),
    "grad and value": lambda t: t.func.grad_and_value(loss)(weights(t), numbers(t, 4, 3)),
    "grad and value with aux": lambda t: t.func.grad_and_value(with_aux, has_aux=True)(numbers(t, 3)),
    "grad by keyword": lambda t: t.func.grad(loss)(weights(t), x=numbers(t, 4, 3)),
    "grad of a vector": lambda t: t.func.grad(lambda x: x * 2)(numbers(t, 3)),
    "grad at too few arguments": lambda t: t.func.grad(loss, 2)(weights(t), numbers(t, 4, 3)),
    "grad of a constant": lambda t: t.func.grad(lambda x: numbers(t).sum())(numbers(t, 3)),
    "third derivative": lambda t: third(t)(numbers(t)),
    "a closed-over parameter": closed_over,
    "inner and outer argument": mixed,
    "perturbation confusion": confusion,
    "an argument that requires grad": lambda t: t.func.grad(lambda x: (x**3).sum())(numbers(t, 3).requires_grad_()),
    "no_grad outside": without_grad,
    "no_grad inside": lambda t: t.func.grad(lambda x: (x**2 * t.no_grad()(lambda z: z**3)(x)).sum())(numbers(t, 3)),
    "vjp": pulled,
    "vjp of one": lambda t: t.func.vjp(lambda x: x**2, numbers(t, 3))[1](numbers(t, 3)),
    "vjp with aux": lambda t: t.func.vjp(with_aux, numbers(t, 3), has_aux=True)[::2],
    "vjp within grad": two_products,
    "vjp, wrong cotangent": lambda t: t.func.vjp(lambda x: x**2, numbers(t, 3))[1](numbers(t, 2)),
    "jvp": lambda t: t.func.jvp(affine, (weights(t), numbers(t, 4, 3)), (weights(t), numbers(t, 4, 3, seed=7))),
    "jvp of one": lambda t: t.func.jvp(lambda x: x.sin(), (numbers(t, 3),), (numbers(t, 3, seed=1),)),
    "jvp with aux": lambda t: t.func.jvp(with_aux, (numbers(t, 3),), (numbers(t, 3),), has_aux=True),
    "jvp within jvp": lambda t: t.func.jvp(
        lambda x: t.func.jvp(lambda z: z**3, (x,), (numbers(t),))[1], (numbers(t, seed=1),), (numbers(t, seed=2),)
    ),
    "jvp of lists": lambda t: t.func.jvp(lambda x: x, [numbers(t)], [numbers(t)]),
    "jacrev": lambda t: t.func.jacrev(affine)(weights(t), numbers(t, 2, 3)),
    "jacrev of both": lambda t: t.func.jacrev(affine, (0, 1))(weights(t), numbers(t, 2, 3)),
    "jacrev of a dict": lambda t: t.func.jacrev(lambda x: {"a": x**2, "b": (x.sum(),)})(numbers(t, 3)),
    "jacrev with aux": lambda t: t.func.jacrev(lambda x: (x**2, x), has_aux=True)(numbers(t, 3)),
    "jacfwd": lambda t: t.func.jacfwd(affine, 1)(weights(t), numbers(t, 2, 3)),
    "hessian": lambda t: t.func.hessian(loss, 1)(weights(t), numbers(t, 2, 3)),
    "hessian of a dict": lambda t: t.func.hessian(loss)(weights(t), numbers(t, 2, 3)),
    "hessian of a vector": lambda t: t.func.hessian(lambda x: x**3)(numbers(t, 2)),
    "jacobian of the gradient": lambda t: t.func.jacrev(t.func.grad(loss, 1), 1)(weights(t), numbers(t, 2, 3)),
    "vmap": lambda t: vmap(t, t.dot)(numbers(t, 4, 3), numbers(t, 4, 3, seed=1)),
    "vmap along others": lambda t: vmap(t, lambda x, y: x @ y, (1, None), 1)(numbers(t, 3, 4), numbers(t, 3, 2)),
    "vmap along the last": lambda t: vmap(t, lambda x: x * 2, -1, -1)(numbers(t, 3, 4)),
    "vmap of a tree": lambda t: vmap(t, lambda p: {"s": p["w"].sum(), "t": (p["b"][0],)}, ({"w": 0, "b": [0, None]},))(
        {"w": numbers(t, 2, 3), "b": [numbers(t, 2), numbers(t)]}
    ),
    "vmap with out_dims": lambda t: vmap(t, lambda x: (x, x * 2), out_dims=(0, 1))(numbers(t, 2, 3)),
    "vmap by keyword": lambda t: vmap(t, lambda x, y: x + y)(numbers(t, 2), y=numbers(t, 2, 3)),
    "vmap within vmap": lambda t: vmap(t, vmap(t, t.dot, (None, 0)), (0, None))(numbers(t, 4, 3), numbers(t, 2, 3)),
    "vmap of grad": lambda t: vmap(t, t.func.grad(lambda x, y: (x * y).sin().sum()))(
        numbers(t, 4, 3), numbers(t, 4, 3)
    ),
    "grad of vmap": lambda t: t.func.grad(lambda x: vmap(t, lambda r: r.exp().sum())(x).sum())(numbers(t, 2, 3)),
    "vmap of jacrev": lambda t: vmap(t, t.func.jacrev(lambda x: x**2))(numbers(t, 2, 3)),
    "backward through": backward_through,
    "vmap of other sizes": lambda t: vmap(t, t.add)(numbers(t, 2), numbers(t, 3)),
    "vmap of too few dimensions": lambda t: vmap(t, lambda x: x * 2, 1)(numbers(t, 3)),
    "vmap of nothing mapped": lambda t: vmap(t, lambda x: x * 2, None)(numbers(t, 3)),
    "vmap, wrong in_dims": lambda t: vmap(t, lambda x: x * 2, (0, 0))(numbers(t, 3)),
    "vmap, wrong out_dims": lambda t: vmap(t, lambda x: x * 2, out_dims=(0, 0))(numbers(t, 3)),
    "vmap of no arguments": lambda t: vmap(t, lambda: 3)(),
    "vmap to no tensor": lambda t: vmap(t, lambda x: 3)(numbers(t, 3)),
    "vmap of a number": lambda t: vmap(t, lambda x: x)(3),
    "vmap, wrong randomness": lambda t: vmap(t, lambda x: x, randomness="no")(numbers(t, 3)),
    "vmap of a random function": lambda t: vmap(t, lambda x: x + t.rand(()))(numbers(t, 3)),
    "functional_call": called_with,
    "functional_call, unknown name": lambda t: t.func.functional_call(network(t), {"no": numbers(t)}, numbers(t, 3)),
    "functional_call, strict": lambda t: t.func.functional_call(
        network(t), {"0.bias": numbers(t, 4)}, numbers(t, 3), strict=True
    ),
    "stack_module_state": ensemble,
}


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_functional_is_that_of_torch(name: str) -> None:
    case = FUNCTIONAL[name]
    compare(outcome(case, disttorch), outcome(case, torch))


@pytest.mark.parametrize("name", FUNC)
def test_func_is_that_of_torch(name: str) -> None:
    case = FUNC[name]
    compare(outcome(case, disttorch), outcome(case, torch))
