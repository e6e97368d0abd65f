"""Combining values into positions that occur more than once, against NumPy's own `ufunc.at`."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import disttorch as torch
from disttorch.backends.numpy import reduce_at

COMBINE = {"sum": np.add, "prod": np.multiply, "amin": np.minimum, "amax": np.maximum}
ALL = slice(None)
FIRST, SECOND = np.array([[1, 0], [1, -1]]), np.array([2, 2])
INDICES: list[Any] = [
    (FIRST,), (ALL, SECOND), (ALL, ALL, SECOND), (FIRST, SECOND), (ALL, FIRST, SECOND), (FIRST, ALL, SECOND),
    (FIRST, SECOND, np.array([0, 1])), (np.array([True, False]), SECOND[:1]), (ALL, np.array([True, False, True])),
    (np.ones((2, 3), bool),), (np.array([0, 1]), np.array([True, True, False])),
    (np.zeros(0, np.int64),), (np.array(1), FIRST),
]  # fmt: skip


@pytest.mark.parametrize("reduce", COMBINE)
@pytest.mark.parametrize("number", range(len(INDICES)))
def test_as_ufunc_at(reduce: str, number: int) -> None:
    index = INDICES[number]
    generator = np.random.default_rng(number)
    target = generator.integers(-4, 5, (2, 3, 4)).astype(np.float32)
    values = generator.integers(-4, 5, target[index].shape).astype(np.float32)
    for given in (values, values[..., :1], np.float32(3)):
        found, expected = target.copy(), target.copy()
        reduce_at(found, index, np.asarray(given), reduce)
        COMBINE[reduce].at(expected, index, given)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("rest", [(), (ALL,)], ids=str)
def test_many_rows(dtype: Any, rest: tuple[Any, ...]) -> None:
    generator = np.random.default_rng(0)
    rows = generator.integers(-7, 7, (9, 10))
    target, values = (generator.integers(-4, 5, shape).astype(dtype) for shape in ((7, 40), (40, 9, 10)))
    found, expected = target.copy(), target.copy()
    reduce_at(found, (rows, *rest), values.transpose(1, 2, 0))
    np.add.at(expected, rows, values.transpose(1, 2, 0))
    np.testing.assert_array_equal(found, expected)


def test_a_row_out_of_range_is_an_error_before_memory_is_touched() -> None:
    target = np.zeros((7, 300), np.float32)
    for row in (7, -8):
        with pytest.raises(IndexError, match="out of range for dimension 0 of size 7"):
            reduce_at(target, (np.full(10, row),), np.ones((10, 300), np.float32))
    assert not target.any()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int8, bool, np.complex64])
def test_types(dtype: Any) -> None:
    target = np.zeros(3, dtype)
    reduce_at(target, (np.array([0, 2, 0]),), np.ones(3, dtype))
    assert target.tolist() == np.array([2, 0, 1]).astype(dtype).tolist()


def test_sixteen_bits_add_up_in_thirty_two() -> None:
    target = np.zeros(1, np.float16)
    reduce_at(target, (np.zeros(4096, np.int64),), np.ones(4096, np.float16))
    assert target.tolist() == [4096.0]


@pytest.mark.parametrize(
    "read",
    [
        lambda x, i: x[i], lambda x, i: x.gather(0, i), lambda x, i: x.index_select(0, i), lambda x, i: x.take(i),
        lambda x, i: torch.zeros(3).index_put((i,), x), lambda x, i: torch.zeros(3).scatter_add(0, i, x),
        lambda x, i: torch.zeros(3).index_add(0, i, x), lambda x, i: torch.zeros(3).scatter_reduce(0, i, x, "amax"),
    ],
)  # fmt: skip
def test_an_index_may_be_changed_once_it_was_used(read: Any) -> None:
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    index = torch.tensor([2, 0, 1])
    y = read(x, index)
    (expected,) = torch.autograd.grad(y, x, torch.tensor([5.0, 6.0, 7.0]), retain_graph=True)
    index.fill_(0)
    (found,) = torch.autograd.grad(y, x, torch.tensor([5.0, 6.0, 7.0]))
    assert found.tolist() == expected.tolist()
