"""Old spellings: typed tensors, Variables, switches that have nothing to change."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest

import disttorch as torch
from disttorch.autograd import Variable

TYPES = {
    "BFloat16Tensor": torch.bfloat16, "BoolTensor": torch.bool, "ByteTensor": torch.uint8, "CharTensor": torch.int8,
    "DoubleTensor": torch.float64, "FloatTensor": torch.float32, "HalfTensor": torch.float16, "IntTensor": torch.int32,
    "LongTensor": torch.int64, "ShortTensor": torch.int16,
}  # fmt: skip


@pytest.mark.parametrize("name", TYPES)
def test_a_typed_tensor_is_made_of_a_shape_or_of_data(name: str) -> None:
    kind, dtype = getattr(torch, name), TYPES[name]
    assert kind(2, 3).shape == kind(torch.Size([2, 3])).shape == (2, 3)
    assert kind().shape == (0,)
    for data in ([1, 0], (1, 0), np.array([1.0, 0.0]), range(1, -1, -1)):
        made = kind(data)
        assert made.dtype is dtype
        assert made.tolist() == [1, 0]
    assert isinstance(kind(1), kind)
    assert isinstance(kind(1), torch.Tensor)
    assert [n for n in TYPES if isinstance(kind(1), getattr(torch, n))] == [name]
    assert repr(kind) == f"<class 'torch.{name}'>"
    assert pickle.loads(pickle.dumps(kind)) is copy.copy(kind) is kind


def test_a_tensor_gives_another_one_on_the_same_memory() -> None:
    x = torch.ones(2)
    assert torch.FloatTensor(x).data_ptr() == torch.Tensor(x).data_ptr() == x.data_ptr()
    assert torch.Tensor(torch.tensor([1, 2])).dtype is torch.int64
    with pytest.raises(TypeError, match=r"expects a tensor of type torch\.float32, got torch\.int64; convert"):
        torch.FloatTensor(torch.tensor([1]))


@pytest.mark.parametrize("given", [(3.5,), ("ab",), (None,), (True,), (2, "a"), ([1], 2)])
def test_what_is_neither_sizes_nor_data_is_refused(given: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match=r"new\(\)"):
        torch.FloatTensor(*given)


def test_types_name_a_conversion() -> None:
    x = torch.tensor([1, 2])
    assert x.type(torch.FloatTensor).dtype is x.type("torch.FloatTensor").dtype is torch.float32
    assert x.type() == torch.typename(x) == "torch.LongTensor"
    assert torch.typename(3) == "int"
    assert torch.typename(torch.FloatTensor) == "torch.FloatTensor"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_types_of_a_gpu_that_is_not_there() -> None:
    kind = torch.cuda.FloatTensor if torch.cuda.is_available() else torch.FloatTensor
    assert kind([1]).tolist() == [1.0]
    with pytest.raises(TypeError, match=r"torch\.cuda\.FloatTensor not available"):
        torch.cuda.FloatTensor(2)
    with pytest.raises(RuntimeError, match="legacy constructor"):
        torch.FloatTensor([1], device="cuda")
    assert not isinstance(torch.ones(1), torch.cuda.FloatTensor)


def test_the_default_type_by_an_old_name() -> None:
    try:
        torch.set_default_tensor_type(torch.DoubleTensor)
        assert torch.ones(1).dtype is torch.Tensor([1]).dtype is torch.float64
        torch.set_default_tensor_type("torch.HalfTensor")
        assert torch.get_default_dtype() is torch.float16
    finally:
        torch.set_default_tensor_type("torch.FloatTensor")
    with pytest.raises(TypeError, match="only floating-point types"):
        torch.set_default_tensor_type(torch.LongTensor)
    with pytest.raises(TypeError, match=r"invalid type: 'torch.NoTensor'"):
        torch.set_default_tensor_type("torch.NoTensor")


# -- Variable -----------------------------------------------------------------------------------------------------


def test_a_variable_is_a_tensor_on_the_same_memory() -> None:
    x = torch.ones(2)
    v = Variable(x, requires_grad=True)
    assert type(v) is torch.Tensor
    assert isinstance(x, Variable)
    assert not isinstance(3, Variable)
    assert v.data_ptr() == x.data_ptr()
    (v * 2).sum().backward()
    assert v.grad.tolist() == [2.0, 2.0]
    assert x.grad is None
    assert not Variable(v).requires_grad
    assert Variable().shape == (0,)


def test_what_a_variable_refuses() -> None:
    x = torch.ones(2)
    with pytest.raises(TypeError, match="Variable data has to be a tensor, but got list"):
        Variable([1])
    with pytest.raises(RuntimeError, match="floating point and complex"):
        Variable(torch.tensor([1]), requires_grad=True)
    with pytest.raises(ValueError, match="volatile and require_grad"):
        Variable(x, requires_grad=True, volatile=True)
    with pytest.warns(UserWarning, match=r"no_grad\(\):` instead"):
        Variable(x, volatile=True)


def test_an_index_of_a_number_is_refused_with_advice() -> None:
    with pytest.raises(IndexError, match=r"Use `tensor\.item\(\)` in Python"):
        torch.tensor(1.5).data[0]


# -- switches -------------------------------------------------------------------------------------------------------


def test_switches_can_be_set() -> None:
    for module, name in ((torch.backends.cudnn, "benchmark"), (torch.backends.cuda.matmul, "allow_tf32")):
        before = getattr(module, name)
        setattr(module, name, True)
        setattr(module, name, before)
    torch.set_num_interop_threads(2)
    torch.set_default_device("cpu")
    assert torch.get_default_device() == torch.device("cpu")
    assert not torch.backends.cudnn.is_available()
    assert not torch.backends.mps.is_available()


def test_deterministic_algorithms() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_deterministic_debug_mode("error")
    assert torch.get_deterministic_debug_mode() == 2
    torch.use_deterministic_algorithms(False)
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(TypeError, match="must be bool"):
        torch.use_deterministic_algorithms(1)
    with pytest.raises(RuntimeError, match="debug_mode"):
        torch.set_deterministic_debug_mode("no")


def test_precision_of_products() -> None:
    torch.set_float32_matmul_precision("high")
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")
    with pytest.warns(UserWarning, match="nothing changes"):
        torch.set_float32_matmul_precision("no")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu() -> None:
    assert torch.cuda.device_count() == torch.accelerator.device_count() == 0
    assert torch.accelerator.current_accelerator() is None
    assert not torch.accelerator.is_available()
    with warnings.catch_warnings():
        torch.cuda.manual_seed_all(3)
        torch.cuda.empty_cache()
        torch.cuda.set_device(-1)
    assert torch.cuda.memory_allocated() == 0
    with torch.cuda.device(-1):
        pass
    for ask in (torch.cuda.current_device, torch.cuda.synchronize, torch.cuda.get_device_name):
        with pytest.raises(RuntimeError, match="use device 'cpu'"):
            ask()
