"""The backward pass.

Nodes are visited in descending order of `seq`, which is a topological order, without recursion. At first order
the gradients are plain arrays; under `create_graph` they are tensors and every step is recorded itself. A leaf is
finished as soon as its last use has been visited, so that its hooks run while the rest of the pass goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any

from disttorch.autograd import grad_mode
from disttorch.autograd.gradients import ARRAYS, TENSORS, ArrayGradients, TensorGradients
from disttorch.autograd.node import Node
from disttorch.autograd.record import edge_to
from disttorch.autograd.tensor import Tensor
from disttorch.core import observe

Edge = tuple[Any, int]


class _Passes(threading.local):
    running: Sweep | None = None
    outermost: Sweep | None = None


_current = _Passes()


def queue_callback(callback: Callable[[], None]) -> None:
    """Call `callback` when the backward pass that now runs in this thread has finished."""
    if _current.running is None:
        raise RuntimeError("Final callbacks can only be installed during backward pass.")
    _current.running.callbacks.append(callback)


def outermost_pass() -> Sweep | None:
    """Return the backward pass that runs in this thread, the outer one where backward has called backward."""
    return _current.outermost


class Sweep:
    """One backward pass from `roots`, with `targets` (edges) to stop at; without targets, to every leaf."""

    def __init__(self, roots: Sequence[Edge], targets: Sequence[Edge] | None, retain: bool, create_graph: bool) -> None:
        self.space: ArrayGradients | TensorGradients = TENSORS if create_graph else ARRAYS
        self.retain = retain
        self.create_graph = create_graph
        self.accumulate = targets is None
        self.captured: dict[Edge, Any] = dict.fromkeys(targets or ())
        self.pending: dict[Edge, Any] = {}
        self.owned: set[Edge] = set()
        self.callbacks: list[Callable[[], None]] = []
        self.memory: dict[Edge, Any] = {}
        self.nodes, self.uses = reachable(roots)
        if targets is not None:
            self.nodes = _leading_to(self.nodes, self.captured)
        for edge in roots:
            if not isinstance(edge[0], Node):
                self.uses[edge] = self.uses.get(edge, 0) + 1

    def run(self, roots: Sequence[Edge], gradients: Sequence[Any]) -> None:
        """Carry `gradients` of the roots down the graph."""
        for edge, gradient in zip(roots, gradients):
            self.deposit(edge, gradient, fresh=False)
        for edge in roots:
            if not isinstance(edge[0], Node):
                self.used(edge)
        plain = not (grad_mode.mode.anomaly or self.captured)
        pending = self.pending
        if plain and self.accumulate and not self.create_graph:
            self.memory = self.wanted_memory()
        memory = self.memory
        for node in self.nodes:
            incoming = pending.pop((node, 0), None) if type(node.meta) is tuple else self.take(node)
            if node.hooks is None and plain:
                if incoming is None:
                    results: Sequence[Any] = ()
                elif memory and node.op.writers:
                    results = node.op.backward_into(node, incoming, memory)
                else:
                    results = node.op.backward(node, incoming, self.create_graph)
            else:
                results = self.differentiate(node, self.seen(node, incoming))
            self.spread(node, incoming, results)

    def wanted_memory(self) -> dict[Edge, Any]:
        """Ask the leaves that this pass uses once, and that have no gradient yet, where to put it."""
        found = {}
        answers: dict[Callable[[], bytes | None], bytes | None] = {}
        for edge, uses in self.uses.items():
            hooks = edge[0].__dict__.get("_hooks")
            if hooks is None or hooks.memory is None or hooks.gradient or uses != 1 or edge[0]._grad is not None:
                continue
            memory = hooks.memory
            if memory.free not in answers:
                answers[memory.free] = memory.free()
            free = answers[memory.free]
            if free is not None and free[memory.index]:
                found[edge] = memory.array
        return found

    def take(self, node: Node) -> Any:
        """Return the gradients that have arrived for a node with several outputs, as a list; None for none at all."""
        gradients = [self.pending.pop((node, k), None) for k in range(node.outputs)]
        return None if all(g is None for g in gradients) else gradients

    def spread(self, node: Node, incoming: Any, results: Sequence[Any]) -> None:
        """Put the gradients of a node's inputs where its edges lead, fitted to the inputs' shapes and types."""
        space, pending = self.space, self.pending
        for edge, result in zip_longest(node.edges, results):
            if edge is None:
                continue
            target, k = edge
            if type(target) is Node:
                if result is not None:
                    meta = target.meta
                    shape, dtype = meta if type(meta) is tuple else meta[k]
                    result = space.fit(result, shape, dtype)
                    if edge in pending:
                        self.deposit(edge, result, False)
                    else:
                        pending[edge] = result
                continue
            if result is not None:
                result = space.fit(result, target._a.shape, target._a.dtype)
                fresh = space.is_fresh(result, incoming, node.saved) or result is self.memory.get(edge)
                self.deposit(edge, result, fresh)
            self.used(edge)
        if node.saved and not self.retain:
            node.saved = None

    def seen(self, node: Node, incoming: Any) -> Any:
        """Show a node's gradients to its hooks, and keep those that were asked for."""
        hooks, several = node.hooks, node.outputs > 1
        gradients = incoming if several and incoming is not None else [incoming] * node.outputs
        if hooks is not None:
            gradients = self.run_gradient_hooks(hooks, list(gradients))
        for k, gradient in enumerate(gradients):
            if (node, k) in self.captured:
                self.captured[node, k] = gradient
        if all(g is None for g in gradients):
            return None
        if hooks is not None and hooks.before:
            gradients = self.run_node_hooks(hooks.before, gradients)
        return gradients if several else gradients[0]

    def differentiate(self, node: Node, incoming: Any) -> Sequence[Any]:
        """Apply the node's derivative, with its hooks and the checks of anomaly mode."""
        if incoming is None:
            return ()
        try:
            results = node.op.backward(node, incoming, self.create_graph)
        except Exception as error:
            if node.hooks is not None and node.hooks.where:
                error.add_note(_called_at(node)) if hasattr(error, "add_note") else None
            raise
        if grad_mode.mode.anomaly and grad_mode.mode.check_nan:
            for i, result in enumerate(results):
                if result is not None and self.space.has_nan(result):
                    raise RuntimeError(
                        f"Function '{node.name()}' returned nan values in its {i}th output.\n{_called_at(node)}"
                    )
        if node.hooks is not None and node.hooks.after:
            results = self.run_node_hooks(node.hooks.after, list(results), incoming)
        return results

    def deposit(self, edge: Edge, gradient: Any, fresh: bool) -> None:
        """Add a gradient to what has arrived at the end of an edge; a fresh one may be changed in place later."""
        before = self.pending.get(edge)
        if before is None:
            self.pending[edge] = gradient
            if fresh:
                self.owned.add(edge)
        elif edge in self.owned:
            self.pending[edge] = self.space.add_into(before, gradient)
        else:
            self.pending[edge] = self.space.add(before, gradient)
            self.owned.add(edge)

    def used(self, edge: Edge) -> None:
        """Count a visited use of a leaf; at the last one its gradient is complete."""
        self.uses[edge] -= 1
        if self.uses[edge]:
            return
        gradient = self.pending.pop(edge, None)
        leaf = edge[0]
        hooks = leaf.__dict__.get("_hooks")
        if gradient is not None and hooks is not None and hooks.gradient:
            gradient = self.run_gradient_hooks(hooks, [gradient])[0]
        if edge in self.captured:
            self.captured[edge] = gradient
        if gradient is None or not self.accumulate:
            return
        self.space.accumulate(leaf, gradient, edge in self.owned)
        if hooks is not None:
            for hook in list(hooks.accumulated.values()):
                hook(leaf)

    def keep(self, tensor: Tensor, edge: Edge) -> None:
        """Add what was captured at an edge to the `.grad` of its tensor, and call a leaf's hooks on that."""
        gradient = self.captured[edge]
        if gradient is None:
            return
        self.space.accumulate(tensor, gradient, fresh=False)
        hooks = tensor.__dict__.get("_hooks")
        if hooks is not None and tensor._edge is None:
            for hook in list(hooks.accumulated.values()):
                hook(tensor)

    def run_gradient_hooks(self, hooks: Any, incoming: list[Any]) -> list[Any]:
        """Apply tensor hooks to the gradients of a node's outputs, and keep those of `retain_grad`."""
        for k, table in hooks.gradient.items():
            for hook in list(table.values()):
                if incoming[k] is not None:
                    replaced = hook(self.space.to_tensor(incoming[k]))
                    if replaced is not None:
                        incoming[k] = self.space.from_tensor(replaced)
        for k, reference in hooks.retained.items():
            tensor = reference()
            if tensor is not None and incoming[k] is not None:
                self.space.accumulate(tensor, incoming[k], fresh=False)
        return incoming

    def run_node_hooks(self, table: Any, values: list[Any], incoming: Any = None) -> list[Any]:
        """Apply a node's own hooks; `values` are the gradients that they may replace."""
        space = self.space
        for hook in list(table.values()):
            shown = tuple(None if v is None else space.to_tensor(v) for v in values)
            if incoming is None:
                replaced = hook(shown)
            else:
                listed = incoming if isinstance(incoming, list) else [incoming]
                replaced = hook(shown, tuple(None if v is None else space.to_tensor(v) for v in listed))
            if replaced is not None:
                replaced = (replaced,) if isinstance(replaced, Tensor) else replaced
                values = [None if v is None else space.from_tensor(v) for v in replaced]
        return values


