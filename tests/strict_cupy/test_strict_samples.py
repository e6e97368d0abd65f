"""Every operator on the strict double of CuPy: the same values and derivatives as on NumPy, nothing converted."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import numpy as np
import pytest
import record
import strict
from strict_exceptions import EXCEPTIONS

import disttorch
from disttorch.autograd import grad
from disttorch.autograd.tensor import wrap
from disttorch.ops import creation
from disttorch.testing import gradients
from disttorch.testing.sample import Sample
from disttorch.testing.samples import SAMPLES

BY_NAME: dict[str, list[Sample]] = {}
for _sample in SAMPLES:
    BY_NAME.setdefault(_sample.name, []).append(_sample)


def _operands(sample: Sample) -> tuple[list[Any], list[Any]]:
    """Return the operands on NumPy and on the double."""
    on_cpu = gradients.operands(sample, leaves=sample.differentiable)
    moved = []
    for x in on_cpu:
        y = wrap(strict.asarray(x._a.copy(order="K")))
        moved.append(y.requires_grad_(x.requires_grad))
    return on_cpu, moved


def _host(tensor: Any) -> np.ndarray:
    array = tensor._a
    return array.get() if isinstance(array, strict.ndarray) else array


def _check(sample: Sample) -> None:
    on_cpu, moved = _operands(sample)
    expected = gradients.outputs(gradients.call(sample, on_cpu))
    with pytest.MonkeyPatch.context() as patch:  # also what a sample makes by itself is to be on the device
        patch.setattr(creation, "place", lambda target: disttorch.device("cuda", 0))
        found = gradients.outputs(gradients.call(sample, moved))
    assert len(found) == len(expected)
    for y, z in zip(found, expected):
        if not isinstance(z, disttorch.Tensor):
            assert y == z
            continue
        if moved:  # else made of numbers only
            assert isinstance(y._a, strict.ndarray), "the result is on the CPU"
        assert y.dtype == z.dtype
        np.testing.assert_allclose(_host(y), _host(z), rtol=1e-9, atol=1e-12)
    if sample.differentiable:
        _check_gradients(on_cpu, moved, expected, found)


def _check_gradients(on_cpu: list[Any], moved: list[Any], expected: list[Any], found: list[Any]) -> None:
    results = []
    for leaves, ys in ((on_cpu, expected), (moved, found)):
        ys = [y for y in ys if isinstance(y, disttorch.Tensor) and y.requires_grad]
        seeds = [wrap(np.cos(np.arange(y._a.size, dtype=float)).reshape(y._a.shape).astype(y._a.dtype)) for y in ys]
        if leaves is moved:
            seeds = [wrap(strict.asarray(s._a)) for s in seeds]
        wanted = [x for x in leaves if x.requires_grad]
        results.append(grad(ys, wanted, seeds, allow_unused=True))
    for h, g in zip(*results):
        assert (g is None) == (h is None)
        if g is not None:
            assert isinstance(g._a, strict.ndarray), "the gradient is on the CPU"
            np.testing.assert_allclose(_host(g), _host(h), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_samples(name: str) -> None:
    failures = []
    for sample in BY_NAME[name]:
        try:
            _check(sample)
        except Exception as error:
            failures.append(f"{sample}: {type(error).__name__}: {error}")
    if name in EXCEPTIONS:
        assert failures, f"{name} runs on the double now: take it out of strict_exceptions.py"
        return
    assert not failures, "\n".join(failures[:3])


def test_the_exceptions_are_operators() -> None:
    assert sorted(EXCEPTIONS.keys() - BY_NAME.keys()) == []


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_the_recorded_names_are_those_of_the_installed_cupy() -> None:
    assert record.recorded() == json.loads(record.PLACE.read_text(encoding="utf-8")), "run record.py again"
