"""torch.autograd.Function: the context, its flags, and derivatives of any order through user code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch.autograd import Function, gradcheck, gradgradcheck
from disttorch.autograd.function import once_differentiable


def leaf(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


class Cube(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * 3 * x * x


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.saved_tensors[0]


@pytest.mark.parametrize("function", [Cube, Exp])
def test_derivatives_to_second_order(function: Any) -> None:
    x = leaf(0.5, -1.2, 2.0)
    assert gradcheck(function.apply, x)
    assert gradgradcheck(function.apply, x)


def test_forward_is_not_recorded_and_the_result_is() -> None:
    seen = []

    class Look(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            seen.append((x * 2).requires_grad)
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            seen.append((g.requires_grad, torch.is_grad_enabled()))
            return g * 2

    y = Look.apply(leaf(1.0))
    assert y.grad_fn.name() == "LookBackward"
    assert not y.is_leaf
    y.backward()
    assert seen == [False, (False, False)]


def test_needs_input_grad_and_other_arguments() -> None:
    seen = {}

    class Scale(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, factor: float, y: Any, flag: Any = None) -> Any:
            ctx.factor = factor
            return x * factor + y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            seen["needs"] = ctx.needs_input_grad
            return g * ctx.factor, None, None, None

    x = leaf(1.0)
    Scale.apply(x, 3.0, torch.ones(1, dtype=torch.float64), None).backward()
    assert x.grad.item() == 3.0
    assert tuple(seen["needs"]) == (True, False, False, False)


def test_setup_context() -> None:
    class Product(Function):
        @staticmethod
        def forward(x: Any, y: Any) -> Any:
            return x * y

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)
            ctx.shape = output.shape

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x, y = ctx.saved_tensors
            return g * y, g * x

    assert gradgradcheck(Product.apply, (leaf(1.0, 2.0), leaf(3.0, -1.0)))


class TwoResults(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * 2, x * x

    @staticmethod
    def backward(ctx: Any, a: Any, b: Any) -> Any:
        (x,) = ctx.saved_tensors
        return a * 2 + b * 2 * x


def test_missing_gradients_are_zeros() -> None:
    x = leaf(3.0)
    TwoResults.apply(x)[1].backward()
    assert x.grad.item() == 6.0
    assert gradgradcheck(lambda v: TwoResults.apply(v), leaf(1.0, 2.0))


def test_missing_gradients_may_be_none() -> None:
    seen = []

    class Raw(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx: Any, a: Any, b: Any) -> Any:
            seen.append((a, b is None))
            return a * 2

    x = leaf(1.0)
    Raw.apply(x)[0].backward()
    assert seen[0][1] is True


def test_results_that_carry_no_gradient() -> None:
    class Sort(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            values, order = x.sort()
            rounded = values.round()
            ctx.mark_non_differentiable(rounded)
            ctx.save_for_backward(order)
            return values, order, rounded

        @staticmethod
        def backward(ctx: Any, g: Any, *rest: Any) -> Any:
            (order,) = ctx.saved_tensors
            return torch.zeros_like(g).scatter(0, order, g)

    x = leaf(3.0, 1.0, 2.0)
    values, order, rounded = Sort.apply(x)
    assert (values.requires_grad, order.requires_grad, rounded.requires_grad) == (True, False, False)
    (values * torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)).sum().backward()
    assert x.grad.tolist() == [100.0, 1.0, 10.0]


class AddInPlace(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        x.add_(y)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g, g * 2


def test_mark_dirty_gives_the_input_itself_a_new_history() -> None:
    x, y = leaf(1.0), leaf(2.0)
    h = x * 3
    out = AddInPlace.apply(h, y)
    assert out is h
    assert h.grad_fn.name() == "AddInPlaceBackward"
    h.backward()
    assert (x.grad.item(), y.grad.item(), h.item()) == (3.0, 2.0, 5.0)


def test_mark_dirty_counts_a_version() -> None:
    x = leaf(1.0)
    h = x * 3
    saved = h.exp() * h
    AddInPlace.apply(h, x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()


def test_mark_dirty_of_a_leaf_is_refused() -> None:
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        AddInPlace.apply(x, leaf(1.0))


def test_an_input_that_is_handed_through() -> None:
    class Identity(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 5

    x = leaf(1.0)
    y = Identity.apply(x)
    assert y is not x
    assert x.is_leaf
    y.backward()
    assert x.grad.item() == 5.0


def test_once_differentiable_refuses_a_second_derivative() -> None:
    class Square(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2 * ctx.saved_tensors[0]

    x = leaf(3.0)
    Square.apply(x).backward()
    assert x.grad.item() == 6.0
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(Square.apply(x), x, weight, create_graph=True)
    with pytest.raises(
        RuntimeError, match="trying to differentiate twice a function that was marked with @once_differentiable"
    ):
        first.backward()


def test_saved_values_are_freed_and_checked() -> None:
    x = leaf(1.0)
    y = Cube.apply(x)
    y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()
    h = x * 1
    y = Cube.apply(h)
    h.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_a_wrong_number_of_gradients() -> None:
    class Bad(Function):
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            return x * y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    with pytest.raises(
        RuntimeError, match=r"BadBackward returned an incorrect number of gradients \(expected 2, got 1\)"
    ):
        Bad.apply(leaf(1.0), leaf(1.0)).backward()


def test_trailing_nones_are_allowed() -> None:
    class More(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2, None, None

    x = leaf(1.0)
    More.apply(x).backward()
    assert x.grad.item() == 2.0


def test_a_gradient_of_a_wrong_shape() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return torch.ones(3, dtype=torch.float64)

    with pytest.raises(
        RuntimeError,
        match=r"WrongBackward returned an invalid gradient at index 0 - got \[3\] but expected shape compatible with \[2\]",
    ):
        Wrong.apply(leaf(1.0, 2.0)).sum().backward()


def test_missing_methods() -> None:
    class Empty(Function):
        pass

    class NoBackward(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

    with pytest.raises(NotImplementedError, match="You must implement the forward function"):
        Empty.apply(leaf(1.0))
    with pytest.raises(NotImplementedError, match="You must implement either the backward or vjp method"):
        NoBackward.apply(leaf(1.0)).backward()


def test_a_gradient_that_the_user_keeps_is_not_overwritten() -> None:
    constant = torch.tensor([2.0, 3.0], dtype=torch.float64)

    class Constant(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * constant

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return constant

    x = leaf(1.0, 1.0)
    (Constant.apply(x) + x).sum().backward()
    x.grad.zero_()
    Constant.apply(x).sum().backward()
    Constant.apply(x).sum().backward()
    x.grad.zero_()
    assert constant.tolist() == [2.0, 3.0]


def test_backward_may_run_another_backward() -> None:
    """As activation checkpointing does."""

    class Again(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x.sin().exp()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x = ctx.saved_tensors[0].detach().requires_grad_()
            with torch.enable_grad():
                y = x.sin().exp()
            y.backward(g)
            return x.grad

    x = leaf(0.3, 1.0)
    Again.apply(x).sum().backward()
    expected = np.cos([0.3, 1.0]) * np.exp(np.sin([0.3, 1.0]))
    np.testing.assert_allclose(x.grad.numpy(), expected)


def test_ctx_attributes_and_no_grad() -> None:
    with torch.no_grad():
        y = Cube.apply(leaf(2.0))
    assert not y.requires_grad
    assert Cube.apply(torch.ones(1)).grad_fn is None
