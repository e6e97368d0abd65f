"""Every operator through its samples: values against NumPy, derivatives against finite differences."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import disttorch
import disttorch.ops as ops
from disttorch.autograd import grad
from disttorch.ops.registry import OPERATORS
from disttorch.testing import gradients
from disttorch.testing.sample import Sample
from disttorch.testing.samples import SAMPLES

BY_NAME: dict[str, list[Sample]] = {}
for _sample in SAMPLES:
    BY_NAME.setdefault(_sample.name, []).append(_sample)
DIFFERENTIABLE = sorted(n for n, rows in BY_NAME.items() if any(s.differentiable for s in rows))
COMPLEX = sorted(n for n, rows in BY_NAME.items() if any(s.complex for s in rows))


@contextlib.contextmanager
def naming(sample: Sample) -> Iterator[None]:
    """Say which sample it was."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{sample}: {type(error).__name__}: {error}") from error


def differentiable(name: str) -> list[Sample]:
    return [s for s in BY_NAME[name] if s.differentiable]


# -- the table is complete ----------------------------------------------------------------------------------------


def test_every_operator_has_samples() -> None:
    covered = set(itertools.chain.from_iterable(s.covers for s in SAMPLES))
    assert sorted(OPERATORS.keys() - covered) == [], "add a row to disttorch/testing/rows"
    assert sorted(covered - OPERATORS.keys()) == [], "no operator has this name"


NOT_OPERATORS = {"creation", "convert", "random"}  # they make tensors from nothing, or leave them; tests of their own
HELPERS = set("is_complex broadcast_shapes result_type check_reduction".split())


@pytest.mark.parametrize("module", [m for m in ops.MODULES if m.__name__.rpartition(".")[2] not in NOT_OPERATORS])
def test_every_public_function_has_samples(module: Any) -> None:
    public = {name for name in getattr(module, "__all__", ()) if not isinstance(getattr(module, name), type)}
    assert sorted(public - HELPERS - BY_NAME.keys()) == [], "add a row to disttorch/testing/rows"


def test_samples_run_the_operators_they_are_there_for() -> None:
    for sample in SAMPLES:
        if not sample.differentiable:
            continue
        with naming(sample):
            tensors = gradients.operands(sample)
            leaves = [x for x in tensors if x.requires_grad]
            ys = [y for y in gradients.outputs(gradients.call(sample, tensors)) if y.requires_grad]
            first = grad(ys, leaves, gradients.seeds(ys), create_graph=True, allow_unused=True)
            names = gradients.recorded_operators([*ys, *[g for g in first if g is not None]])
            missing = {c for c in sample.covers if OPERATORS[c].rules} - names
            # what a first derivative computes is recorded only where the incoming gradient is
            with_gradient = [x.requires_grad_() for x in gradients.seeds(ys)]
            first = grad(ys, leaves, with_gradient, create_graph=True, allow_unused=True)
            missing -= gradients.recorded_operators([g for g in first if g is not None])
            assert not missing, f"does not run {sorted(missing)}"


# -- values -------------------------------------------------------------------------------------------------------


def _compare(sample: Sample, dtype: Any) -> None:
    arrays = sample.arrays(dtype)
    result = gradients.call(sample, gradients.operands(sample, dtype, leaves=False))
    expected = sample.expected(*arrays)  # type: ignore[misc]
    several = expected if isinstance(expected, tuple) else (expected,)
    found = gradients.outputs(result) if not isinstance(result, bool) else [disttorch.tensor(result)]
    for y, want in zip(found, several):
        assert tuple(y.shape) == np.shape(want), "wrong shape"
        np.testing.assert_allclose(y.numpy(), want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(n for n, rows in BY_NAME.items() if any(s.expected for s in rows)))
def test_values(name: str) -> None:
    for sample in BY_NAME[name]:
        if sample.expected is not None:
            with naming(sample):
                _compare(sample, np.float64)
                if sample.complex:
                    _compare(sample, np.complex128)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_float32_agrees_with_float64(name: str) -> None:
    for sample in BY_NAME[name]:
        with naming(sample):
            single, double = (
                gradients.outputs(gradients.call(sample, gradients.operands(sample, d, leaves=False)))
                for d in (np.float32, np.float64)
            )
            assert len(single) == len(double)
            for a, b in zip(single, double):
                assert a.shape == b.shape
                np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_inputs_are_left_alone(name: str) -> None:
    for sample in BY_NAME[name]:
        with naming(sample):
            tensors = gradients.operands(sample, leaves=False)
            before = [x._a.copy() for x in tensors]
            gradients.call(sample, tensors)
            for x, kept in zip(tensors, before):
                np.testing.assert_array_equal(x._a, kept)


# -- derivatives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives(name: str) -> None:
    for sample in differentiable(name):
        with naming(sample):
            gradients.check_derivatives(sample)


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_derivatives(name: str) -> None:
    for sample in differentiable(name):
        if sample.complex:
            with naming(sample):
                gradients.check_derivatives(sample, np.complex128)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivative_on_arrays_is_the_recorded_one(name: str) -> None:
    for sample in differentiable(name):
        with naming(sample):
            gradients.check_orders_agree(sample)
            if sample.complex:
                gradients.check_orders_agree(sample, np.complex128)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_have_memory_of_their_own(name: str) -> None:
    for sample in differentiable(name):
        with naming(sample):
            gradients.check_memory_is_separate(sample)
