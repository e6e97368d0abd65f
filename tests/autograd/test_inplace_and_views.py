"""In-place changes and views, in every order, against finite differences; and what PyTorch refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

import disttorch as torch
from disttorch.autograd import gradcheck, gradgradcheck


def leaf(*shape: int) -> Any:
    count = 1
    for n in shape:
        count *= n
    values = torch.linspace(0.3, 1.7, count, dtype=torch.float64) * torch.tensor([1.0, -1.0] * count)[:count]
    return values.reshape(shape).detach().clone().requires_grad_()


def check(function: Callable[..., Any], *inputs: Any) -> None:
    """First and second derivatives against finite differences of the same code."""
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, atol=1e-4)


# -- views of a base, changes in every order ----------------------------------------------------------------------

VIEWS: dict[str, Callable[[Any], Any]] = {
    "row": lambda x: x[0],
    "column": lambda x: x[:, 1],
    "step": lambda x: x[::2, 1:],
    "transpose": lambda x: x.t(),
    "reshape": lambda x: x.view(-1),
    "of a view": lambda x: x.view(-1)[1:5].view(2, 2),
    "diagonal": lambda x: x.diagonal(),
    "narrow": lambda x: x.narrow(0, 1, 2),
    "unsqueeze": lambda x: x.unsqueeze(0)[0, 1],
    "select": lambda x: x.permute(1, 0)[1:, 0],
    "squeeze": lambda x: x.unsqueeze(1).squeeze(1)[2],
    "one number": lambda x: x[2, 1],
}

WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "scaled": lambda v, w: v.mul_(w),
    "nonlinear": lambda v, w: v.exp_(),
    "filled": lambda v, w: v.fill_(2.0),
    "copied": lambda v, w: v.copy_(w * w),
    "added": lambda v, w: v.add_(w, alpha=3),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("write", WRITES)
def test_a_change_of_a_view_reaches_the_base(view: str, write: str) -> None:
    def function(x: Any, w: Any) -> Any:
        base = x * 1
        v = VIEWS[view](base)
        WRITES[write](v, w)
        return base * base, v * 2

    check(function, leaf(3, 3), leaf())


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("write", ["scaled", "copied"])
def test_a_change_of_the_base_reaches_a_view(view: str, write: str) -> None:
    def function(x: Any, w: Any) -> Any:
        base = x * 1
        v = VIEWS[view](base)
        WRITES[write](base, w)
        return v * v, base.sum()

    check(function, leaf(3, 3), leaf())


@pytest.mark.parametrize("order", list(itertools.permutations(["base", "row", "column"])), ids="-".join)
def test_changes_of_base_and_two_views_in_every_order(order: tuple[str, ...]) -> None:
    def function(x: Any, w: Any) -> Any:
        base = x * 1
        targets = {"base": base, "row": base[1], "column": base.t()[0]}
        for k, name in enumerate(order):
            targets[name].mul_(w + k)
        return tuple(targets.values())

    check(function, leaf(3, 2), leaf())


def test_a_view_made_between_changes() -> None:
    def function(x: Any, w: Any) -> Any:
        base = x * 1
        first = base[0]
        first.mul_(w)
        second = base[:, 0]
        second.add_(w)
        third = first[1:]
        third.mul_(w + 1)
        base.mul_(2)
        return base, first, second, third

    check(function, leaf(2, 3), leaf())


def test_a_change_of_a_view_of_a_view_reaches_all() -> None:
    def function(x: Any) -> Any:
        base = x * 1
        a = base.view(2, 6)
        b = a[:, 1:5]
        c = b.t()[1:3]
        c.mul_(c.clone())
        return base, a, b, c

    check(function, leaf(3, 4))


def test_a_view_that_changes_by_itself_and_by_its_base() -> None:
    def function(x: Any) -> Any:
        base = x * 1
        v = base[1:]
        v *= base[:-1].clone()
        base += v.sum()
        return base.sin()

    check(function, leaf(4))


def test_a_base_that_needs_no_gradient_gets_one_from_what_is_written() -> None:
    def function(x: Any) -> Any:
        base = torch.zeros(3, 2, dtype=torch.float64)
        base[1] = x
        base[2] += x * x
        return base

    check(function, leaf(2))


# -- indexed writes -----------------------------------------------------------------------------------------------


def test_masked_write() -> None:
    def function(x: Any, v: Any) -> Any:
        y = x * 1
        y[y.detach() > 0] = v
        return y * y

    check(function, leaf(5), leaf())


def test_masked_write_of_a_row() -> None:
    def function(x: Any, v: Any) -> Any:
        y = x * 1
        y[torch.tensor([True, False, True])] = v
        return y * y

    check(function, leaf(3, 2), leaf(2, 2))


def test_indexed_addition_counts_a_repeated_index_once() -> None:
    def function(x: Any, v: Any) -> Any:
        y = x * 1
        y[torch.tensor([0, 2])] += v
        return y * y

    check(function, leaf(3, 2), leaf(2))
    y = torch.zeros(3)
    y[[0, 0, 1]] += 1.0
    assert y.tolist() == [1.0, 1.0, 0.0]


def test_indexed_write_through_a_view() -> None:
    def function(x: Any, v: Any) -> Any:
        y = x * 1
        y.t()[1][torch.tensor([0, 2])] = v
        y[1:][:, torch.tensor([0])] *= 3.0
        return y * y

    check(function, leaf(3, 2), leaf(2))


def test_slices_with_augmented_assignment() -> None:
    def function(x: Any) -> Any:
        y = x * 1
        y[2:] += y[:2]
        y[0] -= 2.0
        y[-1] *= y[0].clone()
        return y * y

    check(function, leaf(4))


@pytest.mark.parametrize(
    "name",
    ["mul_", "div_", "sub_", "add_", "pow_", "fmod_", "clamp_min_", "lerp_"],
)
def test_in_place_forms_of_two_operands(name: str) -> None:
    def function(x: Any, y: Any) -> Any:
        z = x.abs() + 0.1
        return getattr(z, name)(*((y, 0.3) if name == "lerp_" else (y.abs() + 0.2,)))

    check(function, leaf(3), leaf(3))


@pytest.mark.parametrize(
    "name",
    [
        "neg_",
        "reciprocal_",
        "square_",
        "sqrt_",
        "rsqrt_",
        "exp_",
        "expm1_",
        "log_",
        "log1p_",
        "sin_",
        "cos_",
        "tan_",
        "atan_",
        "tanh_",
        "sigmoid_",
        "abs_",
        "sinh_",
        "cosh_",
        "relu_",
    ],
)
def test_in_place_forms_of_one_operand(name: str) -> None:
    check(lambda x: getattr(x.abs() + 0.1, name)(), leaf(3))


def test_in_place_returns_the_tensor_itself() -> None:
    x = torch.ones(2)
    before = x
    assert x.add_(1) is x
    x += 1
    x *= 2
    assert x is before
    assert x.tolist() == [6.0, 6.0]


# -- versions -----------------------------------------------------------------------------------------------------


def test_versions_are_shared_by_base_views_and_detach() -> None:
    x = torch.zeros(3)
    v, d = x[1:], x.detach()
    assert x._version == 0
    v.add_(1)
    d.mul_(2)
    x[0] = 5
    assert (x._version, v._version, d._version) == (3, 3, 3)
    x.data.add_(1)
    assert x._version == 3


@pytest.mark.parametrize("change", ["value", "view", "detached", "base"])
def test_a_saved_value_that_changes_is_noticed(change: str) -> None:
    x = leaf(3)
    base = x * 1
    h = base[:2] if change == "base" else base
    y = h.sin()
    {"value": h, "view": h[1:], "detached": h.detach(), "base": base}[change].add_(1)
    with pytest.raises(
        RuntimeError,
        match=r"modified by an inplace operation: \[torch.DoubleTensor .*is at version 1; expected version 0 instead",
    ):
        y.sum().backward()


def test_a_changed_output_is_noticed() -> None:
    y = leaf(3).exp()
    y.add_(1)
    with pytest.raises(
        RuntimeError,
        match=r"\[torch.DoubleTensor \[3\]\], which is output 0 of Exp, is at version 1; expected version 0",
    ):
        y.sum().backward()


def test_a_change_of_what_was_not_saved_is_fine() -> None:
    x = leaf(3)
    h = x * 2
    y = h + 1
    h.zero_()
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


def test_a_change_under_no_grad_is_noticed_too() -> None:
    x = leaf(3)
    y = (x * x).sum()
    with torch.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


# -- what is refused ----------------------------------------------------------------------------------------------


def test_a_leaf_that_requires_grad_is_not_changed() -> None:
    x = leaf(3)
    for change in (lambda: x.add_(1), lambda: x.zero_(), lambda: x.__setitem__(0, 1.0), lambda: x.copy_(x.detach())):
        with pytest.raises(
            RuntimeError, match=r"leaf Variable that requires grad.* is being used in an in-place operation"
        ):
            change()
    with pytest.raises(
        RuntimeError, match=r"a view of a leaf Variable that requires grad is being used in an in-place operation\."
    ):
        x[1:].mul_(2)
    assert x._version == 0
    with torch.no_grad():
        x[1:].mul_(2)


def test_outputs_of_multi_view_functions_are_not_changed() -> None:
    h = leaf(4) * 1
    for first in (h.unbind()[0], h.split(2)[0], h.chunk(2)[0], next(iter(h))):
        with pytest.raises(RuntimeError, match="This view is the output of a function that returns multiple views"):
            first.add_(1)


def test_multi_views_of_plain_tensors_may_be_changed() -> None:
    h = torch.zeros(4)
    for part in h.chunk(2):
        part.add_(1)
    assert h.tolist() == [1.0] * 4


def test_a_view_made_in_no_grad_is_not_changed_outside() -> None:
    h = leaf(4) * 1
    with torch.no_grad():
        v = h[1:]
        v.mul_(2)
    with pytest.raises(
        RuntimeError, match="A view was created in no_grad mode and is being modified inplace with grad mode enabled"
    ):
        v.mul_(2)


def test_an_expanded_tensor_is_not_written() -> None:
    x = torch.zeros(1, 2).expand(3, 2)
    with pytest.raises(
        RuntimeError, match="more than one element of the written-to tensor refers to a single memory location"
    ):
        x.add_(torch.ones(3, 2))


def test_shapes_and_types_of_in_place_results() -> None:
    with pytest.raises(RuntimeError, match=r"output with shape \[3\] doesn't match the broadcast shape \[2, 3\]"):
        torch.zeros(3).add_(torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        torch.zeros(3, dtype=torch.int64).add_(1.5)
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        torch.zeros(3, dtype=torch.int64).div_(2)


def test_a_failed_write_changes_nothing() -> None:
    x = torch.zeros(3)
    with pytest.raises(RuntimeError):
        x.add_(torch.zeros(2, 3))
    with pytest.raises(RuntimeError):
        x.mul_(torch.zeros(4))
    assert x._version == 0


def test_detach_in_place() -> None:
    h = leaf(3) * 2
    assert h.detach_() is h
    assert h.is_leaf
    assert not h.requires_grad
    with pytest.raises(RuntimeError, match="Can't detach views in-place"):
        (leaf(3) * 2)[1:].detach_()


def test_requires_grad_of_non_leaves_and_integers() -> None:
    h = leaf(3) * 2
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
        h.requires_grad_(False)
    h.requires_grad_(True)
    with pytest.raises(RuntimeError, match="only Tensors of floating point"):
        torch.ones(2, dtype=torch.int64).requires_grad_()


def test_a_view_of_a_base_that_starts_to_require_grad() -> None:
    base = torch.zeros(3, dtype=torch.float64)
    v = base[1:]
    w = leaf()
    base.mul_(0)
    v.add_(w)
    assert base.requires_grad
    assert v.requires_grad
    base.sum().backward()
    assert w.grad.item() == 2.0


@pytest.mark.parametrize("after", ["grad_fn", "use", "view of it"])
def test_one_of_several_views_is_refused_after_a_change_of_its_base(after: str) -> None:
    base = torch.ones(3, requires_grad=True) * 1
    view = base.unbind()[1]
    if after == "view of it":
        view = view[None]
    base.mul_(2)
    assert view.requires_grad
    with pytest.raises(RuntimeError, match="its base or another view of its base has been modified"):
        view * 2 if after == "use" else view.grad_fn


def test_a_view_made_without_grad_is_refused_after_a_change_of_its_base() -> None:
    base = torch.ones(3, requires_grad=True) * 1
    with torch.no_grad():
        view = base[1:]
    base.mul_(2)
    with pytest.raises(RuntimeError, match="created in no_grad mode and its base or another view of its base has been"):
        view.sum()


def test_a_view_made_without_grad_is_refused_after_any_change_of_its_memory() -> None:
    base = torch.ones(3, requires_grad=True) * 1
    with torch.no_grad():
        view = base[1:]
        view.zero_()
    with pytest.raises(RuntimeError, match="created in no_grad mode and its base or another view of its base has been"):
        view.sum()


def test_an_operand_that_overlaps_what_is_written_is_refused() -> None:
    x = torch.arange(4.0)
    with pytest.raises(
        RuntimeError, match="some elements of the input tensor and the written-to tensor refer to a single"
    ):
        x[1:] += x[:3]
    x[2:] += x[:2]
    assert x.tolist() == [0.0, 1.0, 2.0, 4.0]
    x += x
    x.t_().add_(x)


def test_an_indexed_write_reaches_expanded_memory_with_a_warning() -> None:
    x = torch.zeros(3)
    with pytest.warns(UserWarning, match="index_put_ on expanded tensors is deprecated"):
        x.expand(2, 3)[[0]] = 1.0
    assert x.tolist() == [1.0, 1.0, 1.0]