def _called_at(node: Node) -> str:
    where = node.hooks.where if node.hooks is not None else ""
    if not where:
        return ""
    return f"Error detected in {node.name()}. Traceback of forward call that caused the error:\n{where}"


def reachable(roots: Iterable[Edge]) -> tuple[list[Node], dict[Edge, int]]:
    """Return the nodes below the roots, last made first, and how often each leaf is used."""
    stack = [edge[0] for edge in roots if isinstance(edge[0], Node)]
    seen = set(stack)
    stack = list(seen)
    nodes = []
    uses: dict[Edge, int] = {}
    while stack:
        node = stack.pop()
        nodes.append(node)
        for edge in node.edges:
            if edge is None:
                continue
            target = edge[0]
            if not isinstance(target, Node):
                uses[edge] = uses.get(edge, 0) + 1
            elif target not in seen:
                seen.add(target)
                stack.append(target)
    nodes.sort(key=lambda node: node.seq, reverse=True)
    return nodes, uses


def _leading_to(nodes: list[Node], targets: dict[Edge, Any]) -> list[Node]:
    """Return those nodes from which a target can be reached, and the targets' own nodes."""
    ends = {edge[0] for edge in targets}
    leading: set[Any] = set()
    for node in reversed(nodes):
        if any(edge is not None and (edge in targets or edge[0] in leading) for edge in node.edges):
            leading.add(node)
    return [node for node in nodes if node in leading or node in ends]


