"""Hooks around a module: before and after its forward, and on the gradients that pass through it.

Gradients are caught at two boundaries, one around the inputs and one around the outputs. A
boundary is an operation that returns its tensors as they are, so that one node of the graph sees
all their gradients at once.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from disttorch.autograd import grad_mode
from disttorch.autograd.function import Function
from disttorch.autograd.hooks import RemovableHandle, add_hook
from disttorch.autograd.node import Node
from disttorch.autograd.tensor import Tensor
from disttorch.autograd.views import ONE_OF_SEVERAL, View

if TYPE_CHECKING:
    from disttorch.nn.modules.module import Module

Table = OrderedDict[int, Callable[..., Any]]

HOOK_TABLES = (
    "_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
)  # fmt: skip


def _mark(table: OrderedDict[int, bool], handle: RemovableHandle, value: bool) -> None:
    """Note whether a hook has a property; an older entry may be left of a removed hook."""
    if value:
        table[handle.id] = True
    else:
        table.pop(handle.id, None)


class WithHooks:
    """The part of `Module` that registers hooks."""

    _backward_pre_hooks: Table
    _backward_hooks: Table
    _is_full_backward_hook: bool | None
    _forward_hooks: Table
    _forward_hooks_with_kwargs: OrderedDict[int, bool]
    _forward_hooks_always_called: OrderedDict[int, bool]
    _forward_pre_hooks: Table
    _forward_pre_hooks_with_kwargs: OrderedDict[int, bool]

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before every forward; what it returns replaces the arguments.

        With `with_kwargs` it is `hook(module, args, kwargs)`, and it may return `(args, kwargs)`.
        `prepend` puts it before the hooks that are there already.
        """
        handle = add_hook(self._forward_pre_hooks, hook, first=prepend)
        _mark(self._forward_pre_hooks_with_kwargs, handle, with_kwargs)
        return handle

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after every forward; its result replaces the output.

        With `with_kwargs` it is `hook(module, args, kwargs, output)`. With `always_call` the hook
        also runs when the forward raised an exception, with the output None.
        """
        handle = add_hook(self._forward_hooks, hook, first=prepend)
        _mark(self._forward_hooks_with_kwargs, handle, with_kwargs)
        _mark(self._forward_hooks_always_called, handle, always_call)
        return handle

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` when the gradients of the outputs are known.

        `grad_output` is a tuple with None for what is no tensor; a tuple that the hook returns
        replaces it.
        """
        return add_hook(self._backward_pre_hooks, hook, first=prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are known.

        Both are tuples with None for what is no tensor or needs no gradient; a tuple that the hook
        returns replaces `grad_input`. Inputs and outputs may then not be changed in place.
        """
        self._is_full_backward_hook = True
        return add_hook(self._backward_hooks, hook, first=prepend)


def call_with_hooks(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a module's forward with all its hooks."""
    result: Any = None
    called: set[int] = set()
    try:
        args, kwargs = _run_pre_hooks(module, args, kwargs)
        watch = GradientWatch(module) if module._backward_hooks or module._backward_pre_hooks else None
        if watch is not None:
            args = watch.inputs(args)
        result = module.forward(*args, **kwargs)
        for key, hook in list(module._forward_hooks.items()):
            called.add(key)
            replaced = _run_forward_hook(module, key, hook, args, kwargs, result)
            result = result if replaced is None else replaced
        return result if watch is None else watch.outputs(result)
    except Exception:
        _run_remaining_hooks(module, called, args, kwargs, result)
        raise


def _run_pre_hooks(
    module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for key, hook in list(module._forward_pre_hooks.items()):
        if key in module._forward_pre_hooks_with_kwargs:
            replaced = hook(module, args, kwargs)
            if replaced is None:
                continue
            if not (isinstance(replaced, tuple) and len(replaced) == 2):
                raise RuntimeError(
                    f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {replaced}."
                )
            args, kwargs = replaced
        else:
            replaced = hook(module, args)
            if replaced is not None:
                args = replaced if isinstance(replaced, tuple) else (replaced,)
    return args, kwargs


def _run_forward_hook(module: Module, key: int, hook: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> Any:
    if key in module._forward_hooks_with_kwargs:
        return hook(module, args, kwargs, result)
    return hook(module, args, result)


def _run_remaining_hooks(module: Module, called: set[int], args: Any, kwargs: Any, result: Any) -> None:
    """After an exception, run the hooks registered with `always_call` that have not run yet."""
    for key, hook in list(module._forward_hooks.items()):
        if key in called or key not in module._forward_hooks_always_called:
            continue
        try:
            replaced = _run_forward_hook(module, key, hook, args, kwargs, result)
            result = result if replaced is None else replaced
        except Exception as error:
            warnings.warn(
                "module forward hook with ``always_call=True`` raised an exception that was "
                f"silenced as another error was raised in forward: {error}",
                stacklevel=4,
            )


class BackwardHookFunction(Function):
    """Return tensors as they are; zeros stand for a gradient that does not come."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors."""
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients."""
        return gradients


class _Same:
    """The link between a tensor and the same tensor behind a boundary, in a view's chain."""

    @staticmethod
    def replay(tensor: Tensor, output: int, attrs: tuple[Any, ...]) -> Tensor:
        return tensor


def _refuse_writes(outside: Tensor, inside: Tensor, output: int) -> None:
    """Make `inside` one of several views of `outside`: a change of it would miss the other one."""
    base, chain = outside, ((_Same, output, ()),)
    if outside._view is not None:
        base, chain = outside._view.base, (*outside._view.chain, *chain)
    inside._view = View(base, chain, ONE_OF_SEVERAL)


class GradientWatch:
    """The backward hooks of one call of a module."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.hooks = list(module._backward_hooks.values())
        self.pre_hooks = list(module._backward_pre_hooks.values())
        self.watched_inputs: list[int] = []
        self.watched_outputs: list[int] = []
        self.input_count = self.output_count = 0
        self.grad_outputs: tuple[Any, ...] | None = None

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments with the tensors that require grad behind a boundary."""
        self.input_count = len(args)
        args, self.watched_inputs, node = _set_boundary(args)
        if node is not None:
            node.register_hook(self.on_grad_inputs)
        return args

    def outputs(self, result: Any) -> Any:
        """Return the result with the tensors that require grad behind a boundary."""
        if not isinstance(result, (Tensor, tuple)):
            warnings.warn(
                "For backward hooks to be called, module output should be a Tensor or a tuple of "
                f"Tensors but received {type(result)}",
                stacklevel=4,
            )
        listed = result if isinstance(result, tuple) else (result,)
        self.output_count = len(listed)
        listed, self.watched_outputs, node = _set_boundary(listed)
        if node is not None:
            node.register_hook(self.on_grad_outputs)
        return listed if isinstance(result, tuple) else listed[0]

    def on_grad_outputs(self, _: Any, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        """Run the pre-hooks; without watched inputs also the hooks, which then cannot wait."""
        known = _spread(gradients, self.watched_outputs, self.output_count)
        for hook in self.pre_hooks:
            replaced = hook(self.module, known)
            if replaced is not None:
                replaced = (replaced,) if isinstance(replaced, Tensor) else replaced
                _check_count("Backward pre hook", "grad_output", replaced, known)
                known = replaced
        self.grad_outputs = known
        if not self.watched_inputs:
            self._run_without_inputs(known)
        return tuple(known[i] for i in self.watched_outputs)

    def _run_without_inputs(self, grad_outputs: tuple[Any, ...]) -> None:
        if self.hooks:
            warnings.warn(
                "Full backward hook is firing when gradients are computed with respect to module "
                "outputs since no inputs require gradients.",
                stacklevel=2,
            )
        for hook in self.hooks:
            replaced = hook(self.module, (None,) * self.input_count, grad_outputs)
            if replaced is not None and any(g is not None for g in replaced):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always "
                    "return None or None for all gradients."
                )
        self.grad_outputs = None

    def on_grad_inputs(self, gradients: tuple[Any, ...], _: Any) -> tuple[Any, ...] | None:
        """Run the hooks, unless the gradient came here without passing through the outputs."""
        if self.grad_outputs is None:
            return None
        known = _spread(gradients, self.watched_inputs, self.input_count)
        for hook in self.hooks:
            replaced = hook(self.module, known, self.grad_outputs)
            if replaced is not None:
                replaced = (replaced,) if isinstance(replaced, Tensor) else replaced
                _check_count("Backward hook", "grad_input", replaced, known)
                known = replaced
        self.grad_outputs = None
        return tuple(known[i] for i in self.watched_inputs)


def _set_boundary(values: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int], Node | None]:
    """Return `values` with the tensors that require grad behind one node, their places, it."""
    places = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if not places or not grad_mode.is_grad_enabled():
        return values, [], None
    inside = BackwardHookFunction.apply(*(values[i] for i in places))
    node = inside[0].grad_fn
    for k, i in enumerate(places):
        _refuse_writes(values[i], inside[k], k)
    replaced = list(values)
    for i, tensor in zip(places, inside, strict=True):
        replaced[i] = tensor
    kept = type(values)(*replaced) if hasattr(values, "_fields") else tuple(replaced)
    return kept, places, node


def _spread(values: Sequence[Any], places: list[int], count: int) -> tuple[Any, ...]:
    spread = [None] * count
    for place, value in zip(places, values, strict=True):
        spread[place] = value
    return tuple(spread)


def _check_count(hook: str, what: str, replaced: Sequence[Any], expected: Sequence[Any]) -> None:
    if len(replaced) != len(expected):
        raise RuntimeError(
            f"{hook} returned an invalid number of {what}, got {len(replaced)}, but expected {len(expected)}"
        )
