"""What all optimizers share: groups, errors, gradients, hooks, closures, copies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch import nn, optim
from disttorch.optim.optimizer import required


def leaf(*values: float) -> Any:
    return disttorch.tensor(list(values) or [1.0], requires_grad=True)


def ready() -> Any:
    param = leaf()
    param.grad = disttorch.tensor([1.0])
    return param


ERRORS: list[tuple[str, Any, type[Exception], str]] = [
    ("no parameters", lambda: optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
    ("a tensor", lambda: optim.SGD(leaf()), TypeError, "should be an iterable of Tensors or dicts"),
    ("numbers", lambda: optim.SGD([3]), TypeError, "can only optimize Tensors, but one of the params is int"),
    ("an array", lambda: optim.SGD([np.ones(1)]), TypeError, "one of the params is numpy.ndarray"),
    ("not a leaf", lambda: optim.SGD([leaf() * 2]), ValueError, "can't optimize a non-leaf Tensor"),
    ("a set", lambda: optim.SGD([{"params": {leaf()}}]), TypeError, "ordered collections"),
    ("some names", lambda: optim.SGD([("a", leaf()), leaf()]), ValueError, "Some param names are missing"),
    ("no dict", lambda: optim.SGD([leaf()]).add_param_group([leaf()]), TypeError, "param_group must be a dict"),
    ("lr", lambda: optim.SGD([leaf()], lr=-0.5), ValueError, "Invalid learning rate: -0.5"),
    ("lr nan", lambda: optim.SGD([leaf()], lr=float("nan")), ValueError, "Invalid learning rate: nan"),
    ("lr tensor", lambda: optim.SGD([leaf()], lr=leaf(1.0, 2.0)), ValueError, "Tensor lr must be 1-element"),
    ("momentum", lambda: optim.SGD([leaf()], momentum=-1), ValueError, "Invalid momentum value: -1"),
    ("decay", lambda: optim.SGD([leaf()], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
    ("decays", lambda: optim.SGD([leaf()], weight_decay=leaf(1.0, 2.0)), ValueError, "Tensor weight_decay must be"),
    ("nesterov", lambda: optim.SGD([leaf()], nesterov=True), ValueError, "requires a momentum and zero dampening"),
    ("alpha", lambda: optim.RMSprop([leaf()], alpha=-1), ValueError, "Invalid alpha value: -1"),
    ("eps", lambda: optim.RMSprop([leaf()], eps=-1), ValueError, "Invalid epsilon value: -1"),
    ("beta 1", lambda: optim.Adam([leaf()], betas=(1.0, 0.9)), ValueError, "beta parameter at index 0: 1.0"),
    ("beta 2", lambda: optim.AdamW([leaf()], betas=(0.9, -0.1)), ValueError, "beta parameter at index 1: -0.1"),
    ("one beta", lambda: optim.Adam([leaf()], betas=(0.9,)), ValueError, "expected two numbers"),
    ("fused foreach", lambda: optim.Adam([leaf()], fused=True, foreach=True), RuntimeError, "cannot be `True` together"),
    ("required", lambda: optim.Optimizer([leaf()], {"lr": required}), ValueError, "required optimization parameter lr"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "text"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_errors(make, kind, text: str) -> None:
    with pytest.raises(kind, match=text):
        make()


def test_base_class_has_no_step() -> None:
    with pytest.raises(NotImplementedError):
        optim.Optimizer([leaf()], {}).step()


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_differentiable_is_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"differentiable=True\) is not in disttorch"):
        getattr(optim, name)([leaf()], differentiable=True)


def test_parameter_in_two_groups() -> None:
    param = leaf()
    with pytest.raises(ValueError, match="appear in more than one parameter group"):
        optim.SGD([{"params": [param]}, {"params": [param]}])


def test_parameter_twice_in_a_group() -> None:
    param = leaf()
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([param, param])


def test_groups_with_and_without_names() -> None:
    optimizer = optim.SGD([("a", leaf())])
    with pytest.raises(ValueError, match="cannot add param group without names"):
        optimizer.add_param_group({"params": leaf()})


def test_groups_take_the_defaults_they_do_not_give() -> None:
    network = nn.Linear(3, 2)
    optimizer = optim.SGD([{"params": network.parameters(), "lr": 0.5}], lr=0.1, momentum=0.9)
    optimizer.add_param_group({"params": leaf(), "momentum": 0.0})
    first, second = optimizer.param_groups
    assert [(g["lr"], g["momentum"]) for g in (first, second)] == [(0.5, 0.9), (0.1, 0.0)]
    assert [p is q for p, q in zip(first["params"], network.parameters(), strict=True)] == [True, True]
    assert optimizer.defaults["lr"] == 0.1


def test_named_parameters() -> None:
    network = nn.Linear(3, 2)
    optimizer = optim.Adam(network.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_repr() -> None:
    lines = repr(optim.SGD([leaf()], lr=0.1)).splitlines()
    assert lines[:2] == ["SGD (", "Parameter Group 0"]
    assert lines[2:-1] == sorted(lines[2:-1])
    assert "    lr: 0.1" in lines
    assert lines[-1] == ")"


def test_zero_grad_forgets_gradients() -> None:
    param = ready()
    optim.SGD([param, leaf()]).zero_grad()
    assert param.grad is None


def test_zero_grad_in_place() -> None:
    param = leaf(2.0)
    (param**2).sum().backward(create_graph=True)
    grad = param.grad
    optim.SGD([param, leaf()]).zero_grad(set_to_none=False)
    assert param.grad is grad
    assert grad.tolist() == [0.0]
    assert not grad.requires_grad
    assert grad._version == 1


def test_closure_is_recorded_and_its_value_returned() -> None:
    param = leaf(3.0)
    optimizer = optim.SGD([param], lr=0.5)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss

    with disttorch.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert param.item() == 0.0
    assert optimizer.step() is None


def test_step_hooks_run_in_order_and_can_be_removed() -> None:
    seen: list[Any] = []
    optimizer = optim.SGD([ready()], lr=0.1)
    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("before", args, kwargs)))
    after = optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("after", args, kwargs)))
    optimizer.step(closure=None)
    assert seen == [("before", (optimizer,), {"closure": None}), ("after", (optimizer,), {"closure": None})]
    before.remove()
    after.remove()
    optimizer.step()
    assert len(seen) == 2


def test_step_hook_may_change_the_arguments() -> None:
    optimizer = optim.SGD([ready()], lr=0.1)
    handle = optimizer.register_step_pre_hook(lambda o, args, kwargs: ((*args, lambda: 5.0), kwargs))
    assert optimizer.step() == 5.0
    handle.remove()
    optimizer.register_step_pre_hook(lambda o, args, kwargs: 3)
    with pytest.raises(RuntimeError, match="must return None or a tuple of"):
        optimizer.step()


def test_own_optimizer_gets_the_hooks_once() -> None:
    class Slow(optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    seen: list[str] = []
    param = ready()
    optimizer = Slow([param], lr=0.5)
    optimizer.register_step_pre_hook(lambda *given: seen.append("before"))
    optimizer.register_step_post_hook(lambda *given: seen.append("after"))
    optimizer.step()
    assert seen == ["before", "after"]
    assert param.item() == 0.5


def test_own_optimizer() -> None:
    class Sign(optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        @disttorch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for param in group["params"]:
                    self.state[param]["count"] = self.state[param].get("count", 0) + 1
                    param.add_(param.grad.sign(), alpha=-group["lr"])

    param = ready()
    optimizer = Sign([param], 0.25)
    optimizer.step()
    assert param.item() == 0.75
    assert optimizer.state_dict()["state"] == {0: {"count": 1}}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["copy", "pickle"])
@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_copies_continue_on_their_own(name: str, duplicate) -> None:
    options = {"momentum": 0.9} if name == "SGD" else {}
    param = ready()
    optimizer = getattr(optim, name)([param], lr=0.1, **options)
    optimizer.step()
    other = duplicate(optimizer)
    twin = other.param_groups[0]["params"][0]
    assert twin is not param
    assert twin in other.state
    twin.grad = disttorch.tensor([1.0])
    before = param.item()
    other.step()
    assert param.item() == before
    optimizer.step()
    assert twin.item() == param.item()
    other.register_step_pre_hook(lambda *given: None)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("RMSprop", "momentum", 0.5), ("RMSprop", "centered", True), ("Adam", "amsgrad", True)],
)
def test_option_turned_on_too_late(name: str, option: str, value: Any) -> None:
    optimizer = getattr(optim, name)([ready()], lr=0.1)
    optimizer.step()
    optimizer.param_groups[0][option] = value
    with pytest.raises(KeyError, match=f"since {option} was off when the parameter was first updated"):
        optimizer.step()
