"""Limits on gradients."""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterable

from disttorch.autograd.grad_mode import no_grad
from disttorch.autograd.tensor import Tensor
from disttorch.ops.creation import tensor
from disttorch.ops.distance import norm
from disttorch.ops.join import stack

Tensors = Tensor | Iterable[Tensor]


def _listed(tensors: Tensors) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


@no_grad()
def get_total_norm(
    tensors: Tensors,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Return the `norm_type`-norm of all elements of all tensors together, a 0-d tensor.

    `error_if_nonfinite` raises RuntimeError for a norm that is infinite or NaN. `foreach` chooses
    between two ways to compute the same in PyTorch; here there is one.
    """
    listed = _listed(tensors)
    if not listed:
        return tensor(0.0)
    order = float(norm_type)
    first = listed[0].device
    total = norm(stack([norm(t, order).to(first) for t in listed]), order)
    if error_if_nonfinite and not total.isfinite():
        raise RuntimeError(
            f"The total norm of order {order} for gradients from `parameters` is non-finite, so it "
            "cannot be clipped. To disable this error and scale the gradients by the non-finite "
            "norm anyway, set `error_if_nonfinite=False`"
        )
    return total


@no_grad()
def clip_grads_with_norm_(
    parameters: Tensors, max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale the gradients of all parameters in place by max_norm / total_norm, if below 1."""
    factor = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
    for gradient in _gradients(_listed(parameters)):
        gradient.mul_(factor.to(gradient.device))


def clip_grad_norm_(
    parameters: Tensors,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients of all parameters in place to a total norm of at most `max_norm`.

    Returns the total norm before; see `get_total_norm`.
    """
    listed = _listed(parameters)
    if not listed and isinstance(parameters, types.GeneratorType):
        warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2)
    total = get_total_norm(_gradients(listed), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(listed, max_norm, total, foreach)
    return total


@no_grad()
def clip_grad_value_(parameters: Tensors, clip_value: float, foreach: bool | None = None) -> None:
    """Limit each element of the gradients of all parameters to +-clip_value, in place."""
    for gradient in _gradients(_listed(parameters)):
        gradient.clamp_(-float(clip_value), float(clip_value))
