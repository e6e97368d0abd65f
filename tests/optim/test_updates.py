"""Each optimizer's path against its formula in float64 NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch import optim

SHAPES: tuple[tuple[int, ...], ...] = ((4, 3), (5,), (), (2, 1, 3))
STEPS = 20
Formula = Callable[[np.ndarray, np.ndarray, dict[str, Any], int], np.ndarray]


def sgd(lr=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False) -> Formula:
    def update(p, g, state, k):
        g = (-g if maximize else g) + weight_decay * p
        if momentum:
            fresh = g if k == 1 else (1 - dampening) * g
            state["b"] = momentum * state.get("b", 0.0) + fresh
            g = g + momentum * state["b"] if nesterov else state["b"]
        return p - lr * g

    return update


def rmsprop(
    lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False, maximize=False
) -> Formula:  # fmt: skip
    def update(p, g, state, k):
        g = (-g if maximize else g) + weight_decay * p
        state["v"] = alpha * state.get("v", 0.0) + (1 - alpha) * g**2
        state["a"] = alpha * state.get("a", 0.0) + (1 - alpha) * g
        second = state["v"] - state["a"] ** 2 if centered else state["v"]
        state["b"] = momentum * state.get("b", 0.0) + g / (np.sqrt(second) + eps)
        return p - lr * state["b"]

    return update


def adam(
    lr=0.001, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False, decoupled=False
) -> Formula:  # fmt: skip
    beta1, beta2 = betas

    def update(p, g, state, k):
        g = -g if maximize else g
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
        state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g**2
        state["top"] = np.maximum(state.get("top", 0.0), state["v"]) if amsgrad else state["v"]
        mean, second = state["m"] / (1 - beta1**k), state["top"] / (1 - beta2**k)
        return p - lr * mean / (np.sqrt(second) + eps)

    return update


def adamw(weight_decay=0.01, **options: Any) -> Formula:
    return adam(weight_decay=weight_decay, decoupled=True, **options)


CASES: list[tuple[str, Callable[..., Formula], dict[str, Any]]] = [
    ("SGD", sgd, {"lr": 0.1}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.9}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.8, "dampening": 0.25, "weight_decay": 0.05}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    ("SGD", sgd, {"lr": 0.1, "weight_decay": 0.05, "maximize": True}),
    ("RMSprop", rmsprop, {}),
    ("RMSprop", rmsprop, {"lr": 0.02, "alpha": 0.9, "weight_decay": 0.05}),
    ("RMSprop", rmsprop, {"momentum": 0.7, "eps": 1e-3}),
    ("RMSprop", rmsprop, {"alpha": 0.8, "centered": True, "eps": 1e-2}),
    ("RMSprop", rmsprop, {"centered": True, "momentum": 0.7, "maximize": True, "eps": 1e-2}),
    ("Adam", adam, {}),
    ("Adam", adam, {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.05}),
    ("Adam", adam, {"lr": 0.02, "betas": (0.8, 0.6), "amsgrad": True, "eps": 1e-3}),
    ("Adam", adam, {"lr": 0.02, "maximize": True}),
    ("AdamW", adamw, {"lr": 0.02}),
    ("AdamW", adamw, {"lr": 0.02, "weight_decay": 0.2, "amsgrad": True, "maximize": True}),
]


def draw(seed: int, dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    values = [rng.standard_normal(shape) for shape in SHAPES]
    if dtype.startswith("complex"):
        values = [a + 1j * rng.standard_normal(a.shape) for a in values]
    return [np.asarray(a, dtype) for a in values]


def parts(values: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield arrays in float64; of complex ones real and imaginary part, which are updated independently."""
    for a in values:
        if a.dtype.kind == "c":
            yield from (a.real.astype("float64"), a.imag.astype("float64"))
        else:
            yield a.astype("float64")


def expected(formula: Formula, dtype: str) -> list[np.ndarray]:
    values = list(parts(draw(0, dtype)))
    states: list[dict[str, Any]] = [{} for _ in values]
    for k in range(1, STEPS + 1):
        grads = parts(draw(k, dtype))
        values = [formula(p, g, s, k) for p, g, s in zip(values, grads, states, strict=True)]
    return values


def trained(make: Callable[[list[Any]], optim.Optimizer], dtype: str) -> list[np.ndarray]:
    params = [disttorch.tensor(a, requires_grad=True) for a in draw(0, dtype)]
    optimizer = make(params)
    for k in range(1, STEPS + 1):
        for param, grad in zip(params, draw(k, dtype), strict=True):
            param.grad = disttorch.tensor(grad)
        optimizer.step()
    return list(parts([param.detach().numpy() for param in params]))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize(("name", "formula", "options"), CASES, ids=lambda v: v if isinstance(v, (str, dict)) else "")
