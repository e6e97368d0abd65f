"""How an operator is made: one kernel on arrays, and one derivative rule that serves every order.

    @unary(float_result=True)
    def exp(xp, x):
        return xp.exp(x)

    @exp.vjp
    def _(F, g, out):
        return g * out

A kernel gets the array library (`numpy`, `cupy`) and arrays. A rule gets `F`, the operators to use, and `g`, the
gradient of the result, and asks by the names of its other parameters for what it needs: an input of the kernel
(`x`), the result (`out`, or `outs` for several), an attribute (`dim`), an input's shape (`x_shape`). Only what some
rule asks for is saved. At first order `F` is `raw`, the same operators on arrays, and all values are arrays; under
`create_graph` it is `traced`, and they are tensors, so the rule is itself differentiable. An operator of several
inputs has one rule for each, or one rule for all that returns a tuple (None where there is no gradient).

A rule may also take `*, into=None`: memory of the input's shape and type in which the gradient is wanted, which it
writes to and returns if it can do so without a copy. It is given at first order only.

A rule never casts or sums its result to the input's type and shape: the engine does. It must not return one array for
two inputs, except `g` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import CodeType, SimpleNamespace
from typing import Any

from disttorch.autograd.node import Node
from disttorch.autograd.record import saved_values
from disttorch.autograd.tensor import Tensor, wrap

Kernel = Callable[..., Any]
Rule = Callable[..., Any]

raw = SimpleNamespace()
"""Every operator on arrays."""

traced = SimpleNamespace()
"""Every operator on tensors, recorded."""

OPERATORS: dict[str, Operator] = {}

_SAVED, _ATTR, _SHAPE, _NEEDS = range(4)


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    code: CodeType = function.__code__
    return code.co_varnames[: code.co_argcount]


class Operator:
    """A kernel, its rules, and what a node of it needs to know."""

    def __init__(
        self,
        kernel: Kernel,
        inputs: int | None,
        *,
        name: str = "",
        grad_name: str = "",
        differentiable: int | None = None,
    ) -> None:
        parameters = [p for p in _parameters(kernel)[1:] if p != "out"]
        self.kernel = kernel
        self.name = name or kernel.__name__
        self.grad_name = grad_name or _grad_name(self.name)
        self.variadic = inputs is None
        split = 1 if inputs is None else inputs
        self.inputs = parameters[:split]
        self.attrs = parameters[split:]
        self.differentiable = differentiable
        self.takes_out = "out" in _parameters(kernel)
        self.rules: dict[int, tuple[Rule, list[tuple[int, int]], list[int] | None]] = {}
        self.joint = False
        self.writers: set[int] = set()  # inputs whose rules take `into`
        self.slots: list[int] = []
        self._slots_of_rule: dict[int, list[int]] = {}
        self._plans: dict[tuple[bool, ...], tuple[int | None, ...]] = {}
        self.pointwise_plan: list[tuple[int | None, ...]] = [()] * 4
        self.function: Callable[..., Any] = kernel
        self.namer: Callable[[Node], str] | None = None

    def vjp(self, *inputs: str | Rule) -> Any:
        """Register a rule: `@op.vjp` for the only input or all of them together, `@op.vjp("x")` for one input."""
        if len(inputs) == 1 and callable(inputs[0]):
            return self._add_rule(inputs[0], 0, joint=len(self.inputs) > 1 or self.variadic)
        index = self.inputs.index(inputs[0])  # type: ignore[arg-type]
        return lambda rule: self._add_rule(rule, index, joint=False)

    def _add_rule(self, rule: Rule, index: int, joint: bool) -> Rule:
        self.joint = joint
        getters = []
        for name in _parameters(rule)[2:]:
            getters.append(self._getter(name))
        from_saved = [k for kind, k in getters if kind == _SAVED]
        self.rules[index] = (rule, getters, from_saved if len(from_saved) == len(getters) else None)
        self._slots_of_rule[index] = from_saved
        if "into" in (rule.__kwdefaults__ or ()):
            self.writers.add(index)
        if not self.variadic and len(self.inputs) <= 2 and not self.joint:
            self._plans.clear()
            self.pointwise_plan = [self.save_plan((m & 1 or None, m & 2 or None)[: len(self.inputs)]) for m in range(4)]
        return rule

    def _getter(self, name: str) -> tuple[int, int]:
        if name in self.attrs:
            return _ATTR, self.attrs.index(name)
        if name.endswith(("_shape", "_shapes")):
            return _SHAPE, 0 if self.variadic else self.inputs.index(name.removesuffix("_shape"))
        if name == "needs":
            return _NEEDS, 0
        if name.startswith("out"):
            source = -1 - int(name[3:] or 0)
        elif name in self.inputs:
            source = self.inputs.index(name)
        else:
            raise TypeError(
                f"the rule of {self.name} asks for '{name}', which is neither an input ({', '.join(self.inputs)}), "
                f"an attribute ({', '.join(self.attrs)}), an output nor a shape"
            )
        if source not in self.slots:
            self.slots.append(source)
        return _SAVED, self.slots.index(source)

    def save_plan(self, edges: Sequence[Any]) -> tuple[int | None, ...]:
        """Return what to save, given which inputs need a gradient: input k, output -1-k, or None for nothing."""
        if not self.slots:
            return ()
        if self.joint:
            return tuple(self.slots)
        mask = tuple([edge is not None for edge in edges])
        plan = self._plans.get(mask)
        if plan is None:
            used = {k for i, rule in self._slots_of_rule.items() if mask[i] for k in rule}
            plan = tuple(source if k in used else None for k, source in enumerate(self.slots))
            self._plans[mask] = plan
        return plan

    def backward(self, node: Node, g: Any, create_graph: bool) -> Sequence[Any]:
        """Return the gradients of a node's inputs."""
        saved: Sequence[Any] = ()
        if node.saved or node.saved is None:
            saved = saved_values(node, as_arrays=not create_graph)
            if create_graph:
                saved = [
                    v if s >= 0 else self._output(node, e, -1 - s)
                    for v, e, s in zip(saved, node.saved or (), self.slots)
                ]
        F = traced if create_graph else raw
        if self.joint:
            rule, getters, _ = self.rules[0]
            results = rule(F, g, *self._arguments(getters, saved, node))
            return results if isinstance(results, (tuple, list)) else (results,)
        results = []
        for index, edge in enumerate(node.edges):
            if edge is None:
                results.append(None)
                continue
            rule, getters, from_saved = self.rules.get(index) or self._no_rule(index)
            if from_saved is None:
                results.append(rule(F, g, *self._arguments(getters, saved, node)))
            elif len(from_saved) == 1:
                results.append(rule(F, g, saved[from_saved[0]]))
            else:
                results.append(rule(F, g, *[saved[k] for k in from_saved]))
        return results

    def backward_into(self, node: Node, g: Any, memory: Mapping[Any, Any]) -> Sequence[Any]:
        """Return the same at first order, with gradients in the memory that is wanted for an edge where that can be had."""
        saved = saved_values(node, as_arrays=True) if node.saved or node.saved is None else ()
        results: list[Any] = []
        for index, edge in enumerate(node.edges):
            if edge is None:
                results.append(None)
                continue
            rule, getters, _ = self.rules.get(index) or self._no_rule(index)
            arguments = self._arguments(getters, saved, node)
            into = memory.get(edge) if index in self.writers else None
            if into is None or edge[0]._grad is not None:
                results.append(rule(raw, g, *arguments))
            else:
                results.append(rule(raw, g, *arguments, into=into))
        return results

    def _no_rule(self, index: int) -> Any:
        raise RuntimeError(f"derivative for {self.name} with respect to '{self.inputs[index]}' is not implemented")

    def _arguments(self, getters: Sequence[tuple[int, int]], saved: Sequence[Any], node: Node) -> list[Any]:
        arguments: list[Any] = []
        for kind, k in getters:
            if kind == _SAVED:
                arguments.append(saved[k])
            elif kind == _ATTR:
                arguments.append(node.attrs[k])
            elif kind == _NEEDS:
                arguments.append(tuple(edge is not None for edge in node.edges))
            elif self.variadic:
                arguments.append([_shape_at(edge) for edge in node.edges])
            else:
                arguments.append(_shape_at(node.edges[k]))
        return arguments

    def _output(self, node: Node, entry: Any, k: int) -> Tensor | None:
        """Return a saved output with its place in the graph, for a derivative that is itself recorded."""
        if entry is None:
            return None
        out = wrap(entry[0])
        out._counter = entry[1]
        if self.differentiable is None or k < self.differentiable:
            out._edge, out._requires_grad = (node, k), True
        return out

    def replay(self, tensor: Tensor, output: int, attrs: tuple[Any, ...]) -> Tensor:
        """Apply a view operator again, for a view whose base has changed."""
        result = self.function(tensor, *attrs)
        return result if isinstance(result, Tensor) else result[output]


def _grad_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.strip("_").split("_")) + "Backward0"


def _shape_at(edge: Any) -> tuple[int, ...] | None:
    if edge is None:
        return None
    target, k = edge
    return target.meta_of(k)[0] if isinstance(target, Node) else target._a.shape


def register(op: Operator, on_arrays: Callable[..., Any], on_tensors: Callable[..., Any]) -> None:
    """Put an operator into both namespaces."""
    if op.name in OPERATORS:
        raise ValueError(f"the operator {op.name} is registered twice")
    OPERATORS[op.name] = op
    op.function = on_tensors
    setattr(raw, op.name, on_arrays)
    setattr(traced, op.name, on_tensors)
    on_tensors.op = op  # type: ignore[attr-defined]
    on_tensors.vjp = op.vjp  # type: ignore[attr-defined]


def both(name: str, on_arrays: Callable[..., Any], on_tensors: Callable[..., Any]) -> None:
    """Put a pair of functions that are no operators themselves into the namespaces, for rules to use."""
    setattr(raw, name, on_arrays)
    setattr(traced, name, on_tensors)
