"""Connectionist temporal classification (Graves et al., ICML 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.ops.arithmetic import not_for
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.reduction import check_reduction, reduced
from disttorch.ops.registry import raw, traced

__all__ = ["ctc_loss"]

# A target of S labels is read as 2 S + 1 states: a blank before, between and after the labels. Everything is held as
# logarithms, so -inf is what cannot be.


@operator(1, name="ctc_loss", differentiable=1)
def _ctc_loss(xp, log_probs, labels, input_lengths, target_lengths, blank, zero_infinity):
    states, emitted, may_skip = _lattice(xp, log_probs, labels, target_lengths, blank)
    alpha = xp.full_like(emitted, -np.inf)
    for t in range(len(emitted)):
        before = alpha[t - 1] if t else xp.where(xp.arange(states.shape[1]) == 0, 0.0, alpha[0])
        alpha[t] = _arrived(xp, before, may_skip) + emitted[t]
    ends = _end_states(xp, states, target_lengths)
    last = alpha[xp.asarray(input_lengths) - 1, xp.arange(len(states))] if len(alpha) else alpha.sum(0)
    likelihood = raw.logsumexp(xp.where(ends, last, -np.inf), (1,), False)
    nothing = xp.asarray(np.where(target_lengths == 0, 0.0, -np.inf)).astype(likelihood.dtype)
    return -xp.where(xp.asarray(input_lengths) == 0, nothing, likelihood), alpha


@_ctc_loss.vjp
def _(F, g, log_probs, out0, out1, labels, input_lengths, target_lengths, blank, zero_infinity):
    return F.ctc_loss_grad(g[0], log_probs, out0, out1, labels, input_lengths, target_lengths, blank, zero_infinity)


@operator(4)
def ctc_loss_grad(xp, g, log_probs, loss, alpha, labels, input_lengths, target_lengths, blank, zero_infinity):
    """Return g * (p - occupancy), the derivative by scores whose log-softmax `log_probs` is.

    By `log_probs` itself it would be -occupancy; the difference is none behind a log-softmax, where PyTorch has it too.
    """
    states, emitted, may_skip = _lattice(xp, log_probs, labels, target_lengths, blank)
    lengths = xp.asarray(input_lengths)[:, None]
    ends = xp.where(_end_states(xp, states, target_lengths), 0.0, -np.inf).astype(emitted.dtype)
    beta = xp.full_like(emitted, -np.inf)
    for t in reversed(range(len(emitted))):
        after = _left(xp, beta[t + 1] + emitted[t + 1], may_skip) if t + 1 < len(emitted) else beta[t]
        beta[t] = xp.where(lengths == t + 1, ends, after)
    occupancy = xp.exp(alpha + beta + loss[:, None])
    grad = xp.exp(log_probs)
    for n in range(len(states)):
        grad[:, n] -= occupancy[:, n] @ (states[n][:, None] == xp.arange(grad.shape[2])).astype(grad.dtype)
    counted = xp.arange(len(emitted))[:, None] < lengths[:, 0]
    if zero_infinity:
        counted = counted & (loss != np.inf)
    return xp.where(counted[:, :, None], grad * g[:, None], grad.dtype.type(0))


@ctc_loss_grad.vjp("g")
def _(F, u, g, log_probs, loss, alpha, labels, input_lengths, target_lengths, blank, zero_infinity):
    lengths = (labels, input_lengths, target_lengths)
    return F.sum(u * F.ctc_loss_grad(g * 0 + 1, log_probs, loss, alpha, *lengths, blank, zero_infinity), (0, 2), False)


def _lattice(xp: Any, log_probs: Any, labels: Any, target_lengths: Any, blank: int) -> tuple[Any, Any, Any]:
    """Return the class of each state [N, states], log_probs [T, N, states] of it, and where a blank may be skipped."""
    count, longest = labels.shape
    states = np.full((count, 2 * longest + 1), blank)
    states[:, 1::2] = labels
    used = xp.asarray(np.arange(2 * longest + 1) <= 2 * target_lengths[:, None])
    skip = np.zeros(states.shape, bool)
    skip[:, 3::2] = labels[:, 1:] != labels[:, :-1]
    states = xp.asarray(states)
    emitted = log_probs[:, xp.arange(count)[:, None], states]
    return states, xp.where(used, emitted, -np.inf).astype(log_probs.dtype), xp.asarray(skip)


def _end_states(xp: Any, states: Any, target_lengths: Any) -> Any:
    before_last = np.arange(states.shape[1]) - 2 * target_lengths[:, None]
    return xp.asarray((before_last == 0) | (before_last == -1))


def _arrived(xp: Any, before: Any, may_skip: Any) -> Any:
    """Return the sum over the ways into each state: from itself, from the one before, and past a blank."""
    into = before.copy()
    into[:, 1:] = xp.logaddexp(into[:, 1:], before[:, :-1])
    into[:, 2:] = xp.logaddexp(into[:, 2:], xp.where(may_skip[:, 2:], before[:, :-2], -np.inf))
    return into.astype(before.dtype, copy=False)


def _left(xp: Any, after: Any, may_skip: Any) -> Any:
    """Return the sum over the ways out of each state."""
    out = after.copy()
    out[:, :-1] = xp.logaddexp(out[:, :-1], after[:, 1:])
    out[:, :-2] = xp.logaddexp(out[:, :-2], xp.where(may_skip[:, 2:], after[:, 2:], -np.inf))
    return out


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Return -log of the probability that log_probs [T, N, C], read without repetitions and blanks, is the target.

    targets [N, S] or all labels in a row [sum(target_lengths)]; log_probs [T, C] is one sample. "mean" divides by the
    lengths of the targets first. `zero_infinity` makes infinite losses, of inputs that are too short, and their
    gradients 0. As in PyTorch, the derivative is right for log_probs that a log-softmax has made.
    """
    check_reduction(reduction)
    x = expect_tensor(log_probs, "ctc_loss", "log_probs")._a
    not_for("ctc_loss_cpu", x, "biucV")
    if x.ndim not in (2, 3):
        raise RuntimeError(f"ctc_loss: expected log_probs [T, N, C] or [T, C], got shape {list(x.shape)}")
    batch = log_probs if x.ndim == 3 else traced.unsqueeze(log_probs, 1)
    steps, count, classes = batch._a.shape
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    inputs, lengths = _lengths(input_lengths, "input_lengths", count), _lengths(target_lengths, "target_lengths", count)
    if inputs.max(initial=0) > steps:
        raise RuntimeError(f"Expected input_lengths to have value at most {steps}, but got value {inputs.max()}")
    labels = _padded_labels(targets, lengths, blank, classes)
    loss = _ctc_loss(batch, labels, inputs, lengths, blank, zero_infinity)[0]
    if zero_infinity:
        loss = traced.where(traced.eq(loss, np.inf), 0.0, loss)
    if reduction == "mean":
        loss = loss / wrap(np.maximum(lengths, 1).astype(x.dtype)).to(loss.device)
    return traced.reshape(loss, ()) if x.ndim == 2 else reduced(loss, reduction)


