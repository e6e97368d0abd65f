"""Derivatives of fused operators beyond first order: differentiate the formula that the operator stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from disttorch.autograd import grad_mode
from disttorch.autograd.engine import grad
from disttorch.autograd.tensor import Tensor
from disttorch.ops.registry import traced


def composite_vjp(
    formula: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor | None], gradients: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Return the recorded gradients of `formula(*inputs)`, given those of its results (None: not used).

    The inputs are renamed by a view each, so that one which depends on another is not counted twice.
    """
    with grad_mode.enable_grad():
        renamed = [None if x is None else traced.view(x, x._a.shape) for x in inputs]
        outputs = formula(*renamed)
        used = [(y, g) for y, g in zip(outputs, gradients) if g is not None]
        wanted = [x for x in renamed if x is not None and x.requires_grad]
        found = iter(grad([y for y, _ in used], wanted, [g for _, g in used], create_graph=True, allow_unused=True))
        return tuple(next(found) if x is not None and x.requires_grad else None for x in renamed)
