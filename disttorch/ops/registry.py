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

A rule never casts or sums its result to the input's type and shape: the engine does. It must not return one array for
two inputs, except `g` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    code: CodeType = function.__code__  # type: ignore[attr-defined]
    return code.co_varnames[: code.co_argcount]


class Operator:
    """A kernel, its rules, and what a node of it needs to know."""

    def __init__(self, kernel: Kernel, inputs: int | None, *, name: str = "", grad_name: str = "", differentiable: int | None = None) -> None:
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
        self.rules: dict[int, tuple[Rule, list[tuple[int, int]]]] = {}
        self.joint = False
        self.slots: list[int] = []
        self._slots_of_rule: dict[int, list[int]] = {}
        self._plans: dict[tuple[bool, ...], tuple[int | None, ...]] = {}
        self.function: Callable[..., Any] = kernel

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
        self.rules[index] = (rule, getters)
        self._slots_of_rule[index] = [k for kind, k in getters if kind == _SAVED]
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
        saved: Sequence[Any] = saved_values(node)
        if create_graph:
            saved = [v if s is None or s >= 0 else self._output(node, v, -1 - s) for v, s in zip(saved, self.slots)]
        elif saved:
            saved = [v._a if isinstance(v, Tensor) else v for v in saved]
        F = traced if create_graph else raw
        if self.joint:
            results = self._apply(0, F, g, saved, node)
            return results if isinstance(results, (tuple, list)) else (results,)
        return [
            None if edge is None else self._apply(i, F, g, saved, node) for i, edge in enumerate(node.edges)
        ]

    def _apply(self, index: int, F: Any, g: Any, saved: Sequence[Any], node: Node) -> Any:
        try:
            rule, getters = self.rules[index]
        except KeyError:
            raise RuntimeError(f"derivative for {self.name} with respect to '{self.inputs[index]}' is not implemented") from None
        arguments = []
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
        return rule(F, g, *arguments)

    def _output(self, node: Node, saved: Tensor, k: int) -> Tensor:
        """Return a saved output with its place in the graph, for a derivative that is itself recorded."""
        out = wrap(saved._a)
        out._counter = saved._counter
        if self.differentiable is None or k < self.differentiable:
            out._fn, out._out_nr, out._requires_grad = node, k, True
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
    return target.meta[k][0] if isinstance(target, Node) else target._a.shape


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
