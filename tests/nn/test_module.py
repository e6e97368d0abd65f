"""Registration, look-up, iteration and conversion of modules."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch import nn


class Scale(nn.Module):
    """A module with a parameter, a buffer and a child."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([2.0, 3.0]))
        self.register_buffer("offset", torch.tensor([1.0, 1.0]))
        self.register_buffer("count", torch.tensor(0))
        self.inner = nn.Linear(2, 1)
        self.name = "scale"

    def forward(self, x: Any, twice: bool = False) -> Any:
        return x * self.factor * (2 if twice else 1) + self.offset


def test_calling_calls_forward_with_all_arguments() -> None:
    x = torch.tensor([1.0, 10.0])
    assert Scale()(x).tolist() == [3.0, 31.0]
    assert Scale()(x, twice=True).tolist() == [5.0, 61.0]


def test_attributes_go_to_their_registries() -> None:
    module = Scale()
    assert list(module._parameters) == ["factor"]
    assert list(module._buffers) == ["offset", "count"]
    assert list(module._modules) == ["inner"]
    assert "factor" not in module.__dict__
    assert module.name == "scale"


def test_an_attribute_may_change_its_kind() -> None:
    module = nn.Module()
    module.x = torch.ones(1)
    assert "x" in module.__dict__
    module.x = nn.Parameter(torch.ones(1))
    assert "x" not in module.__dict__
    assert list(module._parameters) == ["x"]
    module.x = None
    assert module.x is None
    assert list(module._parameters) == ["x"]
    del module.x
    module.x = nn.ReLU()
    module.x = nn.Parameter(torch.ones(1))
    assert not module._modules
    del module.x
    assert not hasattr(module, "x")


def test_buffers_by_assignment() -> None:
    module = nn.Module()
    module.kept = nn.Buffer(torch.ones(1))
    module.passing = nn.Buffer(torch.ones(1), persistent=False)
    module.kept = torch.zeros(2)
    module.passing = torch.zeros(2)
    assert list(module._buffers) == ["kept", "passing"]
    assert list(module.state_dict()) == ["kept"]
    module.passing = None
    assert module.passing is None


def test_a_non_leaf_parameter_is_refused() -> None:
    derived = nn.Parameter(torch.ones(1))
    derived._edge = (torch.ones(1, requires_grad=True) * 2)._edge
    with pytest.raises(ValueError, match="Cannot assign non-leaf Tensor to parameter 'x'"):
        nn.Module().register_parameter("x", derived)


def test_look_up_by_path() -> None:
    net = nn.Sequential(nn.Sequential(Scale()))
    assert net.get_submodule("") is net
    assert net.get_submodule("0.0.inner") is net[0][0].inner
    assert net.get_parameter("0.0.inner.weight") is net[0][0].inner.weight
    assert net.get_buffer("0.0.offset") is net[0][0].offset
    net.set_submodule("0.0", nn.ReLU())
    assert isinstance(net[0][0], nn.ReLU)
    with pytest.raises(AttributeError, match="Sequential has no attribute `1`"):
        net.set_submodule("0.1", nn.ReLU(), strict=True)


def test_shared_members_are_listed_once() -> None:
    layer = nn.Linear(2, 1)
    net = nn.Sequential(layer, nn.Sequential(layer))
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert len(list(net.parameters())) == 2
    names = [name for name, _ in net.named_parameters(remove_duplicate=False)]
    assert names == ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]
    assert [name for name, _ in net.named_modules()] == ["", "0", "1"]
    assert len(list(net.children())) == 2


def test_apply_goes_from_the_leaves_up() -> None:
    seen: list[str] = []
    net = nn.Sequential(Scale(), nn.ReLU())
    assert net.apply(lambda module: seen.append(type(module).__name__)) is net
    assert seen == ["Linear", "Scale", "ReLU", "Sequential"]


def test_modes() -> None:
    net = nn.Sequential(nn.Dropout(1.0), Scale())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    assert net(torch.ones(2)).tolist() == [3.0, 4.0]
    net.train()
    assert net(torch.ones(2)).tolist() == [1.0, 1.0]
    net.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_zero_grad() -> None:
    module = Scale()
    module(torch.ones(2)).sum().backward()
    grad = module.factor.grad
    module.zero_grad(set_to_none=False)
    assert module.factor.grad is grad
    assert grad.tolist() == [0.0, 0.0]
    module.zero_grad()
    assert module.factor.grad is None


def test_conversion_keeps_parameters_and_their_gradients() -> None:
    module = Scale()
    module(torch.ones(2)).sum().backward()
    parameter = module.factor
    assert module.to(torch.float64) is module
    assert module.factor is parameter
    assert parameter.dtype is torch.float64
    assert parameter.grad.dtype is torch.float64
    assert module.offset.dtype is torch.float64
    assert module.count.dtype is torch.int64
    module(torch.ones(2, dtype=torch.float64)).sum().backward()
    assert parameter.grad.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("half", torch.float16), ("bfloat16", torch.bfloat16), ("double", torch.float64)],
)
def test_casts(name: str, dtype: Any) -> None:
    module = getattr(Scale(), name)()
    assert {p.dtype for p in module.parameters()} == {dtype}
    assert module.count.dtype is torch.int64
    assert module.float().factor.dtype is torch.float32
    assert module.type(torch.float64).count.dtype is torch.float64


@pytest.mark.parametrize(
    "arguments",
    [("cpu", torch.float64), (torch.float64,), (torch.zeros(1, dtype=torch.float64),),
     (None, torch.float64, True)],
    ids=range(4),
)  # fmt: skip
def test_the_forms_of_to(arguments: tuple[Any, ...]) -> None:
    module = Scale().to(*arguments)
    assert module.factor.dtype is torch.float64
    assert module.to(device="cpu").cpu().factor.device == torch.device("cpu")


def test_to_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="only accepts floating point or complex dtypes"):
        Scale().to(torch.int32)
    with pytest.raises(TypeError, match="invalid combination of arguments"):
        Scale().to("cpu", torch.float32, False, 3)


def test_to_empty_keeps_shapes() -> None:
    module = Scale().to_empty(device="cpu")
    assert module.factor.shape == (2,)
    assert module.factor.requires_grad


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_of_modules(copier: Any) -> None:
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, layer, nn.LSTM(2, 3), nn.ReLU())
    other = copier(net)
    assert repr(other) == repr(net)
    assert other[0] is other[1]
    for ours, theirs in zip(other.parameters(), net.parameters(), strict=True):
        assert ours is not theirs
        assert type(ours) is nn.Parameter
        assert np.array_equal(ours.detach().numpy(), theirs.detach().numpy())
    assert other[2](torch.ones(1, 2))[0].shape == (1, 3)


def test_super_init_is_needed() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            self.size = 3

    with pytest.raises(AttributeError, match="'Forgetful' object has no attribute"):
        Forgetful()(1)

    class Hasty(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.ReLU()

    with pytest.raises(AttributeError, match="cannot assign module before Module"):
        Hasty()


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r'Module \[Module\] is missing the required "fo'):
        nn.Module()(1)


def test_cooperative_init() -> None:
    class Mixin:
        def __init__(self, size: int) -> None:
            self.size = size

    class Both(nn.Module, Mixin):
        call_super_init = True

    assert Both(3).size == 3
    with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
        nn.Module(size=3)


def test_dir_lists_members() -> None:
    names = dir(nn.Sequential(nn.ReLU()))
    assert "forward" in names
    assert "0" not in names
    assert {"factor", "offset", "inner"} <= set(dir(Scale()))
