"""What must hold for the derivative of every sample."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

import disttorch
from disttorch.autograd.engine import backward, grad
from disttorch.autograd.gradcheck import gradcheck, gradgradcheck
from disttorch.autograd.tensor import Tensor
from disttorch.testing.assert_close import assert_close
from disttorch.testing.sample import Sample


def operands(sample: Sample, dtype: Any = np.float64, leaves: bool = True) -> list[Tensor]:
    """Return the sample's operands as tensors with their layout; with `leaves`, floating ones require grad."""
    tensors = [disttorch.from_numpy(array) for array in sample.arrays(dtype)]
    for tensor, given in zip(tensors, sample.inputs):
        tensor.requires_grad_(leaves and given.floating)
    return tensors


def outputs(result: Any) -> list[Tensor]:
    """Return the tensors of a result."""
    listed = list(result) if isinstance(result, (tuple, list)) else [result]
    return [y for y in listed if isinstance(y, Tensor)]


def call(sample: Sample, tensors: Sequence[Tensor]) -> Any:
    """Run a sample on disttorch."""
    return sample.call(disttorch, *tensors)


def seeds(ys: Sequence[Tensor]) -> list[Tensor]:
    """Return a gradient for each output."""
    generator = np.random.default_rng(7)
    found = []
    for y in ys:
        values = generator.standard_normal(y.shape)
        if y.is_complex():
            values = values + 1j * generator.standard_normal(y.shape)
        found.append(disttorch.tensor(values).to(y.dtype))
    return found


def check_derivatives(sample: Sample, dtype: Any = np.float64) -> None:
    """Compare first and second derivatives with finite differences; GradcheckError where they differ."""
    tensors = operands(sample, dtype)
    gradcheck(lambda *xs: call(sample, xs), tensors)
    if sample.order > 1:
        gradgradcheck(lambda *xs: call(sample, xs), tensors, atol=1e-4)


def check_orders_agree(sample: Sample, dtype: Any = np.float64) -> None:
    """Compare the derivative computed on arrays with the one that is recorded itself."""
    tensors = operands(sample, dtype)
    leaves = [x for x in tensors if x.requires_grad]
    ys = [y for y in outputs(call(sample, tensors)) if y.requires_grad]
    weights = seeds(ys)
    plain = grad(ys, leaves, weights, retain_graph=True, allow_unused=True)
    recorded = grad(ys, leaves, weights, create_graph=True, allow_unused=True)
    for k, (a, b) in enumerate(zip(plain, recorded)):
        assert (a is None) == (b is None), f"input {k} has a gradient at one order only"
        if a is not None and b is not None:
            assert not a.requires_grad, f"the plain gradient of input {k} is recorded"
            assert_close(b.detach(), a, rtol=1e-9, atol=1e-11, equal_nan=True)


def check_memory_is_separate(sample: Sample) -> None:
    """Check that no two gradients, nor a gradient and anything else that the user holds, share memory."""
    tensors = operands(sample)
    leaves = [x for x in tensors if x.requires_grad]
    ys = [y for y in outputs(call(sample, tensors)) if y.requires_grad]
    weights = seeds(ys)
    before = [w.clone() for w in (*leaves, *ys, *weights)]
    backward(ys, weights)
    found = [x.grad for x in leaves if x.grad is not None]
    held = [*tensors, *ys, *weights]
    for a, b in itertools.chain(itertools.combinations(found, 2), itertools.product(found, held)):
        assert not np.shares_memory(a._a, b._a), "two tensors of the user share memory"
    for tensor, kept in zip((*leaves, *ys, *weights), before):
        assert_close(tensor.detach(), kept.detach(), rtol=0, atol=0, equal_nan=True)
    for a in found:
        assert a._a.flags.writeable, "a gradient cannot be changed in place"


def recorded_operators(ys: Sequence[Tensor]) -> set[str]:
    """Return the names of the operators in the graph of some tensors."""
    names: set[str] = set()
    seen: set[Any] = set()
    stack = [y.grad_fn for y in ys if y.grad_fn is not None]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        names.add(getattr(getattr(node, "op", None), "name", ""))
        stack += [below for below, _ in node.next_functions if below is not None]
    return names
