"""Reading and writing by index, against NumPy, and the errors of wrong indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import disttorch as torch


def counted(*shape: int) -> Any:
    return torch.arange(math.prod(shape)).reshape(shape)


INDICES: list[Any] = [
    0, -1, slice(1, 3), slice(None, None, 2), (0, 1), (Ellipsis, 1), (slice(None), None, 0), None, (None, Ellipsis, None),
    [0, 2], ([0, 1], [1, 2]), (slice(1, None), [0, 0, 3]), ([2, 0], slice(1, 3)), (0, [1, 2]), ([1, 2], 0),
    True, False, np.array([1, 0]), np.array([True, False, True]), (np.array([[0], [1]]), np.array([1, 2])),
    (slice(None), np.array([True, False, True, True])), np.int64(1), (), Ellipsis, range(2), slice(5, 9), slice(-2, None),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_indexing_reads_what_numpy_reads(index: Any) -> None:
    x = counted(3, 4)
    expected = x.numpy()[list(index) if isinstance(index, range) else index]
    np.testing.assert_array_equal(x[index].numpy(), expected)


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_indexing_writes_where_numpy_writes(index: Any) -> None:
    x = counted(3, 4)
    expected = x.numpy().copy()
    expected[list(index) if isinstance(index, range) else index] = -5
    x[index] = -5
    np.testing.assert_array_equal(x.numpy(), expected)


def test_a_list_with_lists_or_slices_stands_for_a_tuple() -> None:
    x = counted(3, 4)
    assert x[[[0, 2], [1, 3]]].tolist() == [1, 11]
    assert x[[slice(1), 1]].tolist() == [1]
    assert x[[[0, 2]]].shape == (2, 4)
    x[[[0, 2], [1, 3]]] = -1
    assert x.tolist()[0] == [0, -1, 2, 3]


def test_tensors_as_indices() -> None:
    x = counted(3, 4)
    assert x[torch.tensor(1)].tolist() == [4, 5, 6, 7]
    assert x[torch.tensor([2, 0]), torch.tensor([1, 3])].tolist() == [9, 3]
    assert x[x > 9].tolist() == [10, 11]
    assert x[torch.tensor([True, False, True]), 0].tolist() == [0, 8]
    assert x[torch.tensor(True)].shape == (1, 3, 4)
    assert x[torch.tensor([1, 0, 1], dtype=torch.uint8)].shape == (2, 4)
    assert x[torch.tensor([0], dtype=torch.int32)].shape == (1, 4)
    assert x[torch.tensor(1) :].shape == (2, 4)


def test_separated_index_tensors_go_to_the_front() -> None:
    x = counted(2, 3, 4)
    i, j = torch.tensor([0, 1, 1]), torch.tensor([3, 2, 0])
    assert x[i, :, j].shape == (3, 3)
    assert x[:, i, j].shape == (2, 3)
    # an int is applied first, unlike in NumPy
    assert x[0, :, j].shape == (3, 3)
    np.testing.assert_array_equal(x[0, :, j].numpy(), x.numpy()[0][:, j.numpy()])


def test_writing_by_index() -> None:
    x = torch.zeros(3, 2)
    x[1] = torch.tensor([1.0, 2.0])
    x[:, 0] += 1
    x[[0, 2], 1] = 5.0
    assert x.tolist() == [[1.0, 5.0], [2.0, 2.0], [1.0, 5.0]]
    x[x > 4] = 0
    x[0] = torch.tensor([[7.0, 8.0]])
    x[2] = 3
    assert x.tolist() == [[7.0, 8.0], [2.0, 2.0], [3.0, 3.0]]
    x[...] = torch.tensor(1, dtype=torch.int64)
    assert x.tolist() == [[1.0, 1.0]] * 3
    y = torch.zeros(3, dtype=torch.int64)
    y[1] = 2.9
    assert y.tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (3, IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
        ((0, -5), IndexError, "index -5 is out of bounds for dimension 1 with size 4"),
        ((0, 0, 0), IndexError, "too many indices for tensor of dimension 2"),
        ((Ellipsis, Ellipsis), IndexError, "an index can only have a single ellipsis"),
        ([0, 5], IndexError, "index 5 is out of bounds for dimension 0 with size 3"),
        (slice(None, None, -1), ValueError, "step must be greater than zero"),
        (slice(None, None, 0), ValueError, "step"),
        (1.5, (IndexError, TypeError), "only integers, slices .* are valid indices"),
        ("a", (IndexError, TypeError), "only integers, slices .* are valid indices"),
        (torch.tensor([0.5]), IndexError, "tensors used as indices must be long, int, byte or bool tensors"),
        (
            torch.tensor([True, False]),
            IndexError,
            r"The shape of the mask \[2\] at index 0 does not match .* \[3, 4\] at index 0",
        ),
    ],
    ids=str,
)
def test_wrong_indices(index: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        counted(3, 4)[index]
    with pytest.raises(error, match=message):
        counted(3, 4)[index] = 0


def test_a_number_has_no_index() -> None:
    with pytest.raises(IndexError, match=r"invalid index of a 0-dim tensor. Use `tensor.item\(\)` in Python"):
        torch.tensor(1)[0]
    assert torch.tensor(1)[...].item() == 1
    assert torch.tensor(1)[None].shape == (1,)


def test_writes_of_wrong_shapes() -> None:
    x = torch.zeros(3, 4)
    with pytest.raises(RuntimeError, match=r"shape mismatch|must match"):
        x[[0, 1]] = torch.zeros(3, 4)
    with pytest.raises(RuntimeError, match="expand"):
        x[0] = torch.zeros(3)
    with pytest.raises(
        RuntimeError,
        match="Index put requires the source and destination dtypes match, got Float for the destination and Double",
    ):
        x[[0, 1]] = torch.zeros(4, dtype=torch.float64)
