"""What a module remembers: `state_dict`, `load_state_dict` and their hooks."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from disttorch.autograd.grad_mode import no_grad
from disttorch.autograd.hooks import RemovableHandle, add_hook
from disttorch.autograd.tensor import Tensor
from disttorch.nn.parameter import Parameter

if TYPE_CHECKING:
    from disttorch.nn.modules.module import Module

EXTRA_STATE = "_extra_state"

HOOK_TABLES = (
    "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip

Table = OrderedDict[int, Callable[..., Any]]


class _IncompatibleKeys(NamedTuple):
    """What `load_state_dict` found: keys that the dict lacks, and keys that the module lacks."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class WithState:
    """The part of `Module` that saves and loads its state."""

    _version: int = 1
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]
    _state_dict_hooks: Table
    _state_dict_pre_hooks: Table
    _load_state_dict_pre_hooks: Table
    _load_state_dict_post_hooks: Table

    def get_extra_state(self) -> Any:
        """Return state beyond parameters and buffers for `state_dict`; for subclasses to define."""
        raise RuntimeError(f"{type(self).__name__} has no extra state: define get_extra_state and set_extra_state")

    def set_extra_state(self, state: Any) -> None:
        """Take back what `get_extra_state` returned; for subclasses to define."""
        raise RuntimeError(f"{type(self).__name__} has no extra state: define get_extra_state and set_extra_state")

    # -- saving -----------------------------------------------------------------------------------

    def state_dict(
        self,
        *args: Any,
        destination: Any = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> Any:
        """Return an OrderedDict of all parameters and persistent buffers by their full names.

        The tensors are detached but share memory with the module's, unless `keep_vars`. Keys get
        `prefix`. The dict's attribute `_metadata` holds the version of every module.
        """
        if args:
            warnings.warn(
                "Positional args are being deprecated, use kwargs instead: "
                "state_dict(destination=..., prefix=..., keep_vars=...)",
                FutureWarning,
                stacklevel=2,
            )
            named: list[Any] = [destination, prefix, keep_vars]
            destination, prefix, keep_vars = [*args, *named[len(args) :]]
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            replaced = hook(self, destination, prefix, local_metadata)
            if replaced is not None:
                if getattr(hook, "_from_public_api", False):
                    raise RuntimeError("state_dict post-hook must return None")
                destination = replaced
        return destination

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Put this module's own state, without its children's, into `destination`."""
        for name, tensor in self._own_state().items():
            destination[prefix + name] = tensor if keep_vars else tensor.detach()
        if type(self).get_extra_state is not WithState.get_extra_state:
            destination[prefix + EXTRA_STATE] = self.get_extra_state()

    def _own_state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {k: v for k, v in self._parameters.items() if v is not None}
        for name, buffer in self._buffers.items():
            if buffer is not None and name not in self._non_persistent_buffers_set:
                state[name] = buffer
        return state

    # -- loading ----------------------------------------------------------------------------------

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Copy the tensors of a `state_dict` into this module and its children.

        With `strict`, missing and unexpected keys raise RuntimeError, as wrong shapes always do.
        With `assign`, the tensors take the place of the module's own instead (their type and
        device are kept; `requires_grad` stays as it is in the module).
        Returns the missing and the unexpected keys.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        report = _Report([], [], [])
        metadata = getattr(state_dict, "_metadata", None)
        copied: Any = OrderedDict(state_dict)
        if metadata is not None:
            copied._metadata = metadata
        _load(self, copied, "", metadata or {}, assign, report)
        errors = report.errors
        if strict:
            errors = [
                *_listed("Missing", report.missing),
                *_listed("Unexpected", report.unexpected),
                *errors,
            ]
        if errors:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors))
        return _IncompatibleKeys(report.missing, report.unexpected)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load this module's own state, without its children's, and report on the keys.

        Subclasses override it to read older versions: `local_metadata["version"]` is the version
        of the module that was saved.
        """
        report = _Report(missing_keys, unexpected_keys, error_msgs)
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state_dict, prefix, local_metadata, strict, *report)
        own = self._own_state()
        assign = local_metadata.get("assign_to_params_buffers", False)
        for name, tensor in own.items():
            key = prefix + name
            if key in state_dict:
                self._load_tensor(name, key, tensor, state_dict[key], assign, error_msgs)
            elif strict:
                missing_keys.append(key)
        self._load_extra_state(state_dict, prefix + EXTRA_STATE, strict, report)
        if strict:
            unexpected_keys += self._unknown_keys(state_dict, prefix, own)

    def _load_tensor(self, name: str, key: str, tensor: Tensor, loaded: Any, assign: bool, errors: list[str]) -> None:
        if not isinstance(loaded, Tensor):
            errors.append(
                f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like '
                f"object from checkpoint but received {type(loaded)}"
            )
            return
        if tensor.shape == () and loaded.shape == (1,):  # how scalars were saved long ago
            loaded = loaded[0]
        if loaded.shape != tensor.shape:
            errors.append(
                f"size mismatch for {key}: copying a param with shape {loaded.shape} from "
                f"checkpoint, the shape in current model is {tensor.shape}."
            )
            return
        try:
            with no_grad():
                if assign:
                    setattr(self, name, _like(tensor, loaded))
                else:
                    tensor.copy_(loaded)
        except Exception as error:
            errors.append(
                f'While copying the parameter named "{key}", whose dimensions in the model are '
                f"{tensor.shape} and whose dimensions in the checkpoint are {loaded.shape}, an "
                f"exception occurred : {error.args}."
            )

    def _load_extra_state(self, state_dict: Any, key: str, strict: bool, report: _Report) -> None:
        wanted = type(self).set_extra_state is not WithState.set_extra_state
        if wanted and key in state_dict:
            self.set_extra_state(state_dict[key])
        elif strict and wanted:
            report.missing.append(key)
        elif strict and key in state_dict:
            report.unexpected.append(key)

    def _unknown_keys(self, state_dict: Any, prefix: str, own: dict[str, Tensor]) -> list[str]:
        unknown = []
        for key in state_dict:
            if not key.startswith(prefix) or key == prefix + EXTRA_STATE:
                continue
            name, dot, _ = key[len(prefix) :].partition(".")
            if name not in (self._modules if dot else own):
                unknown.append(key)
        return unknown

    # -- hooks ------------------------------------------------------------------------------------

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, prefix, keep_vars)` before `state_dict` collects anything."""
        return add_hook(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata)`, which may change the dict."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return add_hook(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Like `register_state_dict_post_hook`, for a hook that may also return another dict."""
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError(
                "Cannot register the same function as the state dict post hook that was previously "
                "registered via register_state_dict_post_hook"
            )
        return add_hook(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs)` before this module's own state is loaded."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        bound = partial(hook, self) if with_module else hook
        return add_hook(self._load_state_dict_pre_hooks, bound)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, incompatible_keys)` after loading; it may change the lists of keys."""
        return add_hook(self._load_state_dict_post_hooks, hook)


class _Report(NamedTuple):
    """What goes wrong while a state is loaded."""

    missing: list[str]
    unexpected: list[str]
    errors: list[str]


def _load(module: Any, state_dict: Any, prefix: str, metadata: Any, assign: bool, report: _Report) -> None:
    local = metadata.get(prefix[:-1], {})
    if assign:
        local = {**local, "assign_to_params_buffers": True}
    module._load_from_state_dict(state_dict, prefix, local, True, *report)
    for name, child in module._modules.items():
        if child is not None:
            within = f"{prefix}{name}."
            part = OrderedDict((k, v) for k, v in state_dict.items() if k.startswith(within))
            _load(child, part, within, metadata, assign, report)
    keys = _IncompatibleKeys(report.missing, report.unexpected)
    for hook in module._load_state_dict_post_hooks.values():
        if hook(module, keys) is not None:
            raise AssertionError(
                "Hooks registered with ``register_load_state_dict_post_hook`` are not expected to "
                "return new values, if incompatible_keys need to be modified, it should be done "
                "inplace."
            )


def _like(tensor: Tensor, loaded: Tensor) -> Tensor:
    """Return a loaded tensor that can take the place of `tensor` in a module."""
    if not isinstance(tensor, Parameter):
        return loaded
    if isinstance(loaded, Parameter):
        loaded.requires_grad_(tensor.requires_grad)
        return loaded
    return Parameter(loaded, tensor.requires_grad)


def _listed(kind: str, keys: list[str]) -> list[str]:
    if not keys:
        return []
    quoted = ", ".join(f'"{key}"' for key in keys)
    return [f"{kind} key(s) in state_dict: {quoted}. "]
