"""Random index expressions against PyTorch: reading, writing and adding, with values, derivatives and errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("hypothesis")
pytestmark = pytest.mark.parity

from hypothesis import assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import disttorch  # noqa: E402

REFUSED = (IndexError, RuntimeError, ValueError, TypeError)
thorough = settings(max_examples=200, derandomize=True, deadline=None)
quick = settings(max_examples=100, derandomize=True, deadline=None)


# -- what is drawn ------------------------------------------------------------------------------------------------


@st.composite
def index_arrays(draw: Any, size: int, least: int) -> Any:
    """An index array, broadcastable with most others; where nothing may be wrong, of positions that exist."""
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 1), (2, 3), (0,)])) if size else (0,)
    count = int(np.prod(shape))
    wrong = least == 0 and draw(st.integers(0, 29)) == 0
    low, high = (-size - 1, size) if wrong else (-size, max(size - 1, -size))
    values = draw(st.lists(st.integers(low, high), min_size=count, max_size=count))
    return ("tensor" if draw(st.booleans()) or not values else "list", np.array(values, np.int64).reshape(shape))


@st.composite
def items(draw: Any, shape: tuple[int, ...], least: int) -> Any:
    """One entry of an index of the dimensions `shape`, and how many of them it takes."""
    size = shape[0]
    kind = draw(st.sampled_from("int slice slice array array mask wide_mask".split()))
    if kind == "int" and size:
        return draw(st.integers(-size, size - 1)), 1
    if kind == "array":
        return draw(index_arrays(size, least)), 1
    if kind == "mask" or (kind == "wide_mask" and len(shape) > 1):
        covered = shape[: 1 if kind == "mask" else 2]
        bits = draw(st.lists(st.booleans(), min_size=int(np.prod(covered)), max_size=int(np.prod(covered))))
        return ("tensor", np.array(bits, bool).reshape(covered)), len(covered)
    bounds = st.none() | st.integers(-size - 1, size + 1)
    return slice(draw(bounds), draw(bounds), draw(st.sampled_from([None, 1, 2]))), 1


@st.composite
def expressions(draw: Any, least: int = 1) -> Any:
    """A shape of sizes from `least` on, and an index of it; with `least` 0 the index may be wrong."""
    shape = tuple(draw(st.lists(st.integers(least, 4) | st.integers(2, 4), max_size=4)))
    index: list[Any] = []
    rest = shape
    while rest and draw(st.integers(0, 3)):
        item, taken = draw(items(rest, least))
        index.append(item)
        rest = rest[taken:]
    extra = draw(st.sampled_from(["", "", "...", "None", "bool"]))
    if extra:
        place = draw(st.integers(0, len(index)))
        index.insert(place, {"...": Ellipsis, "None": None, "bool": draw(st.booleans())}[extra])
    return shape, index


def in_library(t: Any, index: list[Any]) -> Any:
    """Return the index with the arrays as tensors of a library, or as lists."""
    made = []
    for item in index:
        if isinstance(item, tuple):
            kind, array = item
            made.append(array.tolist() if kind == "list" else t.tensor(array))
        else:
            made.append(item)
    return tuple(made) if len(made) != 1 or isinstance(made[0], list) else made[0]


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).integers(-9, 10, shape), np.float64)


# -- both libraries -----------------------------------------------------------------------------------------------


def outcome(t: Any, run: Callable[[Any], Any]) -> Any:
    """Return what a library makes of a call: arrays, or the type of the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return [x.detach().numpy() for x in run(t)]
        except REFUSED as error:
            return type(error)


def assert_agree(run: Callable[[Any], Any], shown: Any) -> None:
    ours, theirs = outcome(disttorch, run), outcome(torch, run)
    if isinstance(theirs, type):
        assert ours is theirs, f"{shown}: {ours}, {theirs} expected"
        return
    if ours is IndexError and not theirs[0].size:  # PyTorch does not look at an index when there is nothing to read
        return
    assert not isinstance(ours, type), f"{shown}: {ours.__name__}, none in PyTorch"
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape, f"{shown}: shape {mine.shape}, {other.shape} expected"
        np.testing.assert_array_equal(mine, other, err_msg=repr(shown))


