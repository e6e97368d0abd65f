"""What the strict double of CuPy refuses, that the GPU has every kernel, and that tensors on it behave as tensors."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import strict

import disttorch as torch
from disttorch.backends import cupy as gpu
from disttorch.backends import numpy as cpu

ONLY_ON_THE_CPU: dict[str, str] = {}
"""Kernels that the GPU's backend lacks, each with the reason."""


def made(*values: float) -> Any:
    return strict.asarray(np.array(values))


REFUSED: dict[str, Callable[[Any, np.ndarray], Any]] = {
    "numpy.asarray": lambda x, host: np.asarray(x),
    "a function of NumPy": lambda x, host: np.concatenate([x, x]),
    "a universal function of NumPy": lambda x, host: np.exp(x),
    "an array of NumPy on the left": lambda x, host: host + x,
    "an array of NumPy on the right": lambda x, host: x + host,
    "an array of NumPy as an argument": lambda x, host: strict.cupy.where(x > 0, x, host),
    "an array of NumPy as an index": lambda x, host: x[host.astype(int)],
    "writing an array of NumPy": lambda x, host: x.__setitem__(slice(None), host),
    "where=": lambda x, host: x.sum(where=x > 0),
    "initial=": lambda x, host: x.max(initial=0.0),
    "a keyword of NumPy's function alone": lambda x, host: strict.cupy.searchsorted(x, x, method="fast"),
    "integers of 64 bits in add.at": lambda x, host: strict.cupy.add.at(x.astype(int), (x.astype(int),), 1),
}


@pytest.mark.parametrize("attempt", list(REFUSED.values()), ids=list(REFUSED))
def test_it_refuses(attempt: Callable[[Any, np.ndarray], Any]) -> None:
    with pytest.raises(TypeError):
        attempt(made(1.0, 2.0), np.array([0.0, 1.0]))


def test_it_takes_no_operands_that_cupy_fails_on() -> None:
    x, special = strict.asarray(np.eye(2)), strict.cupyx.scipy.special
    with pytest.raises(AttributeError, match="must be an array"):
        special.polygamma(1, x)
    with pytest.raises(AttributeError, match="must be an array"):
        strict.cupy.where(True, x, x)
    with pytest.raises(ValueError, match="shape"):
        strict.cupy.linalg.solve(x, strict.asarray(np.ones((3, 2, 1))))


@pytest.mark.parametrize("name", ["apply_over_axes_", "einsum_path", "emath", "trapezoid_", "unstack"])
def test_it_has_no_names_that_cupy_lacks(name: str) -> None:
    with pytest.raises(AttributeError):
        getattr(strict.cupy, name)


@pytest.mark.parametrize("name", ["ctypes", "newbyteorder", "setflags", "__array_interface__"])
def test_its_arrays_have_no_attributes_that_cupys_lack(name: str) -> None:
    with pytest.raises(AttributeError):
        getattr(made(1.0), name)


def test_a_ufunc_reduces_only_where_cupys_does() -> None:
    assert float(strict.cupy.add.reduce(made(1.0, 2.0))) == 3.0
    with pytest.raises(AttributeError):
        strict.cupy.logaddexp.reduce(made(1.0, 2.0))


def test_reductions_and_elements_are_arrays() -> None:
    x = made(1.0, 2.0)
    assert [type(y) for y in (x.sum(), x[0], x[0] + 1, strict.cupy.exp(x[0]))] == [strict.ndarray] * 4


def test_linear_algebra_fails_only_where_it_is_told_to() -> None:
    singular = strict.asarray(np.zeros((2, 2)))
    with pytest.raises(RuntimeError, match="undefined"):
        strict.cupy.linalg.inv(singular)
    with gpu.linalg_errors(singular), pytest.raises(np.linalg.LinAlgError):
        strict.cupy.linalg.inv(singular)


def test_the_gpu_has_every_kernel_of_the_cpu() -> None:
    assert sorted(set(cpu.__all__) - set(gpu.__all__)) == sorted(ONLY_ON_THE_CPU)
    assert sorted(set(gpu.__all__) - set(cpu.__all__)) == []


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "uint8", "bool", "float32", "float16", "complex64"])
@pytest.mark.parametrize("reduce", ["sum", "prod", "amin", "amax"])
def test_combining_at_positions_is_that_of_the_cpu(dtype: str, reduce: str) -> None:
    if dtype == "complex64" and reduce in ("amin", "amax"):
        return
    generator = np.random.default_rng(0)
    target, values = (generator.integers(-3, 4, shape).astype(dtype) for shape in ((4, 3), (9, 3)))
    index = (generator.integers(-4, 4, 9), slice(None))
    there = strict.asarray(target.copy())
    gpu.reduce_at(there, (strict.asarray(index[0]), slice(None)), strict.asarray(values), reduce)
    cpu.reduce_at(target, index, values, reduce)
    np.testing.assert_array_equal(there.get(), target)


