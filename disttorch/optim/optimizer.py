"""What all optimizers share: parameter groups, state, hooks, saving and loading."""

from __future__ import annotations

import functools
import time
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any, ClassVar

from disttorch.autograd.hooks import RemovableHandle, add_hook
from disttorch.autograd.record import type_name
from disttorch.autograd.tensor import Tensor
from disttorch.autograd.views import written
from disttorch.core import observe

Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class _Required:
    """Stands for the value of an option that every parameter group has to give."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


class Optimizer:
    """Base class of optimizers, as `torch.optim.Optimizer`.

    `params` are tensors, (name, tensor) pairs, or dicts with "params" and options of their own; `defaults`
    are the options of groups that do not give them. `param_groups` is the list of groups, `state` holds a
    dict per parameter. A subclass defines `step`; around it the step hooks are called.

    Raises ValueError for no parameters, non-leaf tensors or a parameter in two groups, TypeError for
    anything that is not a tensor.
    """

    # Options that older checkpoints lack, with what they meant then.
    _added_options: ClassVar[dict[str, Any]] = {}
    # None until a scheduler wants to know whether `step` has been called.
    _opt_called: bool | None = None
    # A `step` that was put on the object itself before the first scheduler was made.
    _own_step: Any = None
    _stepping = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        if defaults.get("differentiable"):
            raise RuntimeError(
                f"{type(self).__name__}(differentiable=True) is not in disttorch: its updates are not "
                "recorded; leave the argument out"
            )
        if defaults.get("fused") and defaults.get("foreach"):
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                + type_name(params)
            )
        self.defaults = defaults
        self._make_hook_tables()
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _make_hook_tables(self) -> None:
        for name in _HOOK_TABLES:
            self.__dict__.setdefault(name, OrderedDict())

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_hook_tables()
        for group in self.param_groups:
            for option, value in self._added_options.items():
                group.setdefault(option, value)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients; return what `closure`, which computes them anew, returned."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero in place."""
        for group in self.param_groups:
            for param in group["params"]:
                grad = param.grad
                if grad is None:
                    continue
                if set_to_none:
                    param.grad = None
                    continue
                if grad.grad_fn is not None:
                    grad.detach_()
                else:
                    grad.requires_grad_(False)
                grad._a[...] = 0
                written(grad)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own: `{"params": ..., "lr": ...}`."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        _list_params(param_group)
        params = param_group["params"]
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {_typename(param)}")
            if not (param.is_leaf or param.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        for option, default in self.defaults.items():
            if default is required and option not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {option}")
            param_group.setdefault(option, default)
        if len(params) != len({id(param) for param in params}):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this will cause an "
                "error; see github.com/pytorch/pytorch/issues/40967 for more information",
                stacklevel=3,
            )
        self._check_against_other_groups(param_group)
        self.param_groups.append(param_group)

    def _check_against_other_groups(self, param_group: dict[str, Any]) -> None:
        named = "param_names" in param_group
        known: set[int] = set()
        for group in self.param_groups:
            known.update(id(param) for param in group["params"])
            if named != ("param_names" in group):
                raise ValueError(
                    "all optimizer param groups should be with/without names. cannot add param group "
                    f"{'with' if named else 'without'} names to the optimizer"
                )
        if any(id(param) in known for param in param_group["params"]):
            raise ValueError("some parameters appear in more than one parameter group")

    def state_dict(self) -> dict[str, Any]:
        """Return `{"state": ..., "param_groups": ...}` in PyTorch's layout.

        Parameters are numbered in the order of the groups. The tensors in it are the optimizer's own.
        """
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        groups, first = [], 0
        for group in self.param_groups:
            for i, param in enumerate(group["params"], first):
                numbers.setdefault(id(param), i)
            first += len(group["params"])
            packed = {key: value for key, value in group.items() if key != "params"}
            packed["params"] = [numbers[id(param)] for param in group["params"]]
            groups.append(packed)
        state = {numbers[id(k)] if isinstance(k, Tensor) else k: v for k, v in self.state.items()}
        result: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, result)
            result = result if changed is None else changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a copy of what `state_dict` returned, here or in PyTorch.

        State tensors take the type and device of their parameter. Raises ValueError if the groups differ
        in number or size.
        """
        loaded = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, loaded)
            loaded = loaded if changed is None else changed
        saved = deepcopy(loaded["param_groups"])
        self._check_groups(saved)
        order = chain.from_iterable(group["params"] for group in saved)
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        by_number = dict(zip(order, params, strict=True))
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for key, value in loaded["state"].items():
            if key in by_number:
                state[by_number[key]] = _fitted(value, by_number[key])
            else:
                state[key] = value
        for group, new in zip(self.param_groups, saved, strict=True):
            new["params"] = group["params"]
            if "param_names" in group:
                new.setdefault("param_names", group["param_names"])
        self.__setstate__({"state": state, "param_groups": saved})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _check_groups(self, saved: list[dict[str, Any]]) -> None:
        if len(self.param_groups) != len(saved):
            raise ValueError(
                "loaded state dict has a different number of parameter groups "
                f"({len(saved)}, the optimizer has {len(self.param_groups)})"
            )
        for group, other in zip(self.param_groups, saved, strict=True):
            if len(group["params"]) != len(other["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's "
                    f"group ({len(other['params'])} and {len(group['params'])} parameters)"
                )

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before each step; it may return new (args, kwargs).

        As in PyTorch, `args[0]` is the optimizer itself.
        """
        return add_hook(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after each step."""
        return add_hook(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., None], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` before the state is collected."""
        return add_hook(self._optimizer_state_dict_pre_hooks, hook, first=prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` on the collected state; it may return another one."""
        return add_hook(self._optimizer_state_dict_post_hooks, hook, first=prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` before a state is loaded; it may return another one."""
        return add_hook(self._optimizer_load_state_dict_pre_hooks, hook, first=prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., None], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` after a state was loaded."""
        return add_hook(self._optimizer_load_state_dict_post_hooks, hook, first=prepend)

    _optimizer_step_pre_hooks: OrderedDict[int, Any]
    _optimizer_step_post_hooks: OrderedDict[int, Any]
    _optimizer_state_dict_pre_hooks: OrderedDict[int, Any]
    _optimizer_state_dict_post_hooks: OrderedDict[int, Any]
    _optimizer_load_state_dict_pre_hooks: OrderedDict[int, Any]
    _optimizer_load_state_dict_post_hooks: OrderedDict[int, Any]


_HOOK_TABLES = [name for name in Optimizer.__annotations__ if name.endswith("_hooks")]


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return `step` with the hooks around it; a step that calls the base class's step runs them once."""

    @functools.wraps(step)
    def hooked(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if self._opt_called is False:
            self._opt_called = True
        before, after = self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks
        observer = observe.observer
        if self._stepping or not (before or after or observer):
            return step(self, *args, **kwargs)
        self._stepping = True
        begun = time.monotonic_ns()
        try:
            given: tuple[Any, ...] = (self, *args)
            for hook in list(before.values()):
                changed = hook(self, given, kwargs)
                if changed is not None:
                    given, kwargs = _checked_arguments(changed, step)
            result = step(*given, **kwargs)
            for hook in list(after.values()):
                hook(self, given, kwargs)
        finally:
            self._stepping = False
            if observer is not None:
                observer(f"Optimizer.step#{type(self).__name__}.step", begun, time.monotonic_ns(), "compute")
        return result

    return hooked


def _checked_arguments(changed: Any, step: Callable[..., Any]) -> tuple[Any, Any]:
    if not (isinstance(changed, tuple) and len(changed) == 2):
        raise RuntimeError(f"{step} must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
    return changed


def _list_params(param_group: dict[str, Any]) -> None:
    """Make the group's parameters a list of tensors, and their names, if they have any, another."""
    params = param_group["params"]
    if isinstance(params, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in "
            "sets will change between runs. Please use a list instead."
        )
    entries = [params] if isinstance(params, Tensor) else list(params)
    names = [entry[0] for entry in entries if isinstance(entry, tuple)]
    param_group["params"] = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    if names:
        if len(names) != len(entries):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        param_group["param_names"] = names


def _typename(value: Any) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _fitted(value: Any, param: Tensor, key: Any = None) -> Any:
    """Return a copy of loaded state with its tensors in the type and on the device of their parameter."""
    if isinstance(value, Tensor):
        if key == "step":
            return value.clone()
        kind = param.dtype if param.dtype.is_floating_point else value.dtype
        return value.detach().to(device=param.device, dtype=kind, copy=True)
    if isinstance(value, dict):
        return {k: _fitted(v, param, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_fitted(v, param) for v in value)
    return value
