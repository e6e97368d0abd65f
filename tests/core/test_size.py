"""torch.Size."""

from __future__ import annotations

import copy
import pickle

import pytest

import disttorch as torch


def test_a_size_is_a_tuple() -> None:
    size = torch.zeros(2, 3).shape
    assert isinstance(size, torch.Size)
    assert size == (2, 3)
    assert repr(size) == "torch.Size([2, 3])"
    assert repr(torch.Size([])) == "torch.Size([])"
    assert size.numel() == 6
    assert torch.Size([]).numel() == 1
    assert hash(size) == hash((2, 3))


def test_parts_and_sums_are_sizes() -> None:
    size = torch.Size([2, 3, 4])
    assert isinstance(size[1:], torch.Size)
    assert isinstance(size + (5,), torch.Size)
    assert size[0] == 2
    assert size[-2:] == torch.Size([3, 4])
    first, *rest = size
    assert (first, rest) == (2, [3, 4])


def test_copies() -> None:
    size = torch.Size([2, 3])
    assert type(pickle.loads(pickle.dumps(size))) is torch.Size
    assert type(copy.deepcopy(size)) is torch.Size


def test_arithmetic_gives_a_size() -> None:
    size = torch.Size([2, 3])
    for found, expected in (((1,) + size, [1, 2, 3]), (size * 2, [2, 3, 2, 3]), (2 * size, [2, 3, 2, 3])):
        assert type(found) is torch.Size
        assert list(found) == expected
    with pytest.raises(TypeError, match="can only concatenate tuple"):
        size + [1]
