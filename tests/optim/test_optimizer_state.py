"""State dicts: their layout, and that training continues from them."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch import nn, optim

ALL: list[tuple[str, dict[str, Any], list[str]]] = [
    ("SGD", {"lr": 0.1}, []),
    ("SGD", {"lr": 0.1, "momentum": 0.9}, ["momentum_buffer"]),
    ("RMSprop", {}, ["step", "square_avg"]),
    ("RMSprop", {"momentum": 0.5, "centered": True}, ["step", "square_avg", "momentum_buffer", "grad_avg"]),
    ("Adam", {}, ["step", "exp_avg", "exp_avg_sq"]),
    ("Adam", {"amsgrad": True}, ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]),
    ("AdamW", {}, ["step", "exp_avg", "exp_avg_sq"]),
]


def train(params: list[Any], optimizer: optim.Optimizer, steps: range) -> None:
    for k in steps:
        rng = np.random.default_rng(k)
        for param in params:
            param.grad = disttorch.tensor(rng.standard_normal(tuple(param.shape))).to(param.dtype)
        optimizer.step()


def new_params(dtype: Any = disttorch.float32) -> list[Any]:
    return [disttorch.ones(3, 2, dtype=dtype).requires_grad_(), disttorch.ones(4, dtype=dtype).requires_grad_()]


@pytest.mark.parametrize(("name", "options", "keys"), ALL, ids=str)
def test_layout(name: str, options: dict[str, Any], keys: list[str]) -> None:
    params = new_params()
    optimizer = getattr(optim, name)([{"params": params[:1]}, {"params": params[1:], "lr": 0.5}], **options)
    assert optimizer.state_dict()["state"] == {}
    train(params, optimizer, range(2))
    found = optimizer.state_dict()
    assert list(found) == ["state", "param_groups"]
    assert [group["params"] for group in found["param_groups"]] == [[0], [1]]
    assert found["param_groups"][1]["lr"] == 0.5
    assert {k: list(v) for k, v in found["state"].items()} == ({0: keys, 1: keys} if keys else {})
    for number, state in found["state"].items():
        for key, value in state.items():
            assert value.shape == (() if key == "step" else params[number].shape)
            assert value.dtype is disttorch.float32


@pytest.mark.parametrize("way", ["dict", "deep copy", "file"])
@pytest.mark.parametrize(("name", "options", "keys"), ALL, ids=str)
def test_training_continues(name: str, options: dict[str, Any], keys: list[str], way: str) -> None:
    params = new_params()
    optimizer = getattr(optim, name)(params, **options)
    train(params, optimizer, range(4))
    others = [param.detach().clone().requires_grad_() for param in params]
    continued = getattr(optim, name)(others, lr=7.0)
    continued.load_state_dict(_through(way, optimizer.state_dict()))
    for k in range(4, 8):
        train(params, optimizer, range(k, k + 1))
        train(others, continued, range(k, k + 1))
    for a, b in zip(params, others, strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    assert continued.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def _through(way: str, state: Any) -> Any:
    if way == "file":
        buffer = io.BytesIO()
        disttorch.save(state, buffer)
        buffer.seek(0)
        return disttorch.load(buffer)
    return copy.deepcopy(state) if way == "deep copy" else state


def test_loaded_state_is_a_copy_in_the_parameters_type() -> None:
    params, others = new_params(), new_params(disttorch.float64)
    optimizer, other = optim.Adam(params), optim.Adam(others)
    train(params, optimizer, range(2))
    given = optimizer.state_dict()
    other.load_state_dict(given)
    state = other.state[others[0]]
    assert state["exp_avg"].dtype is disttorch.float64
    assert state["step"].dtype is disttorch.float32
    np.testing.assert_array_equal(state["exp_avg"].numpy(), given["state"][0]["exp_avg"].numpy())
    train(others, other, range(2, 3))
    assert given["state"][0]["step"].item() == 2


@pytest.mark.parametrize("name", ["RMSprop", "Adam", "AdamW"])
def test_old_checkpoints_with_a_number_of_steps_and_fewer_options(name: str) -> None:
    params = new_params()
    optimizer = getattr(optim, name)(params)
    train(params, optimizer, range(3))
    old = copy.deepcopy(optimizer.state_dict())
    for state in old["state"].values():
        state["step"] = 3
    for option in ("foreach", "maximize", "capturable", "differentiable", "fused", "decoupled_weight_decay"):
        old["param_groups"][0].pop(option, None)
    others = [param.detach().clone().requires_grad_() for param in params]
    continued = getattr(optim, name)(others)
    continued.load_state_dict(old)
    train(params, optimizer, range(3, 5))
    train(others, continued, range(3, 5))
    np.testing.assert_array_equal(params[0].detach().numpy(), others[0].detach().numpy())
    assert continued.param_groups == [{**optimizer.param_groups[0], "params": others}]


def test_missing_momentum_of_an_old_checkpoint_is_a_fresh_one() -> None:
    param = disttorch.ones(1).requires_grad_()
    optimizer = optim.SGD([param], lr=0.5, momentum=0.9)
    state = optimizer.state_dict()
    state["state"] = {0: {"momentum_buffer": None}}
    optimizer.load_state_dict(state)
    param.grad = disttorch.ones(1)
    optimizer.step()
    assert param.item() == 0.5


def test_errors() -> None:
    params = new_params()
    one = optim.SGD(params).state_dict()
    with pytest.raises(ValueError, match=r"different number of parameter groups \(1, the optimizer has 2\)"):
        optim.SGD([{"params": [p]} for p in params]).load_state_dict(one)
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        optim.SGD(params[:1]).load_state_dict(one)


def test_hooks_around_saving_and_loading() -> None:
    seen: list[str] = []
    optimizer = optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("saving"))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "note": "hello"})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: seen.append(state["note"]))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("first"), prepend=True)
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["saving", "hello", "first", "loaded"]
