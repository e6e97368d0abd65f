"""Derivatives as functions, to any order.

A transform gives the function new tensors in the place of its arguments: an alias of an argument that already requires
grad, so that transforms around this one, and `backward`, see through it; a new leaf for any other. Where nothing else in
the graph requires grad, the results come without one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from disttorch.autograd import engine
from disttorch.autograd.functional import rows
from disttorch.autograd.grad_mode import enable_grad, is_grad_enabled
from disttorch.autograd.tensor import Tensor
from disttorch.ops.creation import zeros_like
from disttorch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

Function = Callable[..., Any]


class _Level:
    """One call of a transform: which leaves it made, and whether the function still runs."""

    def __init__(self) -> None:
        self.running = True
        self.recorded = is_grad_enabled()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Level:
        return self

    def lift(self, value: Any) -> Any:
        """Return the tensor that the function gets in the place of `value`."""
        if not isinstance(value, Tensor):
            raise RuntimeError(f"expected a tensor to differentiate with respect to, got {type(value).__name__}")
        return value.view_as(value) if value.requires_grad else self.own(value.detach().requires_grad_())

    def own(self, leaf: Tensor) -> Tensor:
        """Mark a leaf as made by this level."""
        leaf.__dict__["_level"] = self
        return leaf

    def is_seen(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the tensors depend on something that is recorded outside of this level."""
        if not self.recorded:
            return False
        roots = [t._edge or (t, 0) for t in tensors if t.requires_grad]
        leaves = [t for t, _ in roots if isinstance(t, Tensor)]
        return any(self._is_outside(t) for t in (*leaves, *(t for t, _ in engine.reachable(roots)[1])))

    def _is_outside(self, leaf: Tensor) -> bool:
        owner = leaf.__dict__.get("_level")
        return owner is None or (owner is not self and owner.running)

    def settle(self, tree: Any) -> Any:
        """Return the results of the function, without a graph where only this level is in it."""

        def one(value: Any) -> Any:
            if not isinstance(value, Tensor) or not value.requires_grad or self.is_seen([value]):
                return value
            return value.detach()

        return tree_map(one, tree)


class _Run:
    """A function run on lifted arguments: `xs` are the tensors to differentiate with respect to, `y` the result."""

    def __init__(
        self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any], argnums: Any, has_aux: bool
    ) -> None:
        self.level = _Level()
        chosen, places = _chosen(args, argnums)
        leaves, self.spec = tree_flatten(chosen)
        with enable_grad():
            try:
                self.xs = [self.level.lift(leaf) for leaf in leaves]
                filled = tree_unflatten(self.xs, self.spec)
                new = list(args)
                for place, value in zip(places, filled if isinstance(argnums, tuple) else (filled,)):
                    new[place] = value
                result = func(*new, **kwargs)
            finally:
                self.level.running = False
        self.y, self.aux = _with_aux(result, has_aux)

    def slopes(self, ys: Sequence[Tensor], weights: Sequence[Tensor | None], create_graph: bool) -> list[Tensor]:
        """Return the gradients of ys with respect to `xs`; zeros where there are none."""
        return _slopes(ys, self.xs, weights, create_graph)


def _slopes(
    ys: Sequence[Tensor], xs: Sequence[Tensor], weights: Sequence[Tensor | None], create_graph: bool
) -> list[Tensor]:
    pairs = [(y, w) for y, w in zip(ys, weights) if y.requires_grad]
    if not pairs or not xs:
        return [zeros_like(x) for x in xs]
    outputs, given = zip(*pairs)
    with enable_grad():
        found = engine.grad(outputs, xs, given, retain_graph=True, create_graph=create_graph, allow_unused=True)
    return [zeros_like(x) if g is None else g for g, x in zip(found, xs)]


def _chosen(args: tuple[Any, ...], argnums: Any) -> tuple[Any, list[int]]:
    """Return the arguments to differentiate with respect to, as a tuple for several, and their places."""
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    if not numbers:
        raise RuntimeError("argnums must be non-empty")
    for number in numbers:
        if not isinstance(number, int):
            raise RuntimeError(f"argnums must be int or tuple of ints, got {type(number).__name__}")
        if not -len(args) <= number < len(args):
            raise RuntimeError(f"Got argnum={number}, but only {len(args)} positional inputs")
    places = [number % len(args) for number in numbers]
    if len(set(places)) != len(places):
        raise RuntimeError(f"argnums elements must be unique, got {argnums}")
    return (tuple(args[p] for p in places) if isinstance(argnums, tuple) else args[places[0]]), places


def _with_aux(result: Any, has_aux: bool) -> tuple[Any, tuple[Any] | None]:
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise RuntimeError("a function with has_aux=True must return a tuple (output, aux)")
    return result[0], (result[1],)


def _tensors_of(tree: Any, function: str) -> tuple[list[Tensor], TreeSpec]:
    leaves, spec = tree_flatten(tree)
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise RuntimeError(f"{function}: expected the function to return only tensors, got {type(leaf).__name__}")
    return leaves, spec


# -- gradients of scalars -----------------------------------------------------------------------------------------


