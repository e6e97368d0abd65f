"""The backward pass: accumulation, freeing, options, depth, and what is left in memory afterwards."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch.autograd.engine import outermost_pass, queue_callback
from disttorch.autograd.hooks import GradientMemory
from disttorch.autograd.node import Node


def leaf(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


# -- accumulation -------------------------------------------------------------------------------------------------


def test_gradients_add_up_over_backward_passes() -> None:
    x = leaf(1.0, 2.0)
    (x * 3).sum().backward()
    first = x.grad
    (x * 4).sum().backward()
    assert x.grad is first, "accumulation is in place"
    assert x.grad.tolist() == [7.0, 7.0]


def test_accumulation_counts_a_version() -> None:
    x = leaf(1.0)
    x.sum().backward()
    before = x.grad._version
    x.sum().backward()
    assert x.grad._version == before + 1


def test_grad_may_be_a_view_of_a_larger_buffer() -> None:
    x = leaf(1.0, 2.0)
    bucket = torch.zeros(5, dtype=torch.float64)
    x.grad = bucket[1:3]
    (x * x).sum().backward()
    assert bucket.tolist() == [0.0, 2.0, 4.0, 0.0, 0.0]


def test_a_value_used_several_times_gets_all_its_gradients() -> None:
    x = leaf(2.0)
    y = x * x
    (y * y + y + x).backward()
    assert x.grad.tolist() == [4 * 2.0**3 + 2 * 2.0 + 1]


def test_a_leaf_that_is_its_own_root() -> None:
    x = leaf(2.0)
    x.backward()
    assert x.grad.tolist() == [1.0]
    torch.autograd.backward([x, x * 2])
    assert x.grad.tolist() == [4.0]


def test_the_seed_is_not_shared_with_grad() -> None:
    x, seed = leaf(1.0, 2.0), torch.ones(2, dtype=torch.float64)
    (x + 0).backward(seed)
    x.grad.mul_(5)
    assert seed.tolist() == [1.0, 1.0]
    y = leaf(1.0)
    (x + y.expand(2)).backward(seed)
    assert x.grad.tolist() == [6.0, 6.0]
    assert seed.tolist() == [1.0, 1.0]


def test_two_leaves_of_one_sum_do_not_share_grad() -> None:
    x, y = leaf(1.0), leaf(2.0)
    (x + y).backward()
    x.grad.mul_(10)
    assert y.grad.tolist() == [1.0]


def test_gradient_has_the_type_of_its_leaf() -> None:
    x = torch.ones(2, requires_grad=True)
    y = torch.ones(2, dtype=torch.float64, requires_grad=True)
    z = torch.ones((), dtype=torch.complex64, requires_grad=True)
    (x * y * z).abs().sum().backward()
    assert (x.grad.dtype, y.grad.dtype, z.grad.dtype) == (torch.float32, torch.float64, torch.complex64)


def test_leaves_without_requires_grad_get_none() -> None:
    x, y = leaf(1.0), torch.ones(1, dtype=torch.float64)
    (x * y).backward()
    assert y.grad is None


# -- freeing ------------------------------------------------------------------------------------------------------


def test_second_backward_names_retain_graph() -> None:
    x = leaf(1.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"Trying to backward through the graph a second time .*retain_graph=True"):
        y.backward()


def test_retain_graph_allows_a_second_backward() -> None:
    x = leaf(3.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [12.0]
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_a_graph_that_saved_nothing_can_run_again() -> None:
    x = leaf(1.0)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2.0]


def test_create_graph_keeps_the_graph_and_records_the_gradient() -> None:
    x = leaf(2.0)
    y = (x**3).sum()
    y.backward(create_graph=True)
    assert x.grad.requires_grad
    (second,) = torch.autograd.grad(x.grad.sum(), x)
    assert second.tolist() == [12.0]


def test_third_order() -> None:
    x = leaf(0.7)
    y = x.sin()
    for expected in (np.cos(0.7), -np.sin(0.7), -np.cos(0.7)):
        (y,) = torch.autograd.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(expected, abs=1e-12)


# -- arguments ----------------------------------------------------------------------------------------------------


def test_backward_needs_a_scalar_or_a_gradient() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match=r"Mismatch in shape: grad_output\[0\] has a shape of torch.Size\(\[3\]\)"):
        (x * 2).backward(torch.ones(3))
    with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
        torch.ones(1).backward()


def test_backward_of_several_outputs() -> None:
    x = leaf(1.0, 2.0)
    torch.autograd.backward([x.sum(), (x * x)], [None, torch.tensor([1.0, 10.0], dtype=torch.float64)])
    assert x.grad.tolist() == [3.0, 41.0]


def test_backward_inputs_fills_only_those() -> None:
    x, y = leaf(1.0), leaf(2.0)
    hidden = x * y
    loss = (hidden * hidden).sum()
    loss.backward(inputs=[x], retain_graph=True)
    assert x.grad.tolist() == [8.0]
    assert y.grad is None
    loss.backward(inputs=[y, hidden])
    assert (y.grad.tolist(), hidden.grad.tolist(), x.grad.tolist()) == ([4.0], [4.0], [8.0])
    with pytest.raises(RuntimeError, match="cannot be empty"):
        x.sum().backward(inputs=[])


def test_grad_leaves_dot_grad_alone() -> None:
    x = leaf(3.0)
    (found,) = torch.autograd.grad((x * x).sum(), x)
    assert found.tolist() == [6.0]
    assert x.grad is None
    assert not found.requires_grad


def test_grad_of_an_unused_input() -> None:
    x, unused = leaf(1.0), leaf(5.0)
    y = (x * 2).sum()
    with pytest.raises(RuntimeError, match=r"appears to not have been used in the graph. Set allow_unused=True"):
        torch.autograd.grad(y, [x, unused], retain_graph=True)
    assert torch.autograd.grad(y, [x, unused], allow_unused=True, retain_graph=True)[1] is None
    assert torch.autograd.grad(y, [x, unused], materialize_grads=True)[1].tolist() == [0.0]
    with pytest.raises(ValueError, match="Expected allow_unused to be True or not passed"):
        torch.autograd.grad(y, x, allow_unused=False, materialize_grads=True)


def test_grad_with_respect_to_an_inner_value() -> None:
    x = leaf(2.0)
    h = x * 3
    y = (h * h).sum()
    assert torch.autograd.grad(y, h, retain_graph=True)[0].tolist() == [12.0]
    assert torch.autograd.grad(y, [h, x], retain_graph=True)[1].tolist() == [36.0]
    assert torch.autograd.grad(y, y)[0].item() == 1.0


def test_grad_runs_only_what_leads_to_the_inputs() -> None:
    calls = []

    class Note(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            calls.append(1)
            return g

    x, y = leaf(1.0), leaf(2.0)
    torch.autograd.grad((Note.apply(x) + y * y).sum(), y)
    assert calls == []


def test_grad_outputs_weight_several_outputs() -> None:
    x = leaf(1.0, 2.0)
    weight = torch.tensor([3.0, 4.0], dtype=torch.float64)
    (found,) = torch.autograd.grad([x * x, x.sum()], x, [weight, None])
    assert found.tolist() == [7.0, 17.0]


def test_needless_inputs_are_refused() -> None:
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="One of the differentiated Tensors does not require grad"):
        torch.autograd.grad(x.sum(), torch.ones(1))


# -- depth, order and memory --------------------------------------------------------------------------------------


def test_a_graph_of_100_000_operations() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(50_000):
        y = y * 1.0 + 0.0
    y.backward()
    assert x.grad.tolist() == [1.0]
    del y
    y = x
    for _ in range(100_000):
        y = y + 1.0
    gone = weakref.ref(y.grad_fn)
    del y
    assert gone() is None, "a graph that was never run is freed too"


def test_a_view_chain_and_in_place_graph_are_freed_without_recursion() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    for _ in range(20_000):
        y.add_(1.0)
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def _alive() -> int:
    return sum(issubclass(type(o), (torch.Tensor, Node)) for o in gc.get_objects())


def _train(steps: int) -> None:
    generator = np.random.default_rng(0)
    w = torch.tensor(generator.standard_normal((4, 3)), requires_grad=True)
    b = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    x = torch.tensor(generator.standard_normal((8, 4)))
    for _ in range(steps):
        hidden = torch.relu(x @ w + b) * 1
        hidden[:, 0] += 1.0
        parts = torch.cat([hidden.view(2, 12)[0], hidden.t().reshape(-1)[5:]])
        loss = (torch.log_softmax(hidden, 1).exp() * 0.1).sum() + (parts * parts).mean() + hidden.max(1)[0].sum()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p -= p.grad * 0.01
                p.grad = None


def test_training_leaves_no_cycle_and_does_not_grow() -> None:
    _train(3)
    gc.collect()
    gc.disable()
    try:
        _train(10)
        before = _alive()
        _train(1_000)
        assert _alive() == before, "tensors or nodes stay alive after training"
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [o for o in gc.garbage if type(o).__module__.startswith("disttorch")]
        assert left == [], "reference cycles"
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_a_tensor_dies_with_its_last_reference() -> None:
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = x.exp()
        z = (y * y).sum()
        gone = weakref.ref(y), weakref.ref(z.grad_fn)
        del y, z
        assert [r() for r in gone] == [None, None]
    finally:
        gc.enable()


def test_saved_values_are_freed_during_backward() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    big = y.exp()
    z = big.sin().sum()
    z.backward()
    gone = weakref.ref(big)
    del big
    assert gone() is None, "the graph holds a value that it no longer needs"
    assert z.grad_fn is not None


def test_next_functions_lead_to_the_leaves() -> None:
    x = leaf(1.0)
    y = (x * 2).exp()
    node, number = y.grad_fn.next_functions[0]
    assert (node.name(), number) == ("MulBackward0", 0)
    end, _ = node.next_functions[0]
    assert end.name() == "AccumulateGrad"
    assert end.variable is x
    assert node.next_functions[1] == (None, 0)


# -- callbacks ----------------------------------------------------------------------------------------------------


def test_queued_callbacks_run_when_the_pass_is_over() -> None:
    events = []
    x, y = leaf(1.0), leaf(2.0)
    x.register_hook(lambda g: queue_callback(lambda: events.append(("end", y.grad is not None))))
    y.register_post_accumulate_grad_hook(lambda p: events.append(("y", True)))
    (x * 2 + y).backward()
    assert events[-1] == ("end", True)
    assert len(events) == 2


def test_the_outermost_pass_is_known_inside_of_another() -> None:
    x, y = leaf(2.0), leaf(3.0)
    events = []
    inner = (y * y).sum()

    def again(g: Any) -> None:
        outer = outermost_pass()
        y.register_post_accumulate_grad_hook(lambda p: events.append(outermost_pass() is outer))
        outer.callbacks.append(lambda: events.append("outer"))
        inner.backward()
        queue_callback(lambda: events.append("also outer"))

    x.register_hook(again)
    (x * 5).backward()
    assert events == [True, "outer", "also outer"]
    assert outermost_pass() is None


def test_a_callback_needs_a_backward_pass() -> None:
    with pytest.raises(RuntimeError, match="Final callbacks can only be installed during backward pass"):
        queue_callback(lambda: None)


def test_a_backward_pass_inside_a_hook() -> None:
    x, y = leaf(2.0), leaf(3.0)
    inner = (y * y).sum()
    x.register_hook(lambda g: inner.backward())
    (x * 5).backward()
    assert (x.grad.tolist(), y.grad.tolist()) == ([5.0], [6.0])


def test_an_error_in_backward_leaves_the_mode_as_it_was() -> None:
    x = leaf(1.0)

    def fail(g: Any) -> None:
        raise ValueError("stop")

    x.register_hook(fail)
    with pytest.raises(ValueError, match="stop"):
        (x * 2).backward()
    assert torch.autograd.grad_mode.is_grad_enabled()
    with pytest.raises(RuntimeError, match="only be installed during"):
        queue_callback(lambda: None)


# -- gradients in memory that somebody has asked for -----------------------------------------------------------------


def wanted(parameter: Any, dtype: Any = np.float64) -> np.ndarray:
    """Ask for the gradient of a leaf to be put into the array that is returned."""
    memory = np.full(parameter.shape, 7, dtype)
    GradientMemory(parameter._own_hooks(), memory, lambda: b"\1", 0)
    return memory


def affine() -> tuple[Any, Any, Any]:
    """Return a weight that a sum depends on, that sum, and the weight's gradient."""
    x, weight = torch.arange(12.0, dtype=torch.float64).reshape(2, 2, 3), torch.ones(4, 3, dtype=torch.float64)
    weight.requires_grad_()
    factors = torch.arange(16.0, dtype=torch.float64).reshape(2, 2, 4)
    out = (torch.nn.functional.linear(x, weight) * factors).sum()
    return weight, out, np.einsum("abo,abi->oi", factors.numpy(), x.numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_computes_its_weight_gradient_in_memory_asked_for(dtype: Any, groups: int) -> None:
    torch.manual_seed(0)
    net = torch.nn.Conv2d(2, 4, 3, groups=groups).to(torch.float64 if dtype is np.float64 else torch.float32)
    x = torch.rand(2, 2, 6, 6, dtype=net.weight.dtype)
    net(x).square().sum().backward()
    want, net.weight.grad = net.weight.grad, None
    memory = wanted(net.weight, dtype)
    net(x).square().sum().backward()
    np.testing.assert_array_equal(net.weight.grad.numpy(), want.numpy())
    if dtype is np.float32 and groups == 1:
        assert net.weight.grad._a is memory, "the compiled kernel writes where it is told to"


def test_a_weight_gradient_is_computed_in_memory_asked_for() -> None:
    weight, out, gradient = affine()
    memory = wanted(weight)
    out.backward()
    assert weight.grad._a is memory
    np.testing.assert_array_equal(memory, gradient)


def test_a_gradient_is_added_to_an_old_one_and_not_put_into_memory_asked_for() -> None:
    weight, out, gradient = affine()
    old = weight.grad = torch.ones_like(weight)
    memory = wanted(weight)
    out.backward()
    assert weight.grad is old
    assert (memory == 7).all()
    np.testing.assert_array_equal(old.numpy(), gradient + 1)


def test_the_gradient_of_a_weight_used_twice_does_not_overwrite_the_first_part() -> None:
    weight, out, gradient = affine()
    memory = wanted(weight)
    (out + torch.nn.functional.linear(torch.ones(1, 3, dtype=torch.float64), weight).sum()).backward()
    assert (memory == 7).all()
    np.testing.assert_array_equal(weight.grad.numpy(), gradient + 1)


def test_a_gradient_that_a_nested_pass_has_made_is_not_overwritten() -> None:
    weight, out, gradient = affine()
    memory = wanted(weight)
    inner = torch.nn.functional.linear(torch.ones(1, 3, dtype=torch.float64), weight).sum()
    x = leaf(1.0)
    x.register_hook(lambda g: inner.backward())
    (out.detach() * 0 + x.sum()).backward()
    assert weight.grad._a is memory
    outer = leaf(1.0)
    weight.grad = None
    inner = torch.nn.functional.linear(torch.ones(1, 3, dtype=torch.float64), weight).sum()
    late = outer * 1
    late.register_hook(lambda g: inner.backward())
    # The node of `late` is the last one made, so the nested pass comes before the product with the weight.
    (out + late.sum()).backward()
    np.testing.assert_array_equal(weight.grad.numpy(), gradient + 1)


@pytest.mark.parametrize(
    "run",
    [
        lambda weight, out: out.backward(create_graph=True),
        lambda weight, out: out.backward(inputs=[weight]),
        lambda weight, out: setattr(weight, "grad", torch.autograd.grad(out, weight)[0]),
    ],
    ids=["create_graph", "inputs", "grad"],
)
def test_passes_of_other_kinds_use_their_own_memory(run: Any) -> None:
    weight, out, gradient = affine()
    memory = wanted(weight)
    run(weight, out)
    assert (memory == 7).all()
    np.testing.assert_array_equal(weight.grad.detach().numpy(), gradient)


def test_a_hook_may_keep_a_gradient_that_was_wanted_in_memory() -> None:
    weight, out, gradient = affine()
    memory = wanted(weight)
    seen: list[Any] = []
    weight.register_hook(seen.append)
    out.backward()
    assert (memory == 7).all(), "what a hook has seen must not change when the memory is used again"
    np.testing.assert_array_equal(seen[0].numpy(), gradient)


def test_memory_of_another_type_is_not_used() -> None:
    weight, out, gradient = affine()
    memory = wanted(weight, np.float32)
    out.backward()
    assert (memory == 7).all()
    np.testing.assert_array_equal(weight.grad.numpy(), gradient)


def test_asking_for_memory_can_be_taken_back() -> None:
    weight, out, _ = affine()
    memory = np.full(weight.shape, 7.0)
    first = GradientMemory(weight._own_hooks(), memory, lambda: b"\1", 0)
    second = GradientMemory(weight._own_hooks(), memory, lambda: b"\1", 0)
    first.remove()
    assert weight._own_hooks().memory is not None, "somebody else has asked since"
    second.remove()
    out.backward()
    assert weight.grad._a is not memory
    assert (memory == 7).all()