def derivatives(t: Any, y: Any, inputs: list[Any]) -> list[Any]:
    seed = t.tensor(numbers(tuple(y.shape), 7))
    found = t.autograd.grad(y, inputs, seed, allow_unused=True)
    return [t.zeros_like(x) if g is None else g for g, x in zip(found, inputs)]


@thorough
@given(expressions(least=0))
def test_reading(drawn: Any) -> None:
    shape, index = drawn

    def run(t: Any) -> Any:
        x = t.tensor(numbers(shape)).requires_grad_()
        y = x[in_library(t, index)]
        return [y, *derivatives(t, y, [x])]

    assert_agree(run, drawn)


def result_shape(shape: tuple[int, ...], index: list[Any]) -> tuple[int, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return tuple(torch.zeros(shape)[in_library(torch, index)].shape)
        except REFUSED:
            return ()


def without_repetition(index: list[Any]) -> list[Any]:
    """Return the index with at most one position in each array: which of several writes wins is not determined."""
    return [
        (item[0], item[1].reshape(-1)[:1]) if isinstance(item, tuple) and item[1].dtype != bool else item
        for item in index
    ]


@thorough
@given(expressions(), st.data())
def test_writing(drawn: Any, data: Any) -> None:
    shape, index = drawn[0], without_repetition(drawn[1])
    full = result_shape(shape, index)
    assume(0 not in full)
    cut = data.draw(st.integers(0, len(full)))
    wanted = tuple(1 if data.draw(st.integers(0, 3)) == 0 else n for n in full[cut:])
    number = data.draw(st.sampled_from([None, None, 2.5, True, 3]))

    def run(t: Any) -> Any:
        x, v = t.tensor(numbers(shape)).requires_grad_(), t.tensor(numbers(wanted, 1)).requires_grad_()
        y = x.clone()
        y[in_library(t, index)] = v if number is None else number
        return [y, *derivatives(t, y, [x, v])]

    assert_agree(run, (drawn, wanted, number))


@quick
@given(expressions(), st.booleans())
def test_adding(drawn: Any, whole: bool) -> None:
    """x[index] += v reads, adds and writes."""
    shape, index = drawn[0], without_repetition(drawn[1])
    full = result_shape(shape, index)
    assume(0 not in full)
    wanted = full if whole else ()

    def run(t: Any) -> Any:
        x, v = t.tensor(numbers(shape)).requires_grad_(), t.tensor(numbers(wanted, 1)).requires_grad_()
        y = x * 2
        y[in_library(t, index)] += v
        return [y, *derivatives(t, y, [x, v])]

    assert_agree(run, drawn)


@quick
@given(expressions(), st.booleans())
def test_index_put(drawn: Any, accumulate: bool) -> None:
    shape = drawn[0]
    index = [item for item in (drawn[1] if accumulate else without_repetition(drawn[1])) if isinstance(item, tuple)]
    wanted = result_shape(shape, index)
    assume(index and 0 not in wanted)

    def run(t: Any) -> Any:
        x, v = t.tensor(numbers(shape)).requires_grad_(), t.tensor(numbers(wanted, 1)).requires_grad_()
        y = x.index_put(tuple([t.tensor(array) for _, array in index]), v, accumulate)
        return [y, *derivatives(t, y, [x, v])]

    assert_agree(run, (drawn, accumulate))


@quick
@given(expressions())
def test_views_written_through(drawn: Any) -> None:
    """A write through a view changes the base, with its gradient."""
    shape, index = drawn
    basic = [item for item in index if not isinstance(item, (tuple, bool))]
    assume(0 not in result_shape(shape, basic))

    def run(t: Any) -> Any:
        x = t.tensor(numbers(shape)).requires_grad_()
        base = x * 3
        view = base[tuple(basic)]
        view.mul_(2)
        view[...] += view.detach().sum()
        return [base, view, *derivatives(t, base, [x])]

    assert_agree(run, drawn)
