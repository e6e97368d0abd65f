"""Type promotion: its laws, and the types that operators really give."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import disttorch as torch
from disttorch.core.dtypes import ALL, dtype
from disttorch.core.promotion import can_cast, promote_types, result_dtype

KINDS = ("bool", "integer", "floating", "complex")


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations_with_replacement(ALL, 2)))
def test_two_types(a: dtype, b: dtype) -> None:
    found = promote_types(a, b)
    assert found is promote_types(b, a)
    assert KINDS.index(found.kind) == max(KINDS.index(a.kind), KINDS.index(b.kind))
    assert promote_types(found, a) is found
    if a is b:
        assert found is a


def test_associative() -> None:
    """But for the pair of 16-bit floating types, of which neither holds the other."""
    for a, b, c in itertools.product(ALL, repeat=3):
        if {torch.float16, torch.bfloat16} <= {a, b, c} or torch.uint8 in (a, b, c):
            continue
        assert promote_types(promote_types(a, b), c) is promote_types(a, promote_types(b, c))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("uint8", "int8", "int16"), ("uint8", "int16", "int16"), ("int32", "float16", "float16"), ("int64", "float32", "float32"),
        ("float16", "bfloat16", "float32"), ("float64", "complex64", "complex128"), ("float32", "complex64", "complex64"),
        ("bool", "uint8", "uint8"), ("int64", "complex64", "complex64"), ("bfloat16", "complex64", "complex64"),
    ],
)  # fmt: skip
def test_notable_pairs(a: str, b: str, expected: str) -> None:
    assert promote_types(getattr(torch, a), getattr(torch, b)).name == expected


def of(name: str, *shape: int) -> np.ndarray:
    return np.zeros(shape, getattr(torch, name).numpy)


@pytest.mark.parametrize(
    ("operands", "expected"),
    [
        ((of("float32", 2), of("float64")), "float32"),
        ((of("int32", 2), of("int64")), "int32"),
        ((of("int32", 2), of("float64")), "float64"),
        ((of("int32", 2), of("float16")), "float16"),
        ((of("int32", 2), 1.5), "float32"),
        ((of("uint8", 2), 300), "uint8"),
        ((of("bool", 2), 1), "int64"),
        ((of("bool", 2), True), "bool"),
        ((of("float16", 2), 1j), "complex64"),
        ((of("float64", 2), 1j), "complex128"),
        ((of("float64", 2), of("complex64")), "complex128"),
        ((of("int64"), 2.5), "float32"),
        ((of("float64"), 2), "float64"),
        ((of("bfloat16", 1), of("float32")), "bfloat16"),
        ((of("int8", 0), of("int64", 1)), "int64"),
        ((1, 2.5), "float32"),
    ],
)
def test_dimensions_before_scalars_before_numbers(operands: tuple[object, ...], expected: str) -> None:
    assert result_dtype(operands).name == expected


def test_operators_compute_in_that_type() -> None:
    assert (torch.ones(2) * torch.tensor(2.0, dtype=torch.float64)).dtype is torch.float32
    assert (torch.ones(2, dtype=torch.int32) + torch.ones(2)).dtype is torch.float32
    assert (torch.ones(2, dtype=torch.int64) * 2.5).dtype is torch.float32
    assert (torch.ones(2, dtype=torch.int64) / 2).dtype is torch.float32
    assert (2 ** torch.ones(2, dtype=torch.int32)).dtype is torch.int32
    assert (torch.ones(2) < 1).dtype is torch.bool
    assert torch.where(torch.tensor([True]), torch.ones(1, dtype=torch.int32), 1.5).dtype is torch.float32


def test_what_may_be_stored_where() -> None:
    for a, b in itertools.product(ALL, repeat=2):
        assert can_cast(a, b) == (KINDS.index(a.kind) <= KINDS.index(b.kind))
