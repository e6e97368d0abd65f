"""Packing arrays into one piece of memory and back."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from disttorch.distributed.coalesced import Pack, packed_size

FEW = [np.arange(3, dtype=np.uint8), np.arange(6.0).reshape(2, 3).T, np.array(7), np.zeros((0, 3)), np.array([True])]
MANY = [
    np.full(shape, number, dtype)
    for number, shape in enumerate([(), (1,), (3,), (5, 7), (0,), (70, 70)])
    for dtype in (np.uint8, ml_dtypes.bfloat16, np.complex128)
]


@pytest.mark.parametrize("arrays", [FEW, MANY, [*MANY, FEW[1]]], ids=["few", "many by machine code", "many"])
def test_what_is_packed_comes_back(arrays: list[np.ndarray]) -> None:
    memory = np.full(packed_size(arrays), 255, np.uint8)
    here, there = [a.copy() for a in arrays], [np.zeros_like(a) for a in arrays]
    sender, receiver = Pack(here, memory), Pack(there, memory)
    for _ in range(2):
        sender.pack()
        receiver.unpack()
        for one, other in zip(here, there, strict=True):
            np.testing.assert_array_equal(one, other)
        for one in here:
            one[...] += one.dtype.type(1)
    assert sender.holds(here)
    assert not sender.holds(there)


@pytest.mark.parametrize("number", [3, 30])
def test_memory_that_is_not_to_be_written_is_not_written(number: int) -> None:
    arrays: list[Any] = [np.zeros(4) for _ in range(number)]
    arrays[1].flags.writeable = False
    pack = Pack(arrays, np.zeros(packed_size(arrays), np.uint8))
    pack.pack()
    with pytest.raises(ValueError, match="read-only"):
        pack.unpack()
