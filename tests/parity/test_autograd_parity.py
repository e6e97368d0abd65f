"""The programming model against PyTorch: errors, graphs, and random programs of views, writes and arithmetic."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import disttorch  # noqa: E402
from disttorch.testing import assert_close  # noqa: E402
from disttorch.testing.sample import functional  # noqa: E402

# -- mistakes -----------------------------------------------------------------------------------------------------


def grown(t: Any, *shape: int) -> Any:
    """Return a leaf that requires grad."""
    return t.ones(*shape, requires_grad=True)


def twice(t: Any) -> None:
    y = (grown(t, 2) ** 2).sum()
    y.backward()
    y.backward()


def change_saved(t: Any) -> None:
    x = grown(t, 2)
    h = x * 2
    y = h.sin()
    h.add_(1)
    y.sum().backward()


def change_output(t: Any) -> None:
    y = grown(t, 2, 3).exp()
    y.mul_(2)
    y.sum().backward()


def no_grad_view(t: Any) -> None:
    h = grown(t, 4) * 1
    with t.no_grad():
        v = h[1:]
    v.mul_(2)


def inference_in_graph(t: Any) -> None:
    with t.inference_mode():
        y = t.ones(2)
    grown(t, 2) * y


MISTAKES: dict[str, Callable[[Any], Any]] = {
    "second backward": twice,
    "saved value changed": change_saved,
    "saved output changed": change_output,
    "leaf changed": lambda t: grown(t, 2).add_(1),
    "view of leaf changed": lambda t: grown(t, 2)[0].add_(1),
    "no_grad view changed": no_grad_view,
    "multi-view changed": lambda t: (grown(t, 4) * 1).unbind()[0].add_(1),
    "inference tensor recorded": inference_in_graph,
    "scalar outputs": lambda t: (grown(t, 2) * 2).backward(),
    "no grad_fn": lambda t: t.ones(1).backward(),
    "seed shape": lambda t: (grown(t, 2) * 2).backward(t.ones(3)),
    "unused input": lambda t: t.autograd.grad(grown(t, 1).sum(), grown(t, 1)),
    "grad of constant": lambda t: t.autograd.grad(grown(t, 1).sum(), t.ones(1)),
    "numpy of leaf": lambda t: grown(t, 1).numpy(),
    "non-leaf requires_grad": lambda t: (grown(t, 1) * 2).requires_grad_(False),
    "integers require grad": lambda t: t.ones(2, dtype=t.int64).requires_grad_(),
    "hook without grad": lambda t: t.ones(1).register_hook(print),
    "retain_grad without grad": lambda t: t.ones(1).retain_grad(),
    "post hook on non-leaf": lambda t: (grown(t, 1) * 2).register_post_accumulate_grad_hook(print),
    "detach_ of a view": lambda t: (grown(t, 2) * 1)[0].detach_(),
    "broadcast": lambda t: t.ones(2, 3) + t.ones(4),
    "in-place shape": lambda t: t.ones(3).add_(t.ones(2, 3)),
    "in-place type": lambda t: t.ones(2, dtype=t.int64).add_(1.5),
    "in-place expanded": lambda t: t.ones(1).expand(3).add_(t.ones(3)),
    "mm shapes": lambda t: t.ones(2, 3) @ t.ones(2, 3),
    "mm types": lambda t: t.mm(t.ones(2, 2), t.ones(2, 2, dtype=t.float64)),
    "mm dimensions": lambda t: t.mm(t.ones(2), t.ones(2, 2)),
    "bmm shapes": lambda t: t.bmm(t.ones(2, 2, 3), t.ones(2, 2, 3)),
    "dot sizes": lambda t: t.dot(t.ones(2), t.ones(3)),
    "matmul of scalars": lambda t: t.matmul(t.tensor(1.0), t.ones(2)),
    "view size": lambda t: t.ones(6).view(4),
    "view of transpose": lambda t: t.ones(2, 3).t().view(6),
    "two unknown sizes": lambda t: t.ones(6).reshape(-1, -1),
    "expand": lambda t: t.ones(2, 3).expand(2, 4),
    "dim out of range": lambda t: t.ones(2, 3).sum(2),
    "dim twice": lambda t: t.ones(2, 3).sum((0, 0)),
    "index out of range": lambda t: t.ones(3)[3],
    "too many indices": lambda t: t.ones(3)[0, 0],
    "index of 0-d": lambda t: t.tensor(1)[0],
    "float index": lambda t: t.ones(3)[t.tensor([0.5])],
    "mask shape": lambda t: t.ones(3)[t.tensor([True, False])],
    "negative step": lambda t: t.ones(3)[::-1],
    "len of 0-d": lambda t: len(t.tensor(1)),
    "iteration over 0-d": lambda t: list(t.tensor(1)),
    "item of many": lambda t: t.ones(2).item(),
    "truth of many": lambda t: bool(t.ones(2)),
    "truth of none": lambda t: bool(t.ones(0)),
    "mean of integers": lambda t: t.ones(2, dtype=t.int64).mean(),
    "bool subtraction": lambda t: t.tensor([True]) - t.tensor([True]),
    "bool negation": lambda t: -t.tensor([True]),
    "negative integer power": lambda t: t.tensor([2]) ** -1,
    "cat sizes": lambda t: t.cat([t.ones(2, 2), t.ones(3, 3)]),
    "cat dimensions": lambda t: t.cat([t.ones(2, 2), t.ones(3)]),
    "cat of 0-d": lambda t: t.cat([t.tensor(1.0), t.tensor(2.0)]),
    "stack sizes": lambda t: t.stack([t.ones(2), t.ones(3)]),
    "stack of nothing": lambda t: t.stack([]),
    "split sizes": lambda t: t.ones(5).split([2, 2]),
    "permute": lambda t: t.ones(2, 3).permute(0, 0),
    "t of 3-d": lambda t: t.ones(2, 2, 2).t(),
    "gather index type": lambda t: t.ones(2, 2).gather(0, t.ones(1, 2)),
    "gather dimensions": lambda t: t.ones(2, 2).gather(0, t.zeros(1, dtype=t.int64)),
    "topk": lambda t: t.ones(3).topk(4),
    "max of nothing": lambda t: t.ones(0).max(),
    "clamp without bounds": lambda t: t.ones(2).clamp(),
    "out type": lambda t: t.add(t.ones(2), 1, out=t.ones(2, dtype=t.int64)),
    "out with grad": lambda t: t.mul(grown(t, 2), 2, out=t.ones(2)),
    "grad of other shape": lambda t: setattr(grown(t, 2), "grad", t.ones(3)),
    "grad of other kind": lambda t: setattr(grown(t, 2), "grad", 3),
    "cross entropy batch": lambda t: functional(t).cross_entropy(t.ones(2, 3), t.zeros(3, dtype=t.int64)),
    "conv channels": lambda t: functional(t).conv2d(t.ones(1, 3, 4, 4), t.ones(2, 2, 3, 3)),
    "conv kernel size": lambda t: functional(t).conv2d(t.ones(1, 1, 2, 2), t.ones(1, 1, 3, 3)),
    "conv dimensions": lambda t: functional(t).conv2d(t.ones(4, 4), t.ones(1, 1, 3, 3)),
    "linear shapes": lambda t: functional(t).linear(t.ones(2, 3), t.ones(4, 2)),
    "dropout probability": lambda t: functional(t).dropout(t.ones(2), 1.5),
    "reduction": lambda t: functional(t).mse_loss(t.ones(2), t.ones(2), reduction="all"),
    "assigning a list": lambda t: t.ones(2).__setitem__(slice(None), [1.0, 2.0]),
    "narrow": lambda t: t.ones(3).narrow(0, 2, 2),
    "squeeze of a wrong dim": lambda t: t.ones(2).squeeze(3),
    "number too large": lambda t: t.ones(2, dtype=t.int8).fill_(300),
    "arange step": lambda t: t.arange(0, 5, -1),
    "device": lambda t: t.ones(2, device="gpu"),
}  # fmt: skip

# Where our text says more, or the same in other words, the part that has to be in both.
SHARED_TEXT = {
    "device": "device type at start of device string",
    "assigning a list": "can't assign a list",
    "mm types": "expected",
    "gather index type": "gather(): Expected dtype int32/int64 for index",
    "conv channels": "to have 2 channels, but got 3 channels instead",
    "arange step": "bound inconsistent with step sign",
    "permute": "permute",
    "integers require grad": "ensors of floating point",
    "matmul of scalars": "both arguments to matmul need to be at least 1D, but they are 0D and 1D",
}


def mistake(call: Callable[[Any], Any], t: Any) -> BaseException | None:
    try:
        call(t)
    except Exception as error:
        return error
    return None


def first_line(error: BaseException) -> str:
    text = re.sub(r"0x[0-9a-f]+", "0x", str(error).split("\n", 1)[0]).strip()
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_raise_the_same_error(name: str) -> None:
    theirs, ours = (mistake(MISTAKES[name], t) for t in (torch, disttorch))
    assert theirs is not None, "PyTorch accepts this"
    assert ours is not None, f"accepted; PyTorch raises {theirs!r}"
    assert isinstance(ours, type(theirs)), f"{ours!r} instead of {theirs!r}"
    if name in SHARED_TEXT:
        assert SHARED_TEXT[name] in str(theirs)
        assert SHARED_TEXT[name] in str(ours)
    else:
        assert first_line(ours) == first_line(theirs)


# -- random programs ----------------------------------------------------------------------------------------------

# Each step takes (library, list of tensors of which the first is a base [3, 4], choices) and adds or changes tensors.


def pick(tensors: list[Any], k: int) -> Any:
    return tensors[k % len(tensors)]


def view(t: Any, tensors: list[Any], k: int, how: int) -> None:
    x = pick(tensors, k)
    ways: list[Callable[[], Any]] = [
        lambda: x.reshape(-1),
        lambda: x.t() if x.dim() == 2 else x.unsqueeze(0),
        lambda: x[1:] if x.dim() and x.shape[0] > 1 else x[None],
        lambda: x[..., 0] if x.dim() > 1 else x.unsqueeze(-1),
        lambda: x[..., ::2] if x.dim() else x.view(1),
        lambda: x.diagonal() if x.dim() == 2 else x.expand(2, *x.shape).clone(),
        lambda: x.transpose(0, -1) if x.dim() else x.view(1, 1),
        lambda: x.narrow(0, 0, 1) if x.dim() and x.shape[0] else x.detach(),
    ]
    tensors.append(ways[how % len(ways)]())


def write(t: Any, tensors: list[Any], k: int, how: int) -> None:
    x, other = pick(tensors, k), pick(tensors, how)
    ways: list[Callable[[], Any]] = [
        lambda: x.mul_(1.5),
        lambda: x.add_(other.sum() * 0.1),
        lambda: x.copy_(other.sin().sum()),
        lambda: x.sigmoid_(),
        lambda: x.fill_(0.5),
        lambda: x.__setitem__(0, 0.25) if x.dim() and x.shape[0] else x.neg_(),
        lambda: x.__setitem__(x.detach() > 0.5, other.mean()),
        lambda: x.sub_(x.detach().clone() * 0.5),
    ]
    ways[how % len(ways)]()


def compute(t: Any, tensors: list[Any], k: int, how: int) -> None:
    x, other = pick(tensors, k), pick(tensors, how)
    ways: list[Callable[[], Any]] = [
        lambda: x * 2.0,
        lambda: x.tanh(),
        lambda: x * other.mean(),
        lambda: t.cat([x.reshape(-1), other.reshape(-1)])[:12],
        lambda: x.cumsum(0) if x.dim() else x * x,
        lambda: t.where(x > 0.3, x, other.sum() * 0.1),
        lambda: x.clone(),
        lambda: t.softmax(x, -1) if x.dim() and x.shape[-1] else x + 1,
    ]
    tensors.append(ways[how % len(ways)]())


STEPS = {"view": view, "write": write, "compute": compute}
PROGRAM = st.lists(
    st.tuples(st.sampled_from(["view", "view", "write", "compute"]), st.integers(0, 9), st.integers(0, 31)),
    min_size=2,
    max_size=9,
)


def run(
    t: Any, program: list[tuple[str, int, int]], second: bool
) -> tuple[list[np.ndarray], list[np.ndarray | None], str]:
    """Return the values of all tensors, the gradients, and the error that ended the program early."""
    leaves = [
        t.from_numpy(np.linspace(-1, 1, 12).reshape(3, 4).copy()).requires_grad_(),
        t.from_numpy(np.linspace(0.1, 0.9, 4)).requires_grad_(),
    ]
    tensors = [leaves[0] * 1, leaves[1] * 1]
    ended = ""
    gradients: list[Any] = []
    try:
        for step, k, how in program:
            STEPS[step](t, tensors, k, how)
        total = sum(x.sin().sum() * (k + 1) for k, x in enumerate(tensors))
        gradients = list(t.autograd.grad(total, leaves, create_graph=second, allow_unused=True))
        if second:
            again = sum((g * g).sum() for g in gradients if g is not None and g.requires_grad)
            if isinstance(again, t.Tensor):
                gradients += t.autograd.grad(again, leaves, allow_unused=True)
    except RuntimeError as error:
        ended = first_line(error)
    values = [x.detach().numpy() for x in tensors]
    return values, [None if g is None else g.detach().numpy() for g in gradients], ended


@pytest.mark.parametrize("second", [False, True], ids=["first order", "second order"])
def test_random_programs(second: bool) -> None:
    @settings(max_examples=250, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(PROGRAM)
    def check(program: list[tuple[str, int, int]]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values, gradients, ended = run(torch, program, second)
        ours, found, stopped = run(disttorch, program, second)
        if "modified by an inplace operation" in ended:
            # We may have kept a copy of our own; then there is nothing to compare with.
            assert not stopped or "modified by an inplace operation" in stopped
            return
        assert bool(stopped) == bool(ended), f"{stopped or 'no error'} instead of {ended or 'no error'}"
        kind = re.sub(r"\[.*", "", ended)
        assert stopped.startswith(kind), f"{stopped} instead of {ended}"
        assert_close(ours, values, rtol=1e-9, atol=1e-11)
        for a, b in itertools.zip_longest(found, gradients):  # none, or none recorded, counts as zeros
            a = np.zeros_like(b) if a is None and b is not None else a
            b = np.zeros_like(a) if b is None and a is not None else b
            assert_close(a, b, rtol=1e-8, atol=1e-10)

    check()


# -- the comparison itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(12))
def test_assert_close_says_what_pytorch_says(case: int) -> None:
    def arguments(t: Any) -> tuple[Any, ...]:
        cases: list[tuple[Any, ...]] = [
            (t.tensor([1.0, 2.0, 3.0]), t.tensor([1.0, 2.0, 4.0])),
            (t.tensor([1, 2, 3]), t.tensor([1, 2, 4])),
            (t.tensor(1.0), t.tensor(2.0)),
            (t.tensor([1.0]), t.tensor([2.0], dtype=t.float64)),
            (t.tensor([1.0]), t.tensor([2.0, 3.0])),
            (1.0, 2.0),
            (1, 1.0),
            (True, False),
            ([t.tensor([1.0]), 2], [t.tensor([1.0]), 3]),
            ([1], [1, 2]),
            ({"a": 1}, {"b": 1}),
            (t.tensor([float("inf"), 1.0]), t.tensor([1.0, 1.0])),
        ]
        return cases[case]

    theirs = mistake(lambda t: torch.testing.assert_close(*arguments(t)), torch)
    ours = mistake(lambda t: assert_close(*arguments(t)), disttorch)
    assert type(ours) is type(theirs) is AssertionError
    assert str(ours) == str(theirs)
