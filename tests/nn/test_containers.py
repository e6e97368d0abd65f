"""Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

import disttorch as torch
from disttorch import nn


class Add(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Any) -> Any:
        return x + self.value


def values(modules: Any) -> list[float]:
    return [module.value for module in modules]


def test_sequential_chains_its_modules() -> None:
    assert nn.Sequential(Add(1), Add(10))(0) == 11
    named = nn.Sequential(OrderedDict(first=Add(1), second=Add(2)))
    assert named(0) == 3
    assert named.second.value == 2
    assert nn.Sequential()(5) == 5


def test_sequential_is_a_list() -> None:
    net = nn.Sequential(Add(0), Add(1), Add(2), Add(3))
    assert len(net) == 4
    assert net[-1].value == 3
    assert values(net[1:3]) == [1, 2]
    assert list(net[1:3]._modules) == ["1", "2"]
    assert values(net + nn.Sequential(Add(9))) == [0, 1, 2, 3, 9]
    assert values(net[:2] * 2) == [0, 1, 0, 1]
    assert values(2 * net[:1]) == [0, 0]
    net[0] = Add(7)
    del net[1]
    assert values(net) == [7, 2, 3]
    assert list(net._modules) == ["0", "1", "2"]
    assert net.pop(0).value == 7
    assert net.append(Add(4)) is net
    net.insert(0, Add(-1)).insert(-1, Add(5))
    assert values(net) == [-1, 2, 3, 5, 4]
    net.extend([Add(6)])
    net += nn.Sequential(Add(8))
    net *= 2
    assert values(net) == [-1, 2, 3, 5, 4, 6, 8] * 2
    del net[1:]
    assert values(net) == [-1]


def test_sequential_refuses_what_is_no_module() -> None:
    with pytest.raises(TypeError, match="int is not a Module subclass"):
        nn.Sequential(3)
    with pytest.raises(IndexError, match="index 2 is out of range"):
        nn.Sequential(Add(1))[2]
    with pytest.raises(IndexError, match="Index out of range: 5"):
        nn.Sequential().insert(5, Add(1))
    with pytest.raises(ValueError, match="Non-positive multiplication factor 0"):
        nn.Sequential() * 0
    with pytest.raises(TypeError, match="unsupported operand"):
        nn.Sequential() * 1.5  # type: ignore[operator]


def test_module_list() -> None:
    layers = nn.ModuleList(Add(i) for i in range(3))
    assert values(layers) == [0, 1, 2]
    assert isinstance(layers[:2], nn.ModuleList)
    more = nn.ModuleList([Add(9)])
    assert values(layers + more) == [0, 1, 2, 9]
    layers.insert(1, Add(5))
    layers += [Add(6)]
    layers[0] = Add(-1)
    del layers[2:4]
    assert values(layers) == [-1, 5, 6]
    assert layers.pop(-1).value == 6
    assert [name for name, _ in layers.named_children()] == ["0", "1"]
    with pytest.raises(NotImplementedError, match='missing the required "forward"'):
        layers(1)


def test_module_dict() -> None:
    modules = nn.ModuleDict({"a": Add(1)})
    modules["b"] = Add(2)
    modules.update([("c", Add(3))])
    modules.update(nn.ModuleDict({"a": Add(4)}))
    assert list(modules) == list(modules.keys()) == ["a", "b", "c"]
    assert values(modules.values()) == [4, 2, 3]
    assert "b" in modules
    assert modules.pop("b").value == 2
    assert [(k, m.value) for k, m in modules.items()] == [("a", 4), ("c", 3)]
    del modules["a"]
    modules.clear()
    assert len(modules) == 0
    with pytest.raises(ValueError, match="element #0 has length 3; 2 is required"):
        nn.ModuleDict([(1, 2, 3)])
    with pytest.raises(TypeError, match="element #0 should be Iterable; is int"):
        nn.ModuleDict([1])


def test_parameter_list() -> None:
    listed = nn.ParameterList([torch.zeros(1), nn.Parameter(torch.ones(1)), "text"])
    assert all(isinstance(p, nn.Parameter) for p in listed[:2])
    assert [name for name, _ in listed.named_parameters()] == ["0", "1"]
    listed.append(torch.ones(2)).extend([torch.ones(3)])
    listed += [4]
    listed[0] = torch.full((1,), 5.0)
    assert listed[0].item() == 5.0
    assert isinstance(listed[0], nn.Parameter)
    assert len(listed) == 6
    assert listed[-1] == 4
    assert isinstance(listed[1:3], nn.ParameterList)
    assert listed[1] is list(listed)[1]
    with pytest.raises(IndexError, match="index 6 is out of range"):
        listed[6]
    with pytest.raises(TypeError, match="should be called with an iterable, but got Tensor"):
        nn.ParameterList(torch.ones(2))


def test_parameter_dict() -> None:
    named = nn.ParameterDict({"b": torch.zeros(1), "a": torch.ones(1)})
    assert list(named) == ["a", "b"], "a plain dict is added in the order of its keys"
    named["c"] = 3
    assert [name for name, _ in named.named_parameters()] == ["a", "b"]
    assert named.get("x", 7) == 7
    assert named.setdefault("d", "text") == "text"
    assert named.popitem() == ("d", "text")
    assert named.pop("c") == 3
    assert isinstance(named["a"], nn.Parameter)
    assert list(reversed(named)) == ["b", "a"]
    both = named | nn.ParameterDict({"z": 1})
    assert list(both) == ["a", "b", "z"]
    assert list(named.fromkeys(["k"], 2).items()) == [("k", 2)]
    named |= nn.ParameterDict({"y": 1})
    copied = named.copy()
    named.clear()
    assert len(named) == 0
    assert list(copied.values())[-1] == 1
    with pytest.raises(TypeError, match="is not a string"):
        named[3] = 1  # type: ignore[index]
    with pytest.raises(KeyError, match="the ParameterDict is empty"):
        named.popitem()
    with pytest.raises(RuntimeError, match="should not be called"):
        named(1)