def _lengths(given: Any, name: str, count: int) -> Any:
    lengths = np.atleast_1d(given.cpu()._a if isinstance(given, Tensor) else np.asarray(given))
    if lengths.dtype.kind not in "iu":
        raise RuntimeError(f"{name} must be integral")
    if lengths.shape != (count,):
        raise RuntimeError(f"{name} must be of size batch_size, {count}, but has shape {list(lengths.shape)}")
    if (lengths < 0).any():
        raise RuntimeError(f"Expected {name} to have value at least 0, but got value {lengths.min()}")
    return lengths.astype(np.int64)


def _padded_labels(targets: Tensor, lengths: Any, blank: int, classes: int) -> Any:
    """Return the labels as [N, longest], blank behind the end of each target."""
    given = expect_tensor(targets, "ctc_loss", "targets").cpu()._a
    if given.dtype.kind not in "iu":
        raise RuntimeError(f"expected targets to be int32 or int64 class numbers, but got {targets.dtype!r}")
    longest = int(lengths.max(initial=0))
    inside = np.arange(longest) < lengths[:, None]
    labels = np.full(inside.shape, blank)
    if given.ndim == 1:
        if len(given) != lengths.sum():
            raise RuntimeError(
                f"Expected targets in a row to have size {lengths.sum()}, the sum of target_lengths, but got {len(given)}"
            )
        labels[inside] = given
    elif given.ndim == 2 and len(given) == len(lengths) and given.shape[1] >= longest:
        labels[inside] = given[:, :longest][inside]
    else:
        raise RuntimeError(
            f"Expected targets to have shape [{len(lengths)}, at least {longest}], but got {list(given.shape)}"
        )
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise RuntimeError(
            f"Expected target labels in [0, {classes}), but got values from {labels.min()} to {labels.max()}"
        )
    return labels
