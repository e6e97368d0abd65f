"""Element types: names, sizes, kinds, limits, pickling."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import disttorch as torch
from disttorch.core import dtypes

SIZES = {
    "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "float16": 2, "bfloat16": 2, "float32": 4,
    "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_name_size_and_kind(name: str) -> None:
    d = getattr(torch, name)
    assert repr(d) == f"torch.{name}"
    assert d.itemsize == SIZES[name] == d.numpy.itemsize
    assert d.is_floating_point == ("float" in name)
    assert d.is_complex == name.startswith("complex")
    assert d.is_signed == (name not in ("bool", "uint8"))
    assert dtypes.from_numpy_dtype(d.numpy) is d
    assert isinstance(d, torch.dtype)


@pytest.mark.parametrize("name", SIZES)
def test_copies_are_the_same_object(name: str) -> None:
    d = getattr(torch, name)
    assert pickle.loads(pickle.dumps(d)) is d
    assert copy.deepcopy(d) is d


def test_other_names() -> None:
    pairs = {
        "float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32", "short": "int16",
        "cfloat": "complex64", "cdouble": "complex128",
    }  # fmt: skip
    for name, same in pairs.items():
        assert getattr(torch, name) is getattr(torch, same)


def test_real_and_complex_counterparts() -> None:
    assert torch.complex64.to_real() is torch.float32
    assert torch.complex128.to_real() is torch.float64
    assert torch.float32.to_complex() is torch.complex64
    assert torch.float64.to_complex() is torch.complex128
    assert torch.int64.to_real() is torch.int64


@pytest.mark.parametrize("kind", ["uint32", "U3", "O", "datetime64[s]"])
def test_other_numpy_types_are_refused(kind: str) -> None:
    with pytest.raises(TypeError, match=r"can't convert np.ndarray of type .* The only supported types are"):
        dtypes.from_numpy_dtype(np.dtype(kind))


def test_default_dtype() -> None:
    assert torch.get_default_dtype() is torch.float32
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.tensor(1.5).dtype is torch.float64
        assert torch.tensor(1j).dtype is torch.complex128
        assert torch.ones(2).dtype is torch.float64
        assert (torch.arange(3) / 2).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with pytest.raises(TypeError, match="only floating-point types are supported as the default type"):
        torch.set_default_dtype(torch.int64)


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_finfo(name: str) -> None:
    found, expected = torch.finfo(getattr(torch, name)), np.finfo(name)
    assert found.bits == expected.bits
    assert (found.eps, found.max, found.min) == (float(expected.eps), float(expected.max), float(expected.min))
    assert found.tiny == found.smallest_normal == float(expected.tiny)
    assert found.dtype == name


def test_finfo_of_bfloat16_and_of_complex_types() -> None:
    found = torch.finfo(torch.bfloat16)
    assert (found.bits, found.eps, found.tiny) == (16, 2.0**-7, 2.0**-126)
    assert torch.finfo(torch.complex64).eps == torch.finfo().eps == 2.0**-23
    with pytest.raises(TypeError, match=r"requires a floating point input type\. Use torch.iinfo"):
        torch.finfo(torch.int64)


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "int32", "int64"])
def test_iinfo(name: str) -> None:
    found, expected = torch.iinfo(getattr(torch, name)), np.iinfo(name)
    assert (found.bits, found.min, found.max, found.dtype) == (expected.bits, expected.min, expected.max, name)


def test_iinfo_of_a_floating_type() -> None:
    with pytest.raises(TypeError, match="requires an integer input type"):
        torch.iinfo(torch.float32)
