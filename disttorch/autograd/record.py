"""Putting an operation into the graph."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from typing import Any

from disttorch.autograd.grad_mode import anomaly_threads, mode
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
    return (value, 0) if value._edge is None else value._edge


def record(op: Any, inputs: Sequence[Any], outputs: Sequence[Tensor], attrs: tuple[Any, ...]) -> Node | None:
    """Make the node of an operation and hang it on its outputs; None when no input needs a gradient.

    `inputs` are tensors, numbers and Nones in the order of the operator's rules. Integer outputs, and those after the
    first `op.differentiable`, stay outside the graph. What the rules need is saved with its version, so that a later
    in-place change is noticed.
    """
    edges = tuple([edge_to(x) for x in inputs])
    if not any(edges):
        return None
    node = new(Node)
    node.op = op
    node.edges = edges
    node.attrs = attrs
    node.hooks = None
    plan = op.save_plan(edges)
    node.saved = save(plan, inputs, outputs) if plan else ()
    if len(outputs) == 1:
        a = outputs[0]._a
        node.meta = (a.shape, a.dtype)
    else:
        node.meta = [(out._a.shape, out._a.dtype) for out in outputs]
    node.seq = next_seq()
    for k, out in enumerate(outputs if op.differentiable is None else outputs[: op.differentiable]):
        if out._a.dtype.kind not in "biu":
            out._edge = (node, k)
            out._requires_grad = True
    if anomaly_threads and mode.anomaly:
        node.own_hooks().where = "".join(traceback.format_stack()[:-2])
    return node


def record_pointwise(op: Any, x: Tensor, y: Any, out: Tensor) -> None:
    """Do what `record` does, for a tensor x, a tensor or number y (None for an operator of one input), and one result.

    This path is written out because it decides the speed of small networks.
    """
    if x._view is not None:
        x._view.refresh(x)
    x_edge = (x._edge or (x, 0)) if x._requires_grad else None
    y_edge = edge_to(y) if isinstance(y, Tensor) else None
    if x_edge is None and y_edge is None:
        return
    node = new(Node)
    node.op = op
    node.edges = (x_edge,) if y is None else (x_edge, y_edge)
    node.attrs = ()
    node.hooks = None
    plan = op.pointwise_plan[(x_edge is not None) + 2 * (y_edge is not None)]
    node.saved = save(plan, (x, y), (out,)) if plan else ()
    a = out._a
    node.meta = (a.shape, a.dtype)
    node.seq = next_seq()
    out._edge = (node, 0)
    out._requires_grad = True
    if anomaly_threads and mode.anomaly:
        node.own_hooks().where = "".join(traceback.format_stack()[:-2])


def save(plan: Sequence[int | None], inputs: Sequence[Any], outputs: Sequence[Tensor]) -> list[Any]:
    """Keep what `plan` names (input k, output -1-k) for the derivative, with its version counter and version.

    Of an output only the array is kept, since the tensor holds the node. A view is kept as an alias: through its base
    it would hold nodes that come after this one. Both would be cycles.
    """
    entries: list[Any] = []
    for k in plan:
        if k is None:
            entries.append(None)
        elif k < 0:
            out = outputs[-1 - k]
            counter = out._counter
            entries.append((out._a, counter, 0 if counter is None else counter[0]))
        else:
            entries.append(entry(inputs[k]))
    return entries


def entry(value: Any) -> Any:
    """Return what is kept of one value that a derivative needs."""
    if not isinstance(value, Tensor):
        return (value, None, 0)
    counter = value._counter
    if counter is None:
        raise RuntimeError(
            "Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in "
            "computation tracked by autograd. To work around this, you can make a clone to get a normal tensor and use it "
            "in autograd, or use `torch.no_grad()` instead of `torch.inference_mode()`."
        )
    return (value if value._view is None else alias(value), counter, counter[0])


FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward."
)


def saved_values(node: Node, as_arrays: bool = False) -> list[Any]:
    """Return what a node saved; RuntimeError when it was freed, or changed in place since.

    An input is a tensor unless `as_arrays`; an output is an array.
    """
    if node.saved is None:
        raise RuntimeError(FREED)
    values: list[Any] = []
    for kept in node.saved:
        if kept is None:
            values.append(None)
            continue
        value, counter, version = kept
        if counter is not None and counter[0] != version:
            raise RuntimeError(_modified(node, value, counter[0], version))
        values.append(value._a if as_arrays and isinstance(value, Tensor) else value)
    return values


def _plain_name(node: Node) -> str:
    """Return the operation's name as PyTorch has it in messages: `Add` for AddBackward0."""
    return re.sub(r"Backward\d*$", "", node.name())


def _modified(node: Node, value: Any, now: int, version: int) -> str:
    if isinstance(value, Tensor):
        edge = value._edge
    else:  # an output of the node itself
        edge, value = (node, 0), wrap(value)
    of = "" if edge is None else f", which is output {edge[1]} of {_plain_name(edge[0])},"
    return (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[{type_name(value)} {list(value._a.shape)}]{of} is at version {now}; expected version {version} instead. Hint: "
        "enable anomaly detection to find the operation that failed to compute its gradient, with "
        "torch.autograd.set_detect_anomaly(True, check_nan=False)."
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