def _start(
    outputs: Sequence[Tensor], gradients: Sequence[Tensor | None], create_graph: bool
) -> tuple[list[Edge], list[Any]]:
    """Return the edges of the outputs and their initial gradients, checked."""
    space = TENSORS if create_graph else ARRAYS
    if len(gradients) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(gradients)} gradients")
    edges, initial = [], []
    for i, (output, gradient) in enumerate(zip(outputs, gradients)):
        edge = edge_to(output)
        if edge is None:
            raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        if gradient is None:
            if output._a.size != 1:
                raise RuntimeError("grad can be implicitly created only for scalar outputs")
            gradient = space.ones_like(output)
        elif gradient._a.shape != output._a.shape:
            raise RuntimeError(
                f"Mismatch in shape: grad_output[{i}] has a shape of {gradient.shape} and output[{i}] has a shape of "
                f"{output.shape}."
            )
        elif gradient._a.dtype.kind == "c" and output._a.dtype.kind != "c":
            raise RuntimeError(
                "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in dtype: "
                f"grad_output[{i}] has a dtype of {gradient.dtype!r} and output[{i}] has a dtype of {output.dtype!r}."
            )
        edges.append(edge)
        initial.append(space.fit(space.from_tensor(gradient), output._a.shape, output._a.dtype))
    return edges, initial


