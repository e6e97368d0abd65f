"""Views and in-place changes.

A view remembers its base and the chain of view operators that leads to it. An in-place change of a base gives it
a new `grad_fn`; a change of a view becomes a `view_scatter` on the base. Any other view of that base finds, when it
is next used, that the base's `grad_fn` is no longer the one it has seen, and replays its chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from disttorch.autograd import grad_mode
from disttorch.autograd.tensor import Tensor, wrap

NORMAL, MADE_WITHOUT_GRAD, ONE_OF_SEVERAL = "normal", "made without grad", "one of several"


class View:
    """What a view knows: `base`, `chain` = ((operator, output number, attrs), ...), the base's `grad_fn` as `seen`,
    `kind`, which says whether it may be changed in place, and for those that may not the base's `version`."""

    __slots__ = ("base", "chain", "kind", "seen", "version")

    def __init__(self, base: Tensor, chain: tuple[Any, ...], kind: str) -> None:
        self.base = base
        self.chain = chain
        self.kind = kind
        self.seen = base._edge
        self.version = 0 if kind is NORMAL or base._counter is None else base._counter[0]

    def refresh(self, tensor: Tensor) -> None:
        """Give `tensor`, whose view this is, a `grad_fn` that is true after in-place changes of the base."""
        base = self.base
        if self.kind is not NORMAL:
            changed = base._requires_grad and base._counter is not None and base._counter[0] != self.version
            if changed or base._edge is not self.seen:
                raise RuntimeError(_refusal(tensor, self.kind, "its base or another view of its base has been"))
            return
        if base._edge is self.seen:
            return
        self.seen = self.base._edge
        with grad_mode.enable_grad():
            replayed = self.base
            for op, output, attrs in self.chain:
                replayed = op.replay(replayed, output, attrs)
        tensor._edge, tensor._requires_grad = replayed._edge, replayed._requires_grad


def make_view(
    input: Tensor, array: Any, op: Any, attrs: tuple[Any, ...], output: int = 0, several: bool = False
) -> Tensor:
    """Return a tensor on `array`, which shares memory with `input` and is what `op` made of it."""
    out = wrap(array)
    out._counter = input._counter
    link = (op, output, attrs)
    if not grad_mode.mode.enabled:
        kind = MADE_WITHOUT_GRAD
    elif several:
        kind = ONE_OF_SEVERAL
    else:
        kind = NORMAL
    before = input._view
    if before is None:
        out._view = View(input, (link,), kind)
    else:
        before.refresh(input)
        out._view = View(before.base, (*before.chain, link), kind if before.kind == NORMAL else before.kind)
    return out


def check_inplace(tensor: Tensor, operands: Sequence[Any] = ()) -> None:
    """Raise PyTorch's error if `tensor` may not be changed in place now, by an operation with further `operands`."""
    if tensor._counter is None and not grad_mode.mode.inference:
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed. You can make a clone to get a normal "
            "tensor before doing inplace update. See https://github.com/pytorch/rfcs/pull/17 for more details."
        )
    if not grad_mode.mode.enabled:
        return
    view = tensor._view
    if view is None:
        if tensor._requires_grad and tensor._edge is None:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        return
    if view.kind is NORMAL:
        view.refresh(tensor)
    if not (tensor._requires_grad or view.base._requires_grad):
        if view.kind is not NORMAL and any([isinstance(x, Tensor) and x.requires_grad for x in operands]):
            raise RuntimeError(_refusal(tensor, view.kind, "is being"))
        return
    if view.base._requires_grad and view.base._edge is None:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")
    if view.kind is not NORMAL:
        raise RuntimeError(_refusal(tensor, view.kind, "is being"))


_REASONS = {
    MADE_WITHOUT_GRAD: (
        " with grad mode enabled. Given that this use case is ambiguous and error-prone, it is forbidden. You can clarify your "
        "code by moving both the view and the inplace either both inside the no_grad block (if you don't want the inplace to "
        "be tracked) or both outside (if you want the inplace to be tracked)."
    ),
    ONE_OF_SEVERAL: (
        ". This view is the output of a function that returns multiple views. Such functions do not allow the output views to "
        "be modified inplace. You should replace the inplace operation by an out-of-place one."
    ),
}


def _refusal(tensor: Tensor, kind: str, what: str) -> str:
    """Return PyTorch's message for an in-place change, made to `what`, that a view of this kind does not allow."""
    if tensor._edge is None or kind == MADE_WITHOUT_GRAD:
        subject = "A view was created in no_grad mode and"
    else:
        node, output = tensor._edge
        subject = f"Output {output} of {node.name().split('Backward')[0]} is a view and"
    enabled = " with grad mode enabled" if tensor._edge is None and kind == ONE_OF_SEVERAL else ""
    return f"{subject} {what} modified inplace{enabled}{_REASONS[kind]}"


def written(tensor: Tensor) -> None:
    """Count an in-place change."""
    if tensor._counter is not None:
        tensor._counter[0] += 1
