"""Putting an operation into the graph."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

from disttorch.autograd import grad_mode
from disttorch.autograd.node import Node, next_seq
from disttorch.autograd.tensor import Tensor, alias, new, wrap


def edge_to(value: Any) -> tuple[Any, int] | None:
    """Return where the gradient of an operand goes; None for a number, or a tensor that needs no gradient."""
    if not isinstance(value, Tensor):
        return None
    if value._view is not None:
        value._view.refresh(value)
    if not value._requires_grad:
        return None
    fn = value._fn
    return (value, 0) if fn is None else (fn, value._out_nr)


def record(op: Any, inputs: Sequence[Any], outputs: Sequence[Tensor], attrs: tuple[Any, ...]) -> Node | None:
    """Make the node of an operation and hang it on its outputs; None when no input needs a gradient.

    `inputs` are tensors, numbers and Nones in the order of the operator's rules. Integer outputs, and those after the
    first `op.differentiable`, stay outside the graph. What the rules need is saved with its version, so that a later in-place change is noticed.
    """
    edges = tuple(map(edge_to, inputs))
    if not any(edges):
        return None
    node = new(Node)
    node.op = op
    node.edges = edges
    node.attrs = attrs
    node.hooks = None
    plan = op.save_plan(edges)
    if plan:
        save(node, [None if k is None else inputs[k] if k >= 0 else output_alias(outputs[-1 - k]) for k in plan])
    else:
        node.saved = node.versions = ()
    node.meta = tuple([(out._a.shape, out._a.dtype) for out in outputs])
    node.seq = next_seq()
    for k, out in enumerate(outputs[: op.differentiable]):
        if out._a.dtype.kind not in "biu":
            out._fn = node
            out._out_nr = k
            out._requires_grad = True
    if grad_mode.mode.anomaly:
        node.own_hooks().where = "".join(traceback.format_stack()[:-2])
    return node


def output_alias(out: Tensor) -> Tensor:
    """Return a tensor on an output's memory and version without its place in the graph, which would be a cycle."""
    saved = wrap(out._a)
    saved._counter = out._counter
    return saved


def save(node: Node, values: list[Any]) -> None:
    """Keep `values` for the derivative, with the versions they have now (-1: not a tensor).

    A view is kept as an alias: through its base it would hold nodes that come after this one, a cycle.
    """
    versions = []
    for i, value in enumerate(values):
        if not isinstance(value, Tensor):
            versions.append(-1)
        elif value._counter is None:
            raise RuntimeError(
                "Inference tensors cannot be saved for backward. To work around you can make a clone to get a normal "
                "tensor and use it in autograd."
            )
        else:
            versions.append(value._counter[0])
            if value._view is not None:
                values[i] = alias(value)
    node.saved = tuple(values)
    node.versions = tuple(versions)


FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward."
)


def saved_values(node: Node) -> tuple[Any, ...]:
    """Return what a node saved; RuntimeError when it was freed, or changed in place since."""
    saved = node.saved
    if saved is None:
        raise RuntimeError(FREED)
    for value, version in zip(saved, node.versions):
        if version >= 0 and value._counter[0] != version:
            raise RuntimeError(_modified(value, version))
    return saved


def _modified(value: Tensor, version: int) -> str:
    fn = value._fn
    of = "" if fn is None else f", which is output {value._out_nr} of {fn.name()},"
    return (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[{type_name(value)} {list(value._a.shape)}]{of} is at version {value._version}; expected version {version} "
        "instead. Hint: enable anomaly detection to find the operation that failed to compute its gradient, with "
        "torch.autograd.set_detect_anomaly(True)."
    )


_TYPE_NAMES = {
    "float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long", "int32": "Int",
    "int16": "Short", "int8": "Char", "uint8": "Byte", "bool": "Bool", "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
}  # fmt: skip


def type_name(tensor: Tensor) -> str:
    """Return PyTorch's old name of a tensor's type, e.g. `torch.FloatTensor`."""
    place = "" if tensor.device.type == "cpu" else "cuda."
    return f"torch.{place}{_TYPE_NAMES[tensor._a.dtype.name]}Tensor"
