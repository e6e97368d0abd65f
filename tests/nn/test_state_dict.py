"""`state_dict` and `load_state_dict`."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch import nn


def make() -> Any:
    return nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()))


def assert_equal_states(first: Any, second: Any) -> None:
    assert list(first) == list(second)
    for name, tensor in first.items():
        assert np.array_equal(tensor.numpy(), second[name].numpy()), name


def test_keys_versions_and_sharing() -> None:
    net = make()
    state = net.state_dict()
    assert type(state) is OrderedDict
    assert list(state) == ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]
    assert dict(state._metadata) == {name: {"version": 1} for name in ("", "0", "1", "1.0", "1.1")}
    assert type(state["0.weight"]) is torch.Tensor
    assert not state["0.weight"].requires_grad
    assert np.shares_memory(state["0.weight"].numpy(), net[0].weight.detach().numpy())
    assert net.state_dict(keep_vars=True)["0.weight"] is net[0].weight
    assert next(iter(net.state_dict(prefix="net."))) == "net.0.weight"


def test_round_trip() -> None:
    first, second = make(), make()
    result = second.load_state_dict(first.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    assert_equal_states(first.state_dict(), second.state_dict())
    second[0].weight.data.fill_(0)
    assert first[0].weight.abs().sum() > 0


def test_positional_arguments_are_deprecated() -> None:
    with pytest.warns(FutureWarning, match="use kwargs instead"):
        state = make().state_dict(OrderedDict(), "net.")
    assert next(iter(state)) == "net.0.weight"


def test_non_persistent_buffers_stay_out() -> None:
    net = nn.Module()
    net.register_buffer("kept", torch.ones(1))
    net.register_buffer("passing", torch.ones(1), persistent=False)
    assert list(net.state_dict()) == ["kept"]
    assert not net.load_state_dict({"kept": torch.zeros(1)}).missing_keys
    assert net.kept.tolist() == [0.0]


def test_wrong_keys_and_shapes_are_reported_together() -> None:
    state = make().state_dict()
    del state["1.0.bias"]
    state["extra"] = torch.zeros(1)
    state["0.weight"] = torch.zeros(4, 2)
    with pytest.raises(RuntimeError) as caught:
        make().load_state_dict(state)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Sequential:\n"
        '\tMissing key(s) in state_dict: "1.0.bias". \n'
        '\tUnexpected key(s) in state_dict: "extra". \n'
        "\tsize mismatch for 0.weight: copying a param with shape torch.Size([4, 2]) from "
        "checkpoint, the shape in current model is torch.Size([3, 2])."
    )


def test_not_strict_returns_the_wrong_keys() -> None:
    state = make().state_dict()
    del state["1.0.bias"]
    state["extra.deep"] = torch.zeros(1)
    result = make().load_state_dict(state, strict=False)
    assert result.missing_keys == ["1.0.bias"]
    assert result.unexpected_keys == ["extra.deep"]
    missing, unexpected = result
    assert (missing, unexpected) == (["1.0.bias"], ["extra.deep"])


def test_values_are_cast_and_scalars_of_old_files_accepted() -> None:
    net = nn.Module()
    net.scale = nn.Parameter(torch.tensor(1.0))
    net.load_state_dict({"scale": torch.tensor([2.0], dtype=torch.float64)})
    assert net.scale.item() == 2.0
    assert net.scale.dtype is torch.float32


def test_loading_is_seen_by_the_version_and_keeps_the_leaf() -> None:
    layer = nn.Linear(2, 1)
    weight = layer.weight
    before = weight._version
    layer.load_state_dict(nn.Linear(2, 1).state_dict())
    assert layer.weight is weight
    assert weight._version > before
    assert weight.is_leaf
    assert weight.requires_grad


def test_assign_takes_the_tensors_themselves() -> None:
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    state = nn.Linear(2, 1, dtype=torch.float64).state_dict()
    layer.load_state_dict(state, assign=True)
    assert layer.weight.dtype is torch.float64
    assert type(layer.weight) is nn.Parameter
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad
    assert np.shares_memory(layer.weight.detach().numpy(), state["weight"].numpy())


def test_what_is_no_tensor_is_named() -> None:
    with pytest.raises(RuntimeError, match=r'named "weight", expected torch\.Tensor'):
        nn.Linear(1, 1).load_state_dict({"weight": 3, "bias": torch.zeros(1)})
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like, got <class 'int'>"):
        nn.Linear(1, 1).load_state_dict(3)  # type: ignore[arg-type]


def test_extra_state() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = 0

        def get_extra_state(self) -> Any:
            return self.steps

        def set_extra_state(self, state: Any) -> None:
            self.steps = state

    first, second = nn.Sequential(Counting()), nn.Sequential(Counting())
    first[0].steps = 7
    state = first.state_dict()
    assert dict(state) == {"0._extra_state": 7}
    second.load_state_dict(state)
    assert second[0].steps == 7
    assert second.load_state_dict({}, strict=False).missing_keys == ["0._extra_state"]
    plain = nn.Sequential(nn.ReLU())
    assert plain.load_state_dict(state, strict=False).unexpected_keys == ["0._extra_state"]


def test_older_versions_can_be_converted() -> None:
    class Second(nn.Linear):
        _version = 2

        def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
            if metadata.get("version", 1) < 2:
                state[prefix + "bias"] = state.pop(prefix + "offset")
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    state: Any = OrderedDict(weight=torch.ones(1, 2), offset=torch.full((1,), 5.0))
    state._metadata = OrderedDict({"": {"version": 1}})
    layer = Second(2, 1)
    layer.load_state_dict(state)
    assert layer.bias.tolist() == [5.0]
    assert list(state) == ["weight", "offset"], "the caller's dict was changed"


def test_hooks() -> None:
    net = make()
    net._register_state_dict_hook(lambda m, state, prefix, meta: OrderedDict(all=3))
    assert dict(net.state_dict()) == {"all": 3}

    def post(module: Any, state: Any, prefix: str, meta: Any) -> Any:
        return state

    other = make()
    handle = other.register_state_dict_post_hook(post)
    with pytest.raises(RuntimeError, match="post-hook must return None"):
        other.state_dict()
    handle.remove()
    assert len(other.state_dict()) == 4
    with pytest.raises(RuntimeError, match="Cannot register the same function"):
        other._register_state_dict_hook(post)
    other.register_load_state_dict_post_hook(lambda module, keys: keys)
    with pytest.raises(AssertionError, match="not expected to return new values"):
        other.load_state_dict(other.state_dict())
