"""Derivatives of functions: `torch.autograd.functional`.

All are made of the backward pass: a product with the Jacobian from the left is one pass, a product from the right is the
derivative of that product, and a whole Jacobian is one pass for each element of the result. This module imports the
operators and is imported after them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from disttorch.autograd import engine
from disttorch.autograd.grad_mode import enable_grad, is_grad_enabled, set_grad_enabled
from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.ops.creation import ones_like, zeros, zeros_like
from disttorch.ops.join import stack

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Tensors = Tensor | tuple[Tensor, ...]
Function = Callable[..., Any]


# -- arguments and results ----------------------------------------------------------------------------------------


def _tuple(value: Any, what: str, function: str) -> tuple[bool, tuple[Tensor, ...]]:
    """Return whether `value` was a tuple, and it as a tuple of tensors; TypeError for anything else."""
    values = value if isinstance(value, tuple) else (value,)
    for i, v in enumerate(values):
        if not isinstance(v, Tensor):
            where = f"the value at index {i}" if isinstance(value, tuple) else f"the given {what}"
            raise TypeError(
                f"The {what} given to {function} must be either a Tensor or a tuple of Tensors but {where} has type {type(v)}."
            )
    return isinstance(value, tuple), values


def _fresh(inputs: Sequence[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
    """Return new tensors on the same memory, so that only their use as arguments counts."""
    return tuple(x.view_as(x) if create_graph and x.requires_grad else x.detach().requires_grad_() for x in inputs)


def _called(func: Function, xs: tuple[Tensor, ...], name: str, strict: bool) -> tuple[bool, tuple[Tensor, ...]]:
    many, ys = _tuple(func(*xs), "outputs of the user-provided function", name)
    for i, y in enumerate(ys):
        if strict and not y.requires_grad:
            raise RuntimeError(
                f"Output {i} of the user-provided function does not require gradients. The outputs must be computed in a "
                "differentiable manner from the input when running in strict mode."
            )
    return many, ys


def _weights(v: Any, like: Sequence[Tensor], of: str, name: str) -> tuple[Tensor, ...]:
    """Return the vector of a product, checked against the tensors that it belongs to; ones for None and one element."""
    if v is None:
        if len(like) != 1 or like[0]._a.size != 1:
            raise RuntimeError(
                f"The vector v can only be None if the user-provided function has one {of} of one element."
            )
        return (ones_like(like[0]),)
    vs = _tuple(v, "v", name)[1]
    if len(vs) != len(like):
        raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(vs)}.")
    for i, (one, x) in enumerate(zip(vs, like)):
        if one._a.shape != x._a.shape:
            raise RuntimeError(f"Entry {i} in v has invalid size: should be {x.shape} but got {one.shape}.")
    return vs


def _gradients(
    ys: Sequence[Tensor | None], xs: Sequence[Tensor], vs: Sequence[Tensor | None], create_graph: bool
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the outputs that have any; None for an input that they do not depend on."""
    pairs = [(y, v) for y, v in zip(ys, vs) if y is not None and y.requires_grad]
    if not pairs:
        return (None,) * len(xs)
    outputs, weights = zip(*pairs)
    return engine.grad(outputs, xs, weights, retain_graph=True, create_graph=create_graph, allow_unused=True)


def _filled(found: Sequence[Tensor | None], like: Sequence[Tensor], strict: bool, grad: bool) -> tuple[Tensor, ...]:
    """Return zeros where there is no gradient; with `strict`, RuntimeError (with `grad`, also for a constant one)."""
    for i, g in enumerate(found):
        if strict and g is None:
            raise RuntimeError(
                f"The output of the user-provided function is independent of input {i}. This is not allowed in strict mode."
            )
        if strict and grad and g is not None and not g.requires_grad:
            raise RuntimeError(
                f"The gradient with respect to input {i} is independent of the inputs of the user-provided function. This is "
                "not allowed in strict mode."
            )
    return tuple(zeros_like(x) if g is None else g for g, x in zip(found, like))


def _finished(tensors: Sequence[Tensor], many: bool, create_graph: bool) -> Any:
    kept = tuple(tensors) if create_graph else tuple(t.detach() for t in tensors)
    return kept if many else kept[0]


# -- products -----------------------------------------------------------------------------------------------------


