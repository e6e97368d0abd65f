"""Collation: what becomes a tensor, what stays as it is. Types are compared with PyTorch in tests/parity."""

from __future__ import annotations

import collections
from types import MappingProxyType

import numpy as np
import pytest

import disttorch as torch
from disttorch.utils.data import default_collate, default_convert
from disttorch.utils.data._utils.collate import collate, default_collate_fn_map

Point = collections.namedtuple("Point", "x y")


def test_numbers_and_containers():
    a, b, c = default_collate([(1, 2.0, "x"), (3, 4.0, "y")])
    assert (a.dtype, a.tolist()) == (torch.int64, [1, 3])
    assert (b.dtype, b.tolist()) == (torch.float64, [2.0, 4.0])
    assert list(c) == ["x", "y"]
    point = default_collate([Point(1, [2]), Point(3, [4])])
    assert isinstance(point, Point)
    assert (point.x.tolist(), point.y[0].tolist()) == ([1, 3], [2, 4])


def test_mappings_keep_their_type():
    ordered = default_collate([collections.OrderedDict(a=1), collections.OrderedDict(a=2)])
    assert type(ordered) is collections.OrderedDict
    frozen = default_collate([MappingProxyType({"a": 1}), MappingProxyType({"a": 2})])
    assert type(frozen) is MappingProxyType
    counting = collections.defaultdict(list, a=1)
    assert default_collate([counting, counting]).default_factory is list


def test_tensors_are_stacked():
    rows = [torch.arange(3) + 10 * i for i in range(4)]
    batch = default_collate(rows)
    np.testing.assert_array_equal(batch.numpy(), np.arange(3) + 10 * np.arange(4)[:, None])
    assert batch.is_leaf
    with pytest.raises(
        RuntimeError, match=r"stack expects each tensor to be equal size, but got \[3\] at entry 0 and \[2\]"
    ):
        default_collate([torch.ones(3), torch.ones(2)])


def test_gradients_flow_through_a_batch():
    a, b = torch.ones(2, requires_grad=True), torch.ones(2)
    default_collate([a, b]).sum().backward()
    assert a.grad.tolist() == [1.0, 1.0]


def test_views_that_require_grad_are_recorded():
    base = torch.ones(2, 2, requires_grad=True) * 1
    batch = default_collate([base[0], base[1]])
    assert batch.requires_grad


def test_arrays_of_different_types_are_promoted():
    batch = default_collate([np.zeros(2, np.int64), np.ones(2, np.float32)])
    assert batch.dtype == torch.float32
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([np.zeros(2), np.zeros(3)])


@pytest.mark.parametrize(
    "batch",
    [[np.array(["a"])], [object()], [None, None], [np.array([None])]],
    ids=["strings", "an object", "None", "an array of objects"],
)
def test_other_objects_are_refused(batch):
    with pytest.raises(
        TypeError, match="default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists"
    ):
        default_collate(batch)


def test_sequences_of_unequal_length_are_refused():
    with pytest.raises(RuntimeError, match="each element in list of batch should be of equal size"):
        default_collate([[1, 2], [3]])


def test_the_table_can_be_extended():
    class Text(str):
        __slots__ = ()

    table = {Text: lambda batch, *, collate_fn_map: "+".join(batch), **default_collate_fn_map}
    assert collate([{"t": Text("a")}, {"t": Text("b")}], collate_fn_map=table) == {"t": "a+b"}


def test_conversion():
    converted = default_convert({"a": np.arange(2), "b": (np.float32(1), "x"), "c": Point(np.ones(1), 2)})
    assert converted["a"].tolist() == [0, 1]
    assert converted["b"][0].dtype == torch.float32
    assert converted["b"][1] == "x"
    assert isinstance(converted["c"], Point)
    assert converted["c"].y == 2
    tensor = torch.ones(2)
    assert default_convert(tensor) is tensor