def test_path_follows_the_formula(name, formula, options, dtype, tolerance) -> None:
    found = trained(lambda params: getattr(optim, name)(params, **options), dtype)
    for ours, theirs in zip(found, expected(formula(**options), dtype), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "formula", "options"),
    [
        ("SGD", sgd, {"momentum": 0.9, "lr": 0.1}),
        ("RMSprop", rmsprop, {"momentum": 0.5, "centered": True, "eps": 1e-2}),
        ("Adam", adam, {"amsgrad": True}),
        ("AdamW", adamw, {}),
    ],
)
def test_complex_parameters_are_pairs_of_real_ones(name, formula, options) -> None:
    found = trained(lambda params: getattr(optim, name)(params, **options), "complex128")
    for ours, theirs in zip(found, expected(formula(**options), "complex128"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_layout_in_memory_does_not_matter(name: str, dtype: str) -> None:
    def path(transposed: bool) -> np.ndarray:
        value = draw(0, dtype)[0]
        base = disttorch.tensor(np.ascontiguousarray(value.T) if transposed else value)
        param = (base.t() if transposed else base).detach().requires_grad_()
        optimizer = getattr(optim, name)([param], lr=0.1)
        for k in range(1, 6):
            param.grad = disttorch.tensor(draw(k, dtype)[0])
            optimizer.step()
        return param.detach().numpy()

    np.testing.assert_allclose(path(True), path(False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays_near_the_formula(name: str, dtype: str) -> None:
    def path(kind: str) -> np.ndarray:
        param = disttorch.tensor(draw(0, "float64")[0]).to(getattr(disttorch, kind)).requires_grad_()
        optimizer = getattr(optim, name)([param], lr=0.05)
        for _ in range(5):
            param.grad = disttorch.tensor(np.sign(draw(1, "float64")[0])).to(param.dtype)
            optimizer.step()
        assert param.dtype is getattr(disttorch, kind)
        return param.detach().to(disttorch.float64).numpy()

    np.testing.assert_allclose(path(dtype), path("float64"), atol=0.05)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_rate_may_be_a_tensor(name: str) -> None:
    given = trained(lambda params: getattr(optim, name)(params, lr=disttorch.tensor(0.125)), "float32")
    plain = trained(lambda params: getattr(optim, name)(params, lr=0.125), "float32")
    for a, b in zip(given, plain, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("one", [1, True, np.float32(1), np.int64(1)], ids=lambda v: type(v).__name__)
def test_options_of_any_number_type_share_one_compiled_kernel(one: Any) -> None:
    from disttorch.backends.numpy import _compiled_optimizer

    def path(value: Any) -> list[np.ndarray]:
        return trained(lambda params: optim.SGD(params, lr=value, weight_decay=value), "float32")

    plain, kernels = path(1.0), len(_compiled_optimizer.sgd.signatures)
    for a, b in zip(path(one), plain, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(_compiled_optimizer.sgd.signatures) == kernels


@pytest.mark.parametrize("options", [{"foreach": True}, {"foreach": False}, {"fused": True}, {"capturable": True}])
def test_choice_of_implementation_changes_nothing(options: dict[str, bool]) -> None:
    given = trained(lambda params: optim.Adam(params, lr=0.1, **options), "float32")
    plain = trained(lambda params: optim.Adam(params, lr=0.1), "float32")
    for a, b in zip(given, plain, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_step_is_in_place_counted_and_not_recorded(name: str) -> None:
    param = disttorch.tensor([1.0, -2.0], requires_grad=True)
    memory, before = param.detach().numpy(), param._version
    saved = (param * param).sum()
    param.grad = disttorch.tensor([1.0, 1.0])
    getattr(optim, name)([param], lr=0.5).step()
    assert np.array_equal(memory, param.detach().numpy())
    assert memory[0] != 1.0
    assert param._version == before + 1
    assert param.is_leaf
    assert param.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_parameter_without_gradient_is_left_alone(name: str) -> None:
    still, moving = (disttorch.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = getattr(optim, name)([still, moving], lr=0.1)
    moving.grad = disttorch.tensor([1.0])
    optimizer.step()
    assert still.item() == 1.0
    assert still._version == 0
    assert still not in optimizer.state
    assert moving.item() != 1.0


def test_groups_have_their_own_options() -> None:
    a, b = (disttorch.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([{"params": a}, {"params": [b], "lr": 0.5}], lr=0.1)
    a.grad, b.grad = disttorch.tensor([1.0]), disttorch.tensor([1.0])
    optimizer.step()
    assert (a.item(), b.item()) == (pytest.approx(0.9), 0.5)


def test_training_reaches_the_minimum() -> None:
    for name, options in [("SGD", {"lr": 0.1, "momentum": 0.5}), ("RMSprop", {"lr": 0.01}), ("Adam", {"lr": 0.1})]:
        x = disttorch.tensor([4.0, -3.0], requires_grad=True)
        optimizer = getattr(optim, name)([x], **options)
        for _ in range(1000):
            optimizer.zero_grad()
            ((x - disttorch.tensor([1.0, 2.0])) ** 2).sum().backward()
            optimizer.step()
        np.testing.assert_allclose(x.detach().numpy(), [1.0, 2.0], atol=0.02, err_msg=name)
