"""Forward and backward hooks of modules."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import disttorch as torch
from disttorch import nn


class Times(nn.Module):
    def forward(self, x: Any, factor: float = 2.0) -> Any:
        return x * factor


def test_forward_hooks_change_arguments_and_results() -> None:
    layer = Times()
    seen: list[Any] = []
    layer.register_forward_pre_hook(lambda m, args: args[0] + 1)
    layer.register_forward_hook(lambda m, args, out: seen.append((args[0].item(), out.item())))
    layer.register_forward_hook(lambda m, args, out: out + 0.5)
    assert layer(torch.tensor(1.0)).item() == 4.5
    assert seen == [(2.0, 4.0)]


def test_hooks_with_keywords() -> None:
    layer = Times()
    layer.register_forward_pre_hook(lambda m, a, k: (a, {**k, "factor": 5.0}), with_kwargs=True)
    layer.register_forward_hook(lambda m, a, k, out: out + k["factor"], with_kwargs=True)
    assert layer(torch.tensor(1.0), factor=1.0).item() == 10.0
    layer.register_forward_pre_hook(lambda m, a, k: a, with_kwargs=True)
    with pytest.raises(RuntimeError, match="forward pre-hook must return None or a tuple of"):
        layer(torch.tensor(1.0))


def test_order_and_removal() -> None:
    layer, seen = Times(), []
    layer.register_forward_hook(lambda m, args, out: seen.append("second"))
    first = layer.register_forward_hook(lambda m, args, out: seen.append("first"), prepend=True)
    layer(torch.tensor(1.0))
    assert seen == ["first", "second"]
    first.remove()
    first.remove()
    with layer.register_forward_pre_hook(lambda m, args: seen.append("inside")):
        layer(torch.tensor(1.0))
    layer(torch.tensor(1.0))
    assert seen[2:] == ["inside", "second", "second"]


def test_a_hook_may_remove_itself() -> None:
    layer, seen = Times(), []

    def once(module: Any, args: Any, out: Any) -> None:
        seen.append(1)
        handle.remove()

    handle = layer.register_forward_hook(once)
    layer(torch.tensor(1.0))
    layer(torch.tensor(1.0))
    assert seen == [1]


def test_hooks_that_always_run() -> None:
    class Failing(nn.Module):
        def forward(self) -> None:
            raise KeyError("inside")

    layer, seen = Failing(), []
    layer.register_forward_hook(lambda m, args, out: seen.append("skipped"))
    layer.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    with pytest.raises(KeyError, match="inside"):
        layer()
    assert seen == [None]

    def failing_hook(module: Any, args: Any, out: Any) -> None:
        raise ValueError("in the hook")

    layer.register_forward_hook(failing_hook, always_call=True)
    with pytest.warns(UserWarning, match="silenced as another error"), pytest.raises(KeyError):
        layer()


def test_copies_have_the_hooks() -> None:
    layer, seen = Times(), []
    layer.register_forward_hook(lambda m, args, out: seen.append(m))
    other = copy.deepcopy(layer)
    other(torch.tensor(1.0))
    assert seen == [other]


def test_backward_hook_sees_both_gradients_and_replaces_one() -> None:
    layer, seen = Times(), []

    def hook(module: Any, grad_input: Any, grad_output: Any) -> Any:
        seen.append((grad_input[0].item(), grad_output[0].item()))
        return (grad_input[0] * 10,)

    layer.register_full_backward_hook(hook)
    x = torch.tensor(3.0, requires_grad=True)
    (layer(x) * 5).backward()
    assert seen == [(10.0, 5.0)]
    assert x.grad.item() == 100.0


def test_backward_pre_hook_replaces_the_gradient_of_the_result() -> None:
    layer = Times()
    layer.register_full_backward_pre_hook(lambda m, g: (g[0] + 1,))
    x = torch.tensor(3.0, requires_grad=True)
    layer(x).backward()
    assert x.grad.item() == 4.0


def test_backward_hook_of_a_layer_whose_input_needs_no_gradient() -> None:
    layer, seen = nn.Linear(2, 1), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].tolist())))
    with pytest.warns(UserWarning, match="no inputs require gradients"):
        layer(torch.ones(1, 2)).sum().backward()
    assert seen == [((None,), [[1.0]])]
    assert layer.weight.grad.tolist() == [[1.0, 1.0]]


def test_backward_hooks_must_return_as_many_gradients() -> None:
    layer = Times()
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    with pytest.raises(RuntimeError, match="invalid number of grad_input, got 2, but expected 1"):
        layer(torch.tensor(3.0, requires_grad=True)).backward()


def test_watched_inputs_cannot_be_changed_in_place() -> None:
    layer = nn.ReLU(inplace=True)
    layer.register_full_backward_hook(lambda m, gi, go: None)
    x = torch.ones(2, requires_grad=True) * 1
    with pytest.raises(RuntimeError, match=r"is a view and is being modified inplace"):
        layer(x)


def test_backward_hooks_work_at_second_order() -> None:
    layer, seen = Times(), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append(gi[0].item()))
    x = torch.tensor(3.0, requires_grad=True)
    (first,) = torch.autograd.grad((layer(x) ** 2), x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    assert seen[0] == first.item() == 24.0
    assert second.item() == 8.0


def test_no_graph_no_backward_hook() -> None:
    layer, seen = Times(), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append(1))
    x = torch.tensor(3.0, requires_grad=True)
    with torch.no_grad():
        assert layer(x).item() == 6.0

    class Named(nn.Module):
        def forward(self, x: Any) -> Any:
            return {"x": x * 2}

    named = Named()
    named.register_full_backward_hook(lambda m, gi, go: seen.append(1))
    with pytest.warns(UserWarning, match="module output should be a Tensor or a tuple"):
        result = named(x)
    result["x"].backward()
    assert seen == []
    assert x.grad.item() == 2.0
