"""Type promotion against PyTorch: every pair of types, with dimensions, without, and as Python numbers."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

import disttorch  # noqa: E402

TYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
NUMBERS = {"bool number": True, "int number": 2, "float number": 1.5, "complex number": 1 + 2j}
REFUSED = (RuntimeError, TypeError, NotImplementedError)


def operand(t: Any, kind: str) -> Any:
    """Return an operand: "float32 [2]", "float32 []" or the name of a number."""
    if kind in NUMBERS:
        return NUMBERS[kind]
    name, shape = kind.split()
    return t.ones((2,) if shape == "[2]" else (), dtype=getattr(t, name))


def close(ours: Any, theirs: Any) -> bool:
    """Whether numbers, or lists of them, agree but for rounding."""
    return bool(np.allclose(ours, theirs, rtol=1e-5, atol=1e-6))


KINDS = [f"{name} {shape}" for name in TYPES for shape in ("[2]", "[]")]

OPERATIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda t, a, b: a + b,
    "sub": lambda t, a, b: a - b,
    "mul": lambda t, a, b: a * b,
    "div": lambda t, a, b: a / b,
    "floor_divide": lambda t, a, b: a // b,
    "remainder": lambda t, a, b: a % b,
    "pow": lambda t, a, b: a**b,
    "eq": lambda t, a, b: a == b,
    "lt": lambda t, a, b: a < b,
    "and": lambda t, a, b: a & b,
    "where": lambda t, a, b: t.where(t.tensor([True, False]), a, b),
    "maximum": lambda t, a, b: t.maximum(a, b),
    "clamp_min": lambda t, a, b: t.clamp_min(a, b),
    "atan2": lambda t, a, b: t.atan2(a, b),
    "fmod": lambda t, a, b: t.fmod(a, b),
    "trunc": lambda t, a, b: t.div(a, b, rounding_mode="trunc"),
    "lerp": lambda t, a, b: t.lerp(a, b, 0.5),
    "cat": lambda t, a, b: t.cat([a, b]),
    "stack": lambda t, a, b: t.stack([a, b]),
    "alpha": lambda t, a, b: t.add(a, b, alpha=2),
    "logical_or": lambda t, a, b: t.logical_or(a, b),
}
IN_PLACE: dict[str, Callable[[Any, Any], Any]] = {
    "add_": lambda a, b: a.add_(b),
    "mul_": lambda a, b: a.mul_(b),
    "div_": lambda a, b: a.div_(b),
    "copy_": lambda a, b: a.copy_(b),
    "pow_": lambda a, b: a.pow_(b),
    "setitem": lambda a, b: a.__setitem__(slice(None), b) or a,
}


@pytest.mark.parametrize("a", TYPES)
def test_promote_types_and_can_cast(a: str) -> None:
    for b in TYPES:
        theirs = torch.promote_types(getattr(torch, a), getattr(torch, b))
        assert repr(disttorch.promote_types(getattr(disttorch, a), getattr(disttorch, b))) == repr(theirs)
        may = torch.can_cast(getattr(torch, a), getattr(torch, b))
        assert disttorch.can_cast(getattr(disttorch, a), getattr(disttorch, b)) == may, f"{a} to {b}"


@pytest.mark.parametrize("first", [*KINDS, *NUMBERS])
def test_result_type(first: str) -> None:
    for second in (*KINDS, *NUMBERS):
        theirs = torch.result_type(operand(torch, first), operand(torch, second))
        if theirs == torch.complex32:  # not in disttorch
            continue
        ours = disttorch.result_type(operand(disttorch, first), operand(disttorch, second))
        assert repr(ours) == repr(theirs), f"{first} with {second}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_types_of_results(name: str) -> None:
    operation = OPERATIONS[name]
    wrong = []
    for first, second in itertools.product([*KINDS, *NUMBERS], repeat=2):
        if first in NUMBERS and second in NUMBERS:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                theirs = operation(torch, operand(torch, first), operand(torch, second))
            except REFUSED:
                continue
            try:
                ours = operation(disttorch, operand(disttorch, first), operand(disttorch, second))
            except Exception as error:
                wrong.append(f"{first}, {second}: {type(error).__name__}: {error}")
                continue
        if theirs.dtype == torch.complex32:  # not in disttorch
            continue
        if repr(ours.dtype) != repr(theirs.dtype) or not close(ours.tolist(), theirs.tolist()):
            wrong.append(f"{first}, {second}: {ours} instead of {theirs}")
    assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_results(name: str) -> None:
    """The same results, and the same refusals."""
    change = IN_PLACE[name]
    wrong = []
    for first, second in itertools.product([k for k in KINDS if "[2]" in k], [*KINDS, *NUMBERS]):
        outcomes = []
        for t in (torch, disttorch):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    result = change(operand(t, first), operand(t, second))
                    outcomes.append(f"{result.dtype} {result.tolist()}")
                except REFUSED as error:
                    outcomes.append("not implemented" if "not implemented for" in str(error) else str(error))
        if "ComplexHalf" in outcomes[0] or "to type double" in outcomes[0]:  # no complex32; "Half" is named otherwise
            assert "can" in outcomes[1]
            continue
        if outcomes[0] != "not implemented" and outcomes[0] != outcomes[1]:
            wrong.append(f"{first}, {second}: {outcomes[1]} instead of {outcomes[0]}")
    assert not wrong, f"{len(wrong)} differ:\n" + "\n".join(wrong[:20])
