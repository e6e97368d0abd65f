"""`Parameter` and `Buffer`."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import disttorch as torch
from disttorch import nn


def test_a_parameter_shares_memory_and_requires_grad() -> None:
    data = torch.ones(2)
    with torch.no_grad():
        parameter = nn.Parameter(data)
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert isinstance(parameter, torch.Tensor)
    data.mul_(3)
    assert parameter.tolist() == [3.0, 3.0]
    assert parameter._version == data._version
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    assert nn.Parameter().shape == (0,)


def test_operations_on_a_parameter_give_plain_tensors() -> None:
    parameter = nn.Parameter(torch.ones(2))
    result = parameter * 2 + parameter
    assert type(result) is torch.Tensor
    result.sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [3.0, 3.0]
    assert type(parameter.detach()) is torch.Tensor


def test_printing() -> None:
    text = "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    assert repr(nn.Parameter(torch.ones(2))) == text
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    assert str(frozen) == "Parameter containing:\ntensor([1., 1.])"


def test_integers_cannot_require_grad() -> None:
    with pytest.raises(RuntimeError, match="floating point and complex dtype"):
        nn.Parameter(torch.ones(2, dtype=torch.int64))
    assert nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False).dtype is torch.int64
    with pytest.raises(TypeError, match=r"must be Tensor, not list; convert it with torch\.tensor"):
        nn.Parameter([1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize("requires_grad", [True, False])
def test_copies_are_parameters_with_memory_of_their_own(requires_grad: bool) -> None:
    parameter = nn.Parameter(torch.ones(2), requires_grad)
    for other in (copy.deepcopy(parameter), pickle.loads(pickle.dumps(parameter))):
        assert type(other) is nn.Parameter
        assert other.requires_grad is requires_grad
        assert other.tolist() == [1.0, 1.0]
        assert not np.shares_memory(other.detach().numpy(), parameter.detach().numpy())


def test_deepcopy_keeps_shared_parameters_shared() -> None:
    parameter = nn.Parameter(torch.ones(2))
    first, second = copy.deepcopy([parameter, parameter])
    assert first is second


def test_a_buffer_is_a_marked_plain_tensor() -> None:
    data = torch.ones(2)
    buffer = nn.Buffer(data, persistent=False)
    assert type(buffer) is torch.Tensor
    assert isinstance(buffer, nn.Buffer)
    assert not isinstance(data, nn.Buffer)
    assert np.shares_memory(buffer.numpy(), data.numpy())
    assert nn.Buffer().shape == (0,)
