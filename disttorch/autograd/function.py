"""Operations with a derivative written by the user."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from disttorch.autograd import grad_mode
from disttorch.autograd.node import Node, next_seq
from disttorch.autograd.record import FREED, edge_to, entry, saved_values
from disttorch.autograd.tensor import Tensor, new, wrap
from disttorch.autograd.views import check_inplace, written
from disttorch.backends import backend_of


class FunctionCtx:
    """What `forward` hands to `backward`: saved tensors, and any attribute that the user sets."""

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._to_save: tuple[Any, ...] = ()
        self._node: weakref.ref[Node] | None = None  # weak: the node holds this object
        self._dirty: tuple[Tensor, ...] = ()
        self._without_grad: set[int] = set()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs or outputs for `backward`, which finds them in `ctx.saved_tensors`."""
        self._to_save = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs `forward` changed in place; they must be among its results."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which results carry no gradient."""
        self._without_grad = {id(t) for t in tensors}

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default) or None for a result without a gradient."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What `save_for_backward` kept; RuntimeError once the graph is freed, or after an in-place change."""
        if self._node is None:
            return self._to_save
        node = self._node()
        if node is None:
            raise RuntimeError(FREED)
        return tuple(node.op.with_graph(node, j, value) for j, value in enumerate(saved_values(node)))


class _FunctionOp:
    """What a node needs from an operator, for one call of a user's Function."""

    differentiable = None
    writers = ()

    def __init__(self, function: type[Function], ctx: FunctionCtx, outputs: dict[int, int]) -> None:
        self.grad_name = function.__name__ + "Backward"
        self.function = function
        self.ctx = ctx
        self.outputs = outputs

    def with_graph(self, node: Node, j: int, saved: Any) -> Any:
        """Return saved tensor j; an output gets its place in the graph back."""
        k = self.outputs.get(j)
        if k is None:
            return saved
        out = wrap(saved)
        out._counter = node.saved[j][1]
        out._edge, out._requires_grad = (node, k), True
        return out

    def backward(self, node: Node, g: Any, create_graph: bool) -> Sequence[Any]:
        """Call the user's `backward` with tensors and return arrays, or tensors under `create_graph`."""
        if node.saved is None:
            raise RuntimeError(FREED)
        given = g if node.outputs > 1 else [g]
        like = next((x for x in given if x is not None), None)
        gradients = [self._incoming(node, k, x, like) for k, x in enumerate(given)]
        results = self.function.backward(self.ctx, *gradients)
        results = (results,) if not isinstance(results, tuple) else results
        if len(results) > len(node.edges) and any(r is not None for r in results[len(node.edges) :]):
            raise RuntimeError(
                f"function {self.grad_name} returned an incorrect number of gradients (expected {len(node.edges)}, got "
                f"{len(results)})"
            )
        if len(results) < len(node.edges):
            raise RuntimeError(
                f"function {self.grad_name} returned an incorrect number of gradients (expected {len(node.edges)}, got "
                f"{len(results)})"
            )
        for i, (edge, result) in enumerate(zip(node.edges, results)):
            if edge is not None and result is not None and not isinstance(result, Tensor):
                raise TypeError(
                    f"{self.grad_name} returned {type(result).__name__} as gradient {i}: expected Variable (a tensor) or None"
                )
            if edge is not None and result is not None:
                self._check_shape(i, result._a.shape, edge)
        if create_graph:
            return results
        return [None if r is None or edge is None else r._a for r, edge in zip(results, node.edges)]

    def _check_shape(self, i: int, shape: tuple[int, ...], edge: Any) -> None:
        """Raise RuntimeError unless gradient i can be summed to the shape of its input."""
        target, k = edge
        want = target.meta_of(k)[0] if isinstance(target, Node) else target._a.shape
        if len(shape) < len(want) or any(m not in (n, 1) for m, n in zip(want[::-1], shape[::-1])):
            raise RuntimeError(
                f"Function {self.grad_name} returned an invalid gradient at index {i} - got {list(shape)} but expected shape "
                f"compatible with {list(want)}"
            )

    def _incoming(self, node: Node, k: int, gradient: Any, like: Any) -> Tensor | None:
        if gradient is None:
            return self._zeros(node, k, like) if self.ctx._materialize else None
        return gradient if isinstance(gradient, Tensor) else wrap(gradient)

    def _zeros(self, node: Node, k: int, like: Any) -> Tensor:
        """Return zeros in the place of a gradient that did not come, on the device of one that did."""
        shape, dtype = node.meta_of(k)
        xp = np if like is None else backend_of(getattr(like, "_a", like)).namespace
        return wrap(xp.zeros(shape, dtype))