def grad(func: Function, argnums: Any = 0, has_aux: bool = False) -> Function:
    """Return a function that returns the gradient of `func`, whose result is a 0-d tensor.

    The gradient is with respect to argument `argnums`, a tensor or nested containers of them, or a tuple of arguments.
    With `has_aux`, `func` returns (result, aux) and the new function (gradient, aux).

    >>> import disttorch as torch
    >>> grad(grad(torch.sin))(torch.tensor(0.5))
    tensor(-0.4794)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradient, value = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapper


def grad_and_value(func: Function, argnums: Any = 0, has_aux: bool = False) -> Function:
    """Return a function that returns (gradient, result) of `func`; with `has_aux`, (gradient, (result, aux))."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        run = _Run(func, args, kwargs, argnums, has_aux)
        y = run.y
        if not isinstance(y, Tensor):
            raise RuntimeError(f"grad expects a function that returns a tensor, got {type(y).__name__}")
        if y._a.ndim:
            raise RuntimeError(
                f"grad expects a function that returns a tensor of 0 dimensions, got shape {tuple(y.shape)}"
            )
        found = tree_unflatten(run.slopes([y], [None], run.level.is_seen([y])), run.spec)
        value = run.level.settle(y)
        return found, ((value, run.level.settle(run.aux[0])) if run.aux is not None else value)

    return wrapper


# -- products and matrices ----------------------------------------------------------------------------------------


def vjp(func: Function, *primals: Any, has_aux: bool = False) -> Any:
    """Return func(*primals) and a function of cotangents: their product with the Jacobian, a tuple with one per primal.

    For one primal the function returns the product itself in a tuple of one. With `has_aux`, (result, function, aux).
    """
    run = _Run(func, primals, {}, tuple(range(len(primals))), has_aux)
    ys, spec = _tensors_of(run.y, "vjp")
    seen = run.level.is_seen(ys)

    def products(cotangents: Any) -> Any:
        """Return the product of cotangents, of the shapes of the results, with the Jacobian."""
        given, own_spec = tree_flatten(cotangents)
        if len(given) != len(ys) or own_spec != spec:
            raise RuntimeError("the cotangents must have the structure of the function's result")
        for v, y in zip(given, ys):
            if v._a.shape != y._a.shape:
                raise RuntimeError(f"expected a cotangent of shape {tuple(y.shape)}, got {tuple(v.shape)}")
        keep = is_grad_enabled() and (seen or any(v.requires_grad for v in given))
        return tree_unflatten(run.slopes(ys, given, keep), run.spec)

    value = run.level.settle(run.y)
    return (value, products) if run.aux is None else (value, products, run.level.settle(run.aux[0]))


def jvp(func: Function, primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> Any:
    """Return func(*primals) and the product of its Jacobian with `tangents`: (result, product), or (result, product, aux).

    The product is the derivative of `vjp` with respect to its vector.
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise RuntimeError("jvp: expected primals and tangents to be tuples")
    run = _Run(func, primals, {}, tuple(range(len(primals))), has_aux)
    given, spec = tree_flatten(tangents)
    if spec != run.spec:
        raise RuntimeError("jvp: tangents must have the structure of primals")
    for t, x in zip(given, run.xs):
        if t._a.shape != x._a.shape:
            raise RuntimeError(f"jvp: expected a tangent of shape {tuple(x.shape)}, got {tuple(t.shape)}")
    ys, out_spec = _tensors_of(run.y, "jvp")
    product = tree_unflatten(_pushed(run, ys, given), out_spec)
    value = run.level.settle(run.y)
    return (value, product) if run.aux is None else (value, product, run.level.settle(run.aux[0]))


def _pushed(run: _Run, ys: Sequence[Tensor], tangents: Sequence[Tensor]) -> list[Tensor]:
    us = [run.level.own(zeros_like(y).requires_grad_()) for y in ys]
    products = _slopes(ys, run.xs, us, True)
    keep = run.level.is_seen([*ys, *tangents])
    return _slopes(products, us, tangents, keep)


def linearize(func: Function, *primals: Any) -> tuple[Any, Function]:
    """Return func(*primals) and a function of tangents: the product of the Jacobian at `primals` with them."""
    run = _Run(func, primals, {}, tuple(range(len(primals))), False)
    ys, out_spec = _tensors_of(run.y, "linearize")

    def products(*tangents: Any) -> Any:
        """Return the product of the Jacobian with tangents, of the shapes of the primals."""
        return tree_unflatten(_pushed(run, ys, tree_flatten(tangents)[0]), out_spec)

    return run.level.settle(run.y), products


def jacrev(func: Function, argnums: Any = 0, *, has_aux: bool = False, chunk_size: int | None = None) -> Function:
    """Return a function that returns the Jacobian of `func`: for each result, [*result.shape, *argument.shape].

    One backward pass for each element of the result; `chunk_size` is accepted and changes nothing.
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        run = _Run(func, args, kwargs, argnums, has_aux)
        ys, spec = _tensors_of(run.y, "jacrev")
        seen = run.level.is_seen(ys)
        blocks = [tree_unflatten(rows(y, run.xs, seen), run.spec) for y in ys]
        found = tree_unflatten(blocks, spec)
        return found if run.aux is None else (found, run.level.settle(run.aux[0]))

    return wrapper


def jacfwd(func: Function, argnums: Any = 0, has_aux: bool = False, *, randomness: str = "error") -> Function:
    """Return a function that returns the Jacobian of `func`: what `jacrev` computes, there is no forward mode."""
    return jacrev(func, argnums, has_aux=has_aux)


def hessian(func: Function, argnums: Any = 0) -> Function:
    """Return a function that returns the second derivatives of `func`: [*result.shape, *argument.shape, *argument.shape]."""
    return jacrev(jacrev(func, argnums), argnums)