def test_a_failed_factorization_is_reported() -> None:
    x = torch.tensor([[[2.0, 1.0], [1.0, 2.0]], [[1.0, 2.0], [2.0, 1.0]]], device="cuda")
    assert torch.linalg.cholesky_ex(x).info.tolist() == [0, 2]
    assert torch.linalg.inv_ex(x * 0).info.tolist() == [1, 1]
    with pytest.raises(torch.linalg.LinAlgError):
        torch.linalg.solve(x * 0, x)


def test_attributes() -> None:
    x = torch.arange(6.0, device="cuda").reshape(2, 3)
    assert x.get_device() == 0
    assert torch.zeros(1).get_device() == -1
    assert x[1].storage_offset() == 3
    assert x[1].data_ptr() == x.data_ptr() + 12
    assert repr(x[0]) == "tensor([0., 1., 2.], device='cuda:0')"
    assert (x[1, 2].item(), x[0].tolist(), float(x[0, 1])) == (5.0, [0.0, 1.0, 2.0], 1.0)


def test_the_way_to_numpy_is_by_the_cpu() -> None:
    x = torch.arange(3.0, device="cuda")
    with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\) to copy the tensor to host memory first"):
        x.numpy()
    with pytest.raises(TypeError):
        np.asarray(x)
    np.testing.assert_array_equal(x.cpu().numpy(), [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(x.numpy(force=True), [0.0, 1.0, 2.0])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_stay_on_the_device(copied: Callable[[Any], Any]) -> None:
    x = torch.arange(3.0, device="cuda", requires_grad=True)
    y = copied(x)
    assert (y.device, y.tolist(), y.requires_grad) == (x.device, [0.0, 1.0, 2.0], True)
    assert y.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("target", [None, "cpu", "cuda"])
def test_a_saved_tensor_is_loaded_where_it_is_wanted(target: str | None) -> None:
    file = io.BytesIO()
    x = torch.arange(6.0, device="cuda")
    torch.save({"x": x, "tail": x[2:]}, file)
    file.seek(0)
    loaded = torch.load(file, map_location=target)
    assert loaded["tail"].device.type == (target or "cuda")
    assert loaded["tail"].tolist() == [2.0, 3.0, 4.0, 5.0]


def test_numbers_of_the_cpu_go_with_tensors_of_the_gpu() -> None:
    x, scale = torch.ones(3, device="cuda"), torch.tensor(2.0, requires_grad=True)
    (x * scale).sum().backward()
    assert (scale.grad.device.type, scale.grad.item()) == ("cpu", 3.0)


def test_random_numbers_fill_tensors_of_the_gpu() -> None:
    def drawn(device: str) -> list[Any]:
        torch.manual_seed(1)
        x = torch.empty(4, device=device).uniform_()
        found = [x, torch.bernoulli(x), torch.normal(x, x), torch.multinomial(x, 2), torch.rand_like(x)]
        return [y.cpu().tolist() for y in found]

    assert drawn("cuda") == drawn("cpu")


def test_bags_of_embeddings() -> None:
    rows, offsets = torch.tensor([1, 2, 0, 2]), torch.tensor([0, 3])
    weight = torch.arange(6.0).reshape(3, 2)
    for mode in ("sum", "mean", "max"):
        expected = torch.nn.functional.embedding_bag(rows, weight, offsets, mode=mode)
        moved = [t.to("cuda") for t in (rows, weight, offsets)]
        assert torch.nn.functional.embedding_bag(*moved, mode=mode).cpu().tolist() == expected.tolist()


def test_indices_may_be_on_the_cpu() -> None:
    x = torch.arange(6.0, device="cuda", requires_grad=True)
    y = x.clone()
    y[torch.tensor([0, 1])] = 7.0
    y[y == 2.0] = 8.0
    assert y[[0, 2, 5]].tolist() == [7.0, 8.0, 5.0]
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


def test_jacobians() -> None:
    x = torch.arange(3.0, device="cuda")
    found = torch.autograd.functional.jacobian(lambda x: x * x, x)
    assert (found.device.type, found.diagonal().tolist()) == ("cuda", [0.0, 2.0, 4.0])


class Pair(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x * 1, x * 2

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return g + 2 * h


def test_a_gradient_that_did_not_come_is_zero_on_the_device() -> None:
    x = torch.ones(2, device="cuda", requires_grad=True)
    Pair.apply(x)[1].sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_dropout_keeps_to_the_device() -> None:
    x = torch.ones(50, device="cuda", requires_grad=True)
    y = torch.nn.functional.dropout(x, 0.5)
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()


def test_copies_on_a_stream_wait_for_it() -> None:
    x, host = made(1.0, 2.0), np.zeros(2)
    with strict.cupy.cuda.Stream(non_blocking=True) as stream:
        x.get(out=host)
        x.set(np.array([3.0, 4.0]))
        assert (host.tolist(), x.tolist()) == ([0.0, 0.0], [1.0, 2.0])
        stream.synchronize()
    assert (host.tolist(), x.tolist()) == ([1.0, 2.0], [3.0, 4.0])
    with pytest.raises(TypeError):
        x.get(out=np.zeros(2, np.float32))
    with pytest.raises(RuntimeError, match="not recorded"):
        stream.wait_event(strict.cupy.cuda.Event())


def test_a_view_refers_to_the_owner_of_its_memory() -> None:
    x = strict.asarray(np.zeros((2, 3)))
    assert x.base is None
    assert x[0].base is x
    assert x[0].reshape(3, 1).T.base is x
    assert strict.cupy.broadcast_to(x, (4, 2, 3)).base is x
    assert (x[0] + 1).base is None
    assert strict.stride_tricks.as_strided(x[1], (3,), (8,)).base is None


def test_there_is_one_device() -> None:
    assert torch.ones(1, device="cuda:0").to("cuda").device == torch.device("cuda:0")
    with pytest.raises(RuntimeError, match="there are 1 CUDA devices"):
        torch.ones(1, device="cuda:1")
    with pytest.raises(RuntimeError, match="there are 1 CUDA devices"):
        torch.ones(1).to("cuda:1")


# -- between memories ---------------------------------------------------------------------------------------------


def test_page_locked_memory() -> None:
    x = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last).requires_grad_()
    assert not x.is_pinned()
    y = x.pin_memory()
    assert (y.is_pinned(), y.device.type, y.stride()) == (True, "cpu", x.stride())
    assert torch.equal(x, y)
    assert y.pin_memory() is y
    (y.to("cuda") * 2).sum().backward()
    assert x.grad.tolist() == torch.full((1, 2, 3, 4), 2.0).tolist()
    assert torch.zeros(0, 3).pin_memory().shape == (0, 3)
    assert torch.ones(2, dtype=torch.bfloat16).pin_memory().tolist() == [1.0, 1.0]
    on_gpu = x.to("cuda")
    assert not on_gpu.is_pinned()
    with pytest.raises(RuntimeError, match=r"cannot pin 'torch\.cuda\.FloatTensor' only dense CPU tensors"):
        on_gpu.pin_memory()


def test_a_loader_pins_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("disttorch.utils.data._utils.iterator.cuda_device_count", lambda: 1)
    data = torch.utils.data.TensorDataset(torch.arange(4.0), torch.arange(4))
    for batch in torch.utils.data.DataLoader(data, batch_size=2, pin_memory=True):
        assert [x.is_pinned() for x in batch] == [True, True]
        assert batch[0].cuda(non_blocking=True).device.type == "cuda"


def test_old_names_of_types_say_where() -> None:
    x = torch.ones(2)
    for there in (x.type("torch.cuda.DoubleTensor"), x.type(torch.cuda.DoubleTensor), x.double().cuda(0, True)):
        assert there.type() == "torch.cuda.DoubleTensor"
        assert there.type(torch.int32).type() == "torch.cuda.IntTensor"
        assert there.type(torch.IntTensor).type() == "torch.IntTensor"
        assert x.type_as(there).type() == there.type()
        assert there.cpu().type() == "torch.DoubleTensor"
    assert there.type(torch.Tensor).type() == there.type("torch.Tensor").type() == "torch.FloatTensor"
    for name in ("torch.xpu.FloatTensor", "FloatTensor", "cuda.FloatTensor"):
        with pytest.raises(ValueError, match=f"invalid type: '{name}'"):
            x.type(name)
    with pytest.raises(TypeError, match="dtype must be a type, str, or dtype object"):
        x.type(x)
    with pytest.raises(RuntimeError, match="Invalid device, must be cuda device"):
        x.cuda("cpu")
    with pytest.raises(TypeError):
        x.type_as(torch.float64)
