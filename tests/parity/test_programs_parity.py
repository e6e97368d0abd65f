"""Random programs of views, in-place changes and arithmetic: values and gradients, or the error, are PyTorch's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

import disttorch  # noqa: E402

Step = tuple[str, int, int, int]
"""The name of an operation, which tensor it takes, which second one, and a number that it may use."""


def _dim(x: Any, k: int) -> int:
    return k % max(x.ndim, 1)


def _size(x: Any, k: int) -> int:
    return x.shape[_dim(x, k)]


VIEWS: dict[str, Callable[[Any, int], Any]] = {
    "transpose": lambda x, k: x.transpose(_dim(x, k), _dim(x, k + 1)),
    "narrow": lambda x, k: x.narrow(_dim(x, k), 0, max(_size(x, k) - 1, 0)),
    "unsqueeze": lambda x, k: x.unsqueeze(k % (x.ndim + 1)),
    "squeeze": lambda x, k: x.squeeze(),
    "select": lambda x, k: x[k % len(x)],
    "step": lambda x, k: x[..., :: k % 3 + 1],
    "expand": lambda x, k: x.expand(k % 3 + 1, *x.shape),
    "diagonal": lambda x, k: x.diagonal(k % 3 - 1),
    "flatten": lambda x, k: x.flatten(),
    "view": lambda x, k: x.view(-1),
    "chunk": lambda x, k: x.chunk(2, _dim(x, k))[0],
    "unbind": lambda x, k: x.unbind(_dim(x, k))[-1],
    "detach": lambda x, k: x.detach(),
    "T": lambda x, k: x.permute(list(reversed(range(x.ndim)))),
}
ARITHMETIC: dict[str, Callable[[Any, Any, int], Any]] = {
    "add": lambda x, y, k: x + y,
    "mul": lambda x, y, k: x * y,
    "sub": lambda x, y, k: x - y * (k % 3),
    "tanh": lambda x, y, k: x.tanh(),
    "scale": lambda x, y, k: x * (k % 5 - 2),
    "sum": lambda x, y, k: x.sum(_dim(x, k), keepdim=bool(k % 2)),
    "maximum": lambda x, y, k: x.clamp(min=-0.3).sin(),
    "pick": lambda x, y, k: x[[k % len(x), 0]],
    "mask": lambda x, y, k: x[x > 0],
    "clone": lambda x, y, k: x.clone(),
}
IN_PLACE: dict[str, Callable[[Any, Any, int], Any]] = {
    "mul_": lambda x, y, k: x.mul_(y),
    "add_": lambda x, y, k: x.add_(y, alpha=k % 3),
    "scale_": lambda x, y, k: x.mul_(k % 4 - 1.5),
    "sin_": lambda x, y, k: x.sin_(),
    "exp_": lambda x, y, k: x.mul_(0.1).exp_(),
    "zero_": lambda x, y, k: x.zero_(),
    "fill_": lambda x, y, k: x.fill_(k % 3),
    "copy_": lambda x, y, k: x.copy_(y),
    "set row": lambda x, y, k: x.__setitem__(k % len(x), y),
    "set slice": lambda x, y, k: x.__setitem__((Ellipsis, slice(None, None, k % 2 + 1)), y),
    "set listed": lambda x, y, k: x.__setitem__([0, k % len(x)], 0.5),
    "set masked": lambda x, y, k: x.__setitem__(x > 0.2, 0.25),
    "add to listed": lambda x, y, k: x.__setitem__([k % len(x)], x[[k % len(x)]] + y),
    "clamp_": lambda x, y, k: x.clamp_(-0.5, 0.5),
    "square_": lambda x, y, k: x.square_(),
}
# Into expanded memory PyTorch writes with a warning, and then may refuse to differentiate.
INDEXED_WRITES = frozenset({"set listed", "set masked", "add to listed"})
NAMES = [*VIEWS, *ARITHMETIC, *IN_PLACE]
STEPS = st.tuples(st.sampled_from(NAMES), st.integers(0, 30), st.integers(0, 30), st.integers(0, 11))


@dataclass
class Run:
    """A program run in one library: all its tensors, the leaves, and the error that ended it."""

    tensors: list[Any]
    leaves: list[Any]
    gradients: list[Any]
    error: str = ""


def run(library: Any, steps: list[Step]) -> Run:
    """Run a program; its first tensors are two leaves and a constant."""
    generator = np.random.default_rng(1)
    values = [generator.uniform(-1, 1, shape) for shape in ((2, 3), (3,), (2, 2, 3))]
    made = [library.tensor(v.tolist(), dtype=library.float64) for v in values]
    leaves = [x.requires_grad_() for x in made[:2]]
    done = Run([leaves[0] * 1, leaves[1] * 1, made[2], *leaves], leaves, [])
    try:
        for name, a, b, k in steps:
            _step(done.tensors, name, a, b, k)
        total = sum(((x * (k + 1)).sum() for k, x in enumerate(done.tensors)), library.zeros((), dtype=library.float64))
        total.backward()
        done.gradients = [x.grad for x in leaves]
    except (RuntimeError, IndexError, ZeroDivisionError, TypeError) as error:
        done.error = type(error).__name__
    return done


def _step(tensors: list[Any], name: str, a: int, b: int, k: int) -> None:
    x, y = tensors[a % len(tensors)], tensors[b % len(tensors)]
    if x.numel() > 200:
        return
    if name in VIEWS:
        tensors.append(VIEWS[name](x, k))
    elif name in ARITHMETIC:
        tensors.append(ARITHMETIC[name](x, y, k))
    elif not (name in INDEXED_WRITES and any(s == 0 and n > 1 for s, n in zip(x.stride(), x.shape))):
        IN_PLACE[name](x, y, k)


@settings(derandomize=True, deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, min_size=1, max_size=9))
def test_programs(steps: list[Step]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = run(torch, steps), run(disttorch, steps)
    assert ours.error == theirs.error
    assert len(ours.tensors) == len(theirs.tensors)
    for number, (x, y) in enumerate(zip(ours.tensors, theirs.tensors)):
        np.testing.assert_allclose(
            x.detach().numpy(), y.detach().numpy(), rtol=1e-9, atol=1e-12, err_msg=f"tensor {number}"
        )
        assert x.requires_grad == y.requires_grad, f"tensor {number}: requires_grad"
        assert x._version == y._version, f"tensor {number}: version"
    for x, y in zip(ours.gradients, theirs.gradients):
        assert (x is None) == (y is None)
        if y is not None:
            np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-9, atol=1e-12, err_msg="gradient")
