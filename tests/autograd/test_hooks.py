"""Hooks on tensors, leaves and nodes, and retain_grad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import disttorch as torch


def leaf(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_a_hook_sees_the_whole_gradient_once() -> None:
    seen = []
    x = leaf(2.0)
    h = x * 3
    h.register_hook(lambda g: seen.append(g.item()))
    (h * h + h).backward()
    assert seen == [13.0]


def test_a_leaf_hook_sees_this_pass_only() -> None:
    seen = []
    x = leaf(2.0)
    x.register_hook(lambda g: seen.append(g.item()))
    (x * x + x).backward()
    (x * 3).backward()
    assert seen == [5.0, 3.0]
    assert x.grad.item() == 8.0


def test_a_hook_may_replace_the_gradient() -> None:
    x = leaf(2.0)
    h = x * 3
    h.register_hook(lambda g: g * 10)
    h.register_hook(lambda g: g + 1)
    x.register_hook(lambda g: g * 2)
    h.backward()
    assert x.grad.item() == (1 * 10 + 1) * 3 * 2


def test_a_removed_hook_is_silent() -> None:
    seen = []
    x = leaf(1.0)
    handle = x.register_hook(lambda g: seen.append(1))
    with x.register_hook(lambda g: seen.append(2)):
        x.sum().backward()
    handle.remove()
    handle.remove()
    x.sum().backward()
    assert seen == [1, 2]


def test_a_hook_keeps_what_it_was_given() -> None:
    kept = []
    x = leaf(1.0, 2.0)
    x.register_hook(kept.append)
    (x * 3).sum().backward()
    x.grad.zero_()
    (x * 3).sum().backward()
    assert kept[0].tolist() == [3.0, 3.0], "a gradient that a hook kept was overwritten"


def test_hooks_need_a_gradient_to_come() -> None:
    with pytest.raises(RuntimeError, match="cannot register a hook on a tensor that doesn't require gradient"):
        torch.ones(1).register_hook(print)
    with pytest.raises(RuntimeError, match="post accumulate grad hooks cannot be registered on non-leaf tensors"):
        (leaf(1.0) * 2).register_post_accumulate_grad_hook(print)


def test_post_accumulate_fires_as_soon_as_the_leaf_is_finished() -> None:
    """Last layer first, while earlier nodes still wait: what lets communication overlap with backward."""
    events = []
    weights = [leaf(float(k)) for k in (2, 3, 4)]
    h = leaf(1.0)
    for k, w in enumerate(weights):
        h = h * w
        h.grad_fn.register_prehook(lambda g, k=k: events.append(f"node {k}"))
        w.register_post_accumulate_grad_hook(lambda p, k=k: events.append(f"leaf {k} {p.grad.item()}"))
    h.backward()
    assert events == ["node 2", "leaf 2 6.0", "node 1", "leaf 1 8.0", "node 0", "leaf 0 12.0"]


def test_post_accumulate_waits_for_every_use() -> None:
    events = []
    x = leaf(2.0)
    x.register_post_accumulate_grad_hook(lambda p: events.append(p.grad.item()))
    (x * 3 + (x * x) * 2).backward()
    assert events == [11.0]


def test_post_accumulate_fires_for_the_inputs_of_backward_only() -> None:
    events = []
    x, y = leaf(2.0), leaf(3.0)
    for name, tensor in (("x", x), ("y", y)):
        tensor.register_post_accumulate_grad_hook(lambda p, name=name: events.append((name, p.grad.item())))
    z = x * y
    (z * 1).backward(inputs=[y, z])
    assert events == [("y", 2.0)]
    assert x.grad is None


def test_post_accumulate_may_drop_the_gradient() -> None:
    x = leaf(2.0)

    def step(p: Any) -> None:
        with torch.no_grad():
            p -= p.grad
        p.grad = None

    x.register_post_accumulate_grad_hook(step)
    (x * 0.5).backward()
    assert x.item() == 1.5
    assert x.grad is None


def test_node_hooks_see_and_replace_gradients() -> None:
    x, y = leaf(2.0), leaf(5.0)
    z = x * y
    shown = []
    before = z.grad_fn.register_prehook(lambda g: (g[0] * 2,))
    z.grad_fn.register_hook(lambda grad_inputs, grad_outputs: shown.append((grad_inputs, grad_outputs)))
    z.grad_fn.register_hook(lambda grad_inputs, grad_outputs: (grad_inputs[0] + 1, grad_inputs[1]))
    z.backward()
    assert (x.grad.item(), y.grad.item()) == (11.0, 4.0)
    grad_inputs, grad_outputs = shown[0]
    assert ([g.item() for g in grad_inputs], [g.item() for g in grad_outputs]) == ([10.0, 4.0], [2.0])
    before.remove()


def test_accumulate_grad_hook() -> None:
    x = leaf(2.0)
    end = (x * 1).grad_fn.next_functions[0][0]
    seen = []
    end.register_hook(lambda *_: seen.append(x.grad.item()))
    (x * 3).backward()
    assert seen == [3.0]


def test_retain_grad_keeps_an_inner_gradient() -> None:
    x = leaf(2.0)
    h = x * 3
    assert not h.retains_grad
    h.retain_grad()
    h.retain_grad()
    assert h.retains_grad
    (h * h).backward()
    assert h.grad.item() == 12.0
    assert not x.retains_grad
    with pytest.raises(RuntimeError, match="can't retain_grad on Tensor that has requires_grad=False"):
        torch.ones(1).retain_grad()


def test_retain_grad_comes_after_hooks() -> None:
    h = leaf(2.0) * 3
    h.retain_grad()
    h.register_hook(lambda g: g * 100)
    h.backward()
    assert h.grad.item() == 100.0


def test_grad_of_a_non_leaf_stays_none() -> None:
    h = leaf(1.0) * 2
    h.backward()
    assert h.grad is None


def test_hooks_under_create_graph_see_recorded_gradients() -> None:
    x = leaf(2.0)
    h = x * x
    h.register_hook(lambda g: g * x)
    (first,) = torch.autograd.grad(h, x, create_graph=True)
    assert first.item() == 2 * 2.0**2
    assert torch.autograd.grad(first, x)[0].item() == 4 * 2.0


def test_a_hook_on_one_of_several_outputs() -> None:
    x = leaf(1.0, 2.0, 3.0)
    a, b, c = x.unbind()
    b.register_hook(lambda g: g * 7)
    (a + b + c * 2).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1.0, 7.0, 2.0])


def test_a_hook_that_was_set_before_an_in_place_change_keeps_its_place() -> None:
    x = leaf(1.0)
    h = x * 2
    h.register_hook(lambda g: g * 10)
    h.mul_(3)
    h.backward()
    assert x.grad.item() == 60.0
