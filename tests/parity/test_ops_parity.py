"""Every sample against PyTorch: values, types, strides of views, and first derivatives."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

import disttorch  # noqa: E402
from disttorch.testing.rows import shape  # noqa: E402
from disttorch.testing.sample import Sample  # noqa: E402
from disttorch.testing.samples import SAMPLES  # noqa: E402

BY_NAME: dict[str, list[Sample]] = {}
for _sample in SAMPLES:
    if not _sample.internal:
        BY_NAME.setdefault(_sample.name, []).append(_sample)

TOLERANCE = {
    "float16": 4e-3, "bfloat16": 3e-2, "float32": 2e-5, "float64": 1e-11, "complex64": 4e-5, "complex128": 1e-11,
}  # fmt: skip
VIEWS = {s.name for s in shape.samples()} - {"view_scatter", "real", "imag"}
OTHER_TYPES = ("float16", "bfloat16", "complex64", "uint8", "int8", "int16", "int32", "int64", "bool")


@contextlib.contextmanager
def naming(sample: Sample, dtype: str) -> Iterator[None]:
    """Say which sample it was."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{sample} of {dtype}: {type(error).__name__}: {error}") from error


def operands(t: Any, sample: Sample, dtype: str, leaves: bool) -> list[Any]:
    """Return the operands as tensors of a library."""
    made_as = np.complex128 if dtype.startswith("complex") else np.float64
    tensors = []
    for given, array in zip(sample.inputs, sample.arrays(made_as)):
        tensor = t.from_numpy(array)
        if given.floating:
            if dtype == "uint8":
                tensor = tensor.abs()
            tensor = tensor.to(getattr(t, dtype))
            if leaves:
                tensor.requires_grad_()
        tensors.append(tensor)
    return tensors


def results(sample: Sample, t: Any, tensors: list[Any]) -> list[Any]:
    """Return the results of a sample as a flat list."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = sample.call(t, *tensors)
    return list(result) if isinstance(result, (tuple, list)) else [result]


def as_numpy(tensor: Any) -> np.ndarray:
    """Return the elements of a tensor of either library."""
    tensor = tensor.detach()
    if isinstance(tensor, torch.Tensor) and tensor._is_zerotensor():
        tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    return tensor.resolve_conj().numpy() if isinstance(tensor, torch.Tensor) else tensor.numpy()


def assert_same(ours: Any, theirs: Any, dtype: str) -> None:
    """Compare shape, type and values."""
    if not isinstance(theirs, torch.Tensor):
        assert ours == theirs
        return
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert str(ours.dtype) == str(theirs.dtype)
    a, e = as_numpy(ours), as_numpy(theirs)
    tolerance = TOLERANCE.get(str(theirs.dtype).removeprefix("torch."), 0.0)
    tolerance = max(tolerance, TOLERANCE.get(dtype, 0.0)) if tolerance else 0.0
    np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)


def check(sample: Sample, dtype: str) -> None:
    """Compare values, views and first derivatives."""
    leaves = sample.differentiable
    theirs = operands(torch, sample, dtype, leaves)
    ours = operands(disttorch, sample, dtype, leaves)
    expected, found = results(sample, torch, theirs), results(sample, disttorch, ours)
    assert len(found) == len(expected)
    for y, z in zip(found, expected):
        assert_same(y, z, dtype)
        if isinstance(z, torch.Tensor):
            assert y.requires_grad == z.requires_grad
            assert y.is_contiguous() or not z.is_contiguous(), "contiguous in PyTorch, so that view() works on it"
            if sample.name in VIEWS:
                check_view(y, z)
    if not leaves:
        return
    generator = np.random.default_rng(3)
    for y, z in zip(found, expected):
        if z.requires_grad:
            seed = generator.standard_normal(tuple(z.shape))
            try:
                z.backward(torch.tensor(seed).to(z.dtype), retain_graph=True)
            except RuntimeError:  # PyTorch has no derivative here
                return
            y.backward(disttorch.tensor(seed).to(y.dtype), retain_graph=True)
    for k, (x, w) in enumerate(zip(ours, theirs)):
        assert (x.grad is None) == (w.grad is None), f"gradient of input {k}"
        if w.grad is not None:
            assert_same(x.grad, w.grad, dtype)


def check_view(ours: Any, theirs: Any) -> None:
    """Compare where a view lies in memory."""
    if theirs._is_view() and theirs.numel() and not theirs.is_conj():
        assert ours._is_view(), "PyTorch returns a view here"
        assert ours.storage_offset() == theirs.storage_offset()
        longer = [n > 1 for n in theirs.shape]
        strides = [[s for s, n in zip(y.stride(), longer) if n] for y in (ours, theirs)]
        assert strides[0] == strides[1]


@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_values_and_gradients(name: str, dtype: str) -> None:
    for sample in BY_NAME[name]:
        if sample.complex or dtype != "complex64":
            with naming(sample, dtype):
                check(sample, dtype)


@pytest.mark.parametrize("name", sorted(BY_NAME))
@pytest.mark.parametrize("dtype", OTHER_TYPES)
def test_other_types(name: str, dtype: str) -> None:
    """Where PyTorch computes with a type, so do we, with the same result; where it refuses we may compute."""
    for sample in BY_NAME[name]:
        if not any(i.floating for i in sample.inputs) or (dtype == "complex64" and not sample.complex):
            continue
        if name.endswith("softmax") and not all(all(i.shape) for i in sample.inputs):
            continue  # PyTorch looks at the type only where there are elements
        if name in ("real", "imag") and dtype == "float16":
            continue  # its complex type, complex32, is not in disttorch
        if name == "pow" and dtype.startswith("int") and sample.inputs[-1].shape == ():
            continue  # a negative 0-d exponent raises, as a negative number does
        with np.errstate(invalid="ignore"):
            theirs, ours = (operands(t, sample, dtype, False) for t in (torch, disttorch))
        try:
            expected = results(sample, torch, theirs)
        except (RuntimeError, TypeError, NotImplementedError, IndexError):
            continue
        with naming(sample, dtype):
            found = results(sample, disttorch, ours)
            if name == "topk":  # which of equal elements is taken is open
                found, expected = found[:1], expected[:1]
            for y, z in zip(found, expected):
                assert_same(y, z, dtype)