def _sweep(
    sweep: Sweep, edges: Sequence[Edge], gradients: Sequence[Any], keep: Sequence[tuple[Tensor, Edge]] = ()
) -> None:
    """Run a pass and what was queued for its end; each tensor of `keep` gets as `.grad` what its edge has captured."""
    observer = observe.observer
    begun = 0 if observer is None else time.monotonic_ns()
    outer, _current.running = _current.running, sweep
    if outer is None:
        _current.outermost = sweep
    try:
        with grad_mode.set_grad_enabled(sweep.create_graph):
            sweep.run(edges, gradients)
            for tensor, edge in keep:
                sweep.keep(tensor, edge)
        for callback in sweep.callbacks:
            callback()
    finally:
        sweep.memory = {}
        _current.running = outer
        if outer is None:
            _current.outermost = None
        if observer is not None:
            observer("backward", begun, time.monotonic_ns(), "compute")


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, Tensor) or value is None else list(value)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of `tensors` to `.grad` of the leaves (or only of `inputs`), as `torch.autograd.backward`.

    `grad_tensors` are the gradients of `tensors` (same shapes); None for one with a single element.
    """
    outputs = _listed(tensors)
    gradients = [None] * len(outputs) if grad_tensors is None else _listed(grad_tensors)
    edges, initial = _start(outputs, gradients, create_graph)
    retain = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        _sweep(Sweep(edges, None, retain, create_graph), edges, initial)
        return
    wanted = _listed(inputs)
    if not wanted:
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    targets = _targets(wanted)
    sweep = Sweep(edges, targets, retain, create_graph)
    _sweep(sweep, edges, initial, list(zip(wanted, targets)))


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `outputs` with respect to `inputs`, as `torch.autograd.grad`; no `.grad` changes.

    An input that the outputs do not depend on raises RuntimeError, unless `allow_unused` (then None) or
    `materialize_grads` (then zeros).
    """
    if is_grads_batched:
        raise RuntimeError("grad(is_grads_batched=True) is not in disttorch; call grad once for each gradient")
    if allow_unused is False and materialize_grads:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    listed = _listed(outputs)
    gradients = [None] * len(listed) if grad_outputs is None else _listed(grad_outputs)
    edges, initial = _start(listed, gradients, create_graph)
    wanted = _listed(inputs)
    if not wanted:
        raise ValueError("grad requires non-empty inputs.")
    targets = _targets(wanted)
    sweep = Sweep(edges, targets, create_graph if retain_graph is None else retain_graph, create_graph)
    _sweep(sweep, edges, initial)
    results: list[Tensor | None] = []
    for index, (tensor, edge) in enumerate(zip(wanted, targets)):
        found = sweep.captured[edge]
        if found is not None:
            results.append(sweep.space.to_tensor(found))
        elif materialize_grads:
            results.append(TENSORS.zeros_like(tensor))
        elif allow_unused:
            results.append(None)
        else:
            raise RuntimeError(
                f"The differentiated Tensor at index {index} appears to not have been used in the graph. Set "
                "allow_unused=True if this is the desired behavior."
            )
    return tuple(results)


def _targets(tensors: Sequence[Tensor]) -> list[Edge]:
    targets = []
    for tensor in tensors:
        edge = edge_to(tensor)
        if edge is None:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
        targets.append(edge)
    return targets