class Function:
    """An operation with its own derivative: subclass it, write `forward` and `backward`, call `apply`.

    `forward(ctx, *args)`, or `forward(*args)` with `setup_context(ctx, inputs, output)`, computes with tensors that
    are not recorded. `backward(ctx, *grad_outputs)` returns one gradient (or None) for each argument of `forward`.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the results; to be written by the subclass."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what `backward` needs, where `forward` takes no ctx; to be written by the subclass."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Return the gradients of the arguments; to be written by the subclass."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with backward "
            "mode AD."
        )

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the operation and record it."""
        ctx = FunctionCtx()
        edges = tuple(edge_to(a) for a in args) if grad_mode.mode.enabled else (None,) * len(args)
        ctx.needs_input_grad = tuple(edge is not None for edge in edges)
        with grad_mode.no_grad():
            if cls.setup_context is Function.setup_context:
                results = cls.forward(ctx, *args)
            else:
                results = cls.forward(*args)
                cls.setup_context(ctx, args, results)
        single = not isinstance(results, tuple)
        outputs = [_as_output(r, args, ctx) for r in ((results,) if single else results)]
        if any(edges):
            _record(cls, ctx, edges, outputs)
        return outputs[0] if single else tuple(outputs)


def _as_output(result: Any, args: tuple[Any, ...], ctx: FunctionCtx) -> Any:
    """Return a result as a tensor of its own: an input that is handed through unchanged becomes an alias."""
    if not isinstance(result, Tensor):
        return result
    if any(result is d for d in ctx._dirty):
        check_inplace(result)
        written(result)
        return result
    if any(result is a for a in args):
        return result.detach()
    return result


def _record(cls: type[Function], ctx: FunctionCtx, edges: tuple[Any, ...], outputs: list[Any]) -> None:
    tensors = [o for o in outputs if isinstance(o, Tensor)]
    node = new(Node)
    node.edges, node.attrs, node.hooks = edges, (), None
    kept: list[Any] = []
    places: dict[int, int] = {}
    for j, saved in enumerate(ctx._to_save):
        k = next((k for k, t in enumerate(tensors) if t is saved), None)
        if k is None:
            kept.append(None if saved is None else entry(saved))
        else:  # an output: its tensor would hold the node, a cycle
            places[j] = k
            kept.append((saved._a, saved._counter, saved._version))
    node.op = _FunctionOp(cls, ctx, places)
    node.saved = kept
    metas = [(t._a.shape, t._a.dtype) for t in tensors]
    node.meta = metas[0] if len(metas) == 1 else metas
    node.seq = next_seq()
    ctx._node = weakref.ref(node)
    ctx._to_save = ()
    for k, t in enumerate(tensors):
        if t._a.dtype.kind not in "biu" and id(t) not in ctx._without_grad:
            t._edge, t._requires_grad = (node, k), True


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a `backward` that cannot itself be differentiated: a second derivative raises RuntimeError."""

    @functools.wraps(backward)
    def wrapper(ctx: Any, *gradients: Any) -> Any:
        with grad_mode.no_grad():
            results = backward(ctx, *gradients)
        if not grad_mode.mode.enabled or not any(isinstance(g, Tensor) and g.requires_grad for g in gradients):
            return results
        several = results if isinstance(results, tuple) else (results,)
        refused = tuple(_Refuse.apply(r, *gradients) if isinstance(r, Tensor) else r for r in several)
        return refused if isinstance(results, tuple) else refused[0]

    return wrapper


class _Refuse(Function):
    """Passes a gradient on and refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, *gradients: Any) -> Tensor:
        return result.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