def vjp(
    func: Function, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and v times its Jacobian, one tensor for each input.

    `v` has the shapes of the outputs; None for an output of one element. `strict` raises RuntimeError where the result
    does not depend on an input, which otherwise gives zeros. `create_graph` lets both be differentiated.
    """
    before = is_grad_enabled()
    with enable_grad():
        many_x, given = _tuple(inputs, "inputs", "vjp")
        xs = _fresh(given, create_graph)
        many_y, ys = _called(func, xs, "vjp", strict)
        vs = _weights(v, ys, "output", "vjp")
    with set_grad_enabled(create_graph or before):
        found = _filled(_gradients(ys, xs, vs, create_graph), xs, strict, create_graph)
    return _finished(ys, many_y, create_graph), _finished(found, many_x, create_graph)


def jvp(
    func: Function, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and its Jacobian times v, one tensor for each output.

    `v` has the shapes of the inputs; None for an input of one element. The product is the derivative of `vjp` with respect
    to its vector, so the function must be twice differentiable in the sense that its gradient can be recorded.
    """
    with enable_grad():
        given = _tuple(inputs, "inputs", "jvp")[1]
        vs = _weights(v, given, "input", "jvp")
        xs = _fresh(given, create_graph)
        many_y, ys = _called(func, xs, "jvp", strict)
        products = _right_products(ys, xs, vs, create_graph, strict)
    return _finished(ys, many_y, create_graph), _finished(products, many_y, create_graph)


def _right_products(
    ys: Sequence[Tensor], xs: Sequence[Tensor], vs: Sequence[Tensor], create_graph: bool, strict: bool
) -> tuple[Tensor, ...]:
    """Return the Jacobian of ys with respect to xs, times vs: u J is linear in u, and its derivative with v is J v."""
    us = tuple(zeros_like(y).requires_grad_() if y.requires_grad else zeros_like(y) for y in ys)
    rows = _gradients(ys, xs, us, True)
    _filled(rows, xs, strict, False)
    moving = [u for u in us if u.requires_grad]
    found = iter(_gradients(rows, moving, vs, create_graph) if moving else ())
    return _filled([next(found) if u.requires_grad else None for u in us], ys, strict, create_graph)


def vhp(
    func: Function, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs), a tensor of one element, and v times its Hessian, one tensor for each input.

    `v` has the shapes of the inputs; None for an input of one element.
    """
    with enable_grad():
        many_x, given = _tuple(inputs, "inputs", "vhp")
        vs = _weights(v, given, "input", "vhp")
        xs = _fresh(given, create_graph)
        ys = (_scalar(func, xs, "vhp", strict),)
        slopes = _gradients(ys, xs, (None,), True)
        _filled(slopes, xs, strict, True)
        products = _filled(_gradients(slopes, xs, vs, create_graph), xs, strict, create_graph)
    return _finished(ys, False, create_graph), _finished(products, many_x, create_graph)


def hvp(
    func: Function, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs), a tensor of one element, and its Hessian times v, one tensor for each input.

    The Hessian is symmetric, so this is what `vhp` returns, by one pass less than PyTorch's.
    """
    return vhp(func, inputs, v, create_graph, strict)


def _scalar(func: Function, xs: tuple[Tensor, ...], name: str, strict: bool) -> Tensor:
    many, ys = _called(func, xs, name, strict)
    if many or ys[0]._a.size != 1:
        raise RuntimeError(f"The function given to {name} should return a single Tensor with a single element")
    return ys[0]


# -- matrices -----------------------------------------------------------------------------------------------------


def jacobian(
    func: Function,
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """Return the derivative of every element of func(*inputs) with respect to every element of the inputs.

    A tensor of the output's shape followed by the input's; for tuples, a tuple for the outputs of tuples for the inputs.
    One backward pass for each element of the output; `vectorize` and `strategy` are accepted and change nothing.
    """
    _check_ways(strategy, vectorize, strict)
    with enable_grad():
        many_x, given = _tuple(inputs, "inputs", "jacobian")
        xs = _fresh(given, create_graph)
        many_y, ys = _called(func, xs, "jacobian", strict)
        blocks = [_finished(rows(y, xs, create_graph, strict), many_x, create_graph) for y in ys]
    return tuple(blocks) if many_y else blocks[0]


def _check_ways(strategy: str, vectorize: bool, strict: bool) -> None:
    if strategy not in ("reverse-mode", "forward-mode"):
        raise AssertionError(f'Expected strategy to be either "forward-mode" or "reverse-mode", got {strategy!r}')
    if vectorize and strict:
        raise RuntimeError(
            "strict=True and vectorize=True are not supported together. Please set one of them to False."
        )


def rows(y: Tensor, xs: Sequence[Tensor], create_graph: bool, strict: bool = False) -> list[Tensor]:
    """Return, for each x, the derivative of y with respect to it: a tensor [*y.shape, *x.shape]."""
    found = []
    library = backend_of(y._a).namespace
    for j in range(y._a.size):
        seed = library.zeros(y._a.size, y._a.dtype)
        seed[j] = 1
        one = _gradients((y,), xs, (wrap(backend_of(y._a).namespace.asarray(seed.reshape(y._a.shape))),), create_graph)
        found.append(_filled(one, xs, strict, create_graph))
    shapes = [(*y._a.shape, *x._a.shape) for x in xs]
    if not found:
        return [zeros(shape, dtype=x.dtype, device=x.device) for shape, x in zip(shapes, xs)]
    return [stack(list(column)).reshape(shape) for column, shape in zip(zip(*found), shapes)]


def hessian(
    func: Function,
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """Return the second derivatives of func(*inputs), a tensor of one element: [*x.shape, *x.shape] for an input x.

    For a tuple of inputs, a tuple of tuples. `vectorize` and `outer_jacobian_strategy` change nothing.
    """
    _check_ways(outer_jacobian_strategy, vectorize, strict)
    with enable_grad():
        many_x, given = _tuple(inputs, "inputs", "hessian")
        xs = _fresh(given, create_graph)
        y = _scalar(func, xs, "hessian", strict)
        slopes = _filled(_gradients((y,), xs, (None,), True), xs, strict, False)
        for i, slope in enumerate(slopes):
            if strict and not slope.requires_grad:
                raise RuntimeError(
                    f"While computing the hessian, found that the jacobian of the user-provided function with respect to "
                    f"input {i} is independent of the input. This is not allowed in strict mode."
                )
        blocks = [_finished(rows(slope, xs, create_graph, strict), many_x, create_graph) for slope in slopes]
    return tuple(blocks) if many_x else blocks[0]
