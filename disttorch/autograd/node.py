"""One recorded operation."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from disttorch.autograd.hooks import Hooks, RemovableHandle, add_hook

next_seq = itertools.count().__next__


class Node:
    """An operation in the graph: what made a tensor, and how its gradient flows on.

    * `op` gives `grad_name` and `backward(node, gradients, create_graph) -> gradients of the inputs`.
    * `edges[i]` says where the gradient of input i goes: `(Node, output number)`, `(leaf Tensor, 0)` or None.
    * `saved[j]` is (value, version counter, version at that time) of something that the derivative needs: an input
      tensor, the array of an output, or a number (whose counter is None). None in its place means it is not needed;
      `saved` itself is None once the graph has been freed.
    * `attrs` are the operation's other arguments; `meta` is (shape, NumPy dtype) of the output, a list of such for several.
    * `seq` grows with time and is drawn after the edges exist, so descending order is a topological order.
    """

    __slots__ = ("__weakref__", "attrs", "edges", "hooks", "meta", "op", "saved", "seq")

    op: Any
    edges: tuple[Any, ...]
    saved: Any
    attrs: tuple[Any, ...]
    meta: Any
    seq: int
    hooks: Hooks | None

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return 1 if type(self.meta) is tuple else len(self.meta)

    def meta_of(self, k: int) -> tuple[tuple[int, ...], Any]:
        """Return shape and NumPy dtype of output k."""
        return self.meta if type(self.meta) is tuple else self.meta[k]

    def name(self) -> str:
        """Return the name that PyTorch gives the operation's derivative, e.g. `AddBackward0`."""
        namer = getattr(self.op, "namer", None)  # where it depends on the call
        return self.op.grad_name if namer is None else namer(self)

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The nodes that take this one's gradients, each with an output number, as in PyTorch."""
        return tuple(
            (None, 0) if edge is None else (edge[0] if isinstance(edge[0], Node) else AccumulateGrad(edge[0]), edge[1])
            for edge in self.edges
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """Where the operation was called, when anomaly mode was on."""
        return {"traceback_": self.hooks.where} if self.hooks is not None and self.hooks.where else {}

    def own_hooks(self) -> Hooks:
        """Return the node's hook tables, made at first use."""
        if self.hooks is None:
            self.hooks = Hooks()
        return self.hooks

    def register_prehook(self, hook: Callable[[tuple[Any, ...]], Any]) -> RemovableHandle:
        """Call `hook(grad_outputs)` before the derivative; what it returns replaces the gradients."""
        return add_hook(self.own_hooks().before, hook)

    def register_hook(self, hook: Callable[[tuple[Any, ...], tuple[Any, ...]], Any]) -> RemovableHandle:
        """Call `hook(grad_inputs, grad_outputs)` after the derivative; what it returns replaces the first."""
        return add_hook(self.own_hooks().after, hook)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"


class AccumulateGrad:
    """The end of the graph at a leaf, as `next_functions` shows it: `variable` is the leaf."""

    __slots__ = ("variable",)

    next_functions: tuple[()] = ()

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    def name(self) -> str:
        return "AccumulateGrad"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return hash(id(self.variable))

    def register_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(grad_inputs, grad_outputs)` when the leaf's gradient has been accumulated."""
        table: OrderedDict[int, Any] = self.variable._own_hooks().accumulated
        return add_hook(table, lambda leaf: hook((), (leaf.grad,)))

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self):#x}>"
