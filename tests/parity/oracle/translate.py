"""From PyTorch to disttorch: tensors, types, and the functions that the operator database calls."""

from __future__ import annotations

import functools
import importlib
import types
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import torch

import disttorch

_NAMESPACES = ("", "nn.functional", "linalg", "fft", "special", "masked", "signal.windows", "Tensor", "nn", "autograd")


class Missing(Exception):  # noqa: N818
    """disttorch has no such name."""


@cache
def _public_paths() -> dict[int, str]:
    paths: dict[int, str] = {}
    for namespace in _NAMESPACES:
        holder = _follow(torch, namespace)
        for name in dir(holder):
            member = getattr(holder, name, None)
            if callable(member) and (not name.startswith("_") or namespace == "Tensor"):
                paths.setdefault(id(member), f"{namespace}.{name}".lstrip("."))
    return paths


def _follow(root: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        try:
            root = getattr(root, part)
        except AttributeError:
            if not isinstance(root, types.ModuleType):
                raise
            root = importlib.import_module(f"{root.__name__}.{part}")
    return root


def named(path: str) -> Any:
    """Return what disttorch has at `path`, e.g. `nn.functional.relu`; Missing if there is nothing."""
    try:
        return _follow(disttorch, path)
    except (AttributeError, ImportError):
        raise Missing(f"disttorch.{path} is missing") from None


def function(given: Any) -> Any:
    """Return disttorch's counterpart of a function.

    A public function of PyTorch becomes the one of the same name. A helper of the database itself is run as it is, with
    `torch` meaning disttorch.
    """
    path = _public_paths().get(id(given))
    if path is not None:
        return named(path)
    if isinstance(given, functools.partial):
        return functools.partial(value(given.func), *value(given.args), **value(given.keywords))
    if isinstance(given, torch.nn.PairwiseDistance):
        return functools.partial(named("nn.functional.pairwise_distance"), p=given.norm, eps=given.eps)
    if isinstance(given, type):
        return given
    if isinstance(given, types.FunctionType):
        if given.__name__ == "freeze_rng_state":
            return disttorch.random.fork_rng
        if given.__module__.startswith(("torch.testing", "torch._refs", "functools", "torch.nn.functional")):
            return _rebound(given)
        raise Missing(f"{given.__module__}.{given.__qualname__} has no public name")
    if isinstance(given, (types.BuiltinFunctionType, types.MethodDescriptorType)):
        name = given.__name__
        return named(f"Tensor.{name}" if isinstance(given, types.MethodDescriptorType) else name)
    return given


_rebinding: dict[int, types.FunctionType] = {}


def _rebound(given: types.FunctionType) -> types.FunctionType:
    if id(given) in _rebinding:  # it calls itself
        return _rebinding[id(given)]
    scope = dict(given.__globals__)
    made = types.FunctionType(given.__code__, scope, given.__name__, None, given.__closure__)
    _rebinding[id(given)] = made
    try:
        for name in _names_in(given.__code__):
            if name in scope:
                scope[name] = value(scope[name])
        closure = given.__closure__ and tuple(types.CellType(value(cell.cell_contents)) for cell in given.__closure__)
        made = types.FunctionType(given.__code__, scope, given.__name__, value(given.__defaults__), closure)
        made.__kwdefaults__ = value(given.__kwdefaults__)
        return made
    finally:
        del _rebinding[id(given)]


def _names_in(code: types.CodeType) -> set[str]:
    inner = [_names_in(const) for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*inner)


def value(given: Any, leaves: bool = True) -> Any:
    """Return anything that a sample may hold as disttorch has it. `leaves`: let tensors require gradients as given."""
    if isinstance(given, torch.Tensor):
        return tensor(given, leaves)
    if isinstance(given, torch.dtype):
        return named(str(given).removeprefix("torch."))
    if isinstance(given, torch.device):
        return disttorch.device(str(given))
    if isinstance(given, (torch.memory_format, torch.layout)):
        return named(str(given).removeprefix("torch."))
    if isinstance(given, torch.Generator):
        made = disttorch.Generator()
        made.set_state(disttorch.from_numpy(given.get_state().numpy().copy()))
        return made
    if given is torch:
        return disttorch
    if isinstance(given, types.ModuleType) and given.__name__.startswith("torch."):
        return _namespace(given.__name__.removeprefix("torch."), given)
    if isinstance(given, torch.Size):
        return disttorch.Size(given)
    if isinstance(given, (tuple, list)):
        items = [value(item, leaves) for item in given]
        return type(given)(*items) if hasattr(given, "_fields") else type(given)(items)
    if isinstance(given, dict):
        return {key: value(item, leaves) for key, item in given.items()}
    if isinstance(given, slice):
        return slice(*(value(part, leaves) for part in (given.start, given.stop, given.step)))
    if isinstance(given, functools.partial):
        return function(given)
    if callable(given) and str(getattr(given, "__module__", None) or "torch").startswith("torch"):
        return function(given)
    return given


def _namespace(path: str, given: Any) -> Any:
    try:
        return _follow(disttorch, path)
    except (AttributeError, ImportError):
        return given


_memories: dict[tuple[int, torch.dtype], tuple[torch.Tensor, np.ndarray]] | None = None


def arguments(given: Any, leaves: bool = True) -> Any:
    """Return the arguments of one call; tensors that share memory share it here, too."""
    global _memories
    _memories = {}
    try:
        return value(given, leaves)
    finally:
        _memories = None


def tensor(given: torch.Tensor, leaf: bool = True) -> disttorch.Tensor:
    """Return a copy of a tensor, with the same strides and place in a copy of all its memory."""
    made = disttorch.from_numpy(_array(given.detach()))
    if leaf and given.requires_grad:
        made.requires_grad_()
    return made


def _array(given: torch.Tensor) -> np.ndarray:
    plain = given.resolve_conj().resolve_neg()
    is_bfloat16 = plain.dtype == torch.bfloat16
    if is_bfloat16:
        plain = plain.view(torch.int16)
    if not plain.numel():
        copy = plain.numpy().copy()
        return copy.view(ml_dtypes.bfloat16) if is_bfloat16 else copy
    whole = plain.as_strided((plain.untyped_storage().nbytes() // plain.element_size(),), (1,), 0)
    memory = _memory_of(whole)
    if is_bfloat16:
        memory = memory.view(ml_dtypes.bfloat16)
    size = memory.itemsize
    return np.ndarray(
        tuple(plain.shape), memory.dtype, memory, plain.storage_offset() * size, tuple(s * size for s in plain.stride())
    )


def _memory_of(whole: torch.Tensor) -> np.ndarray:
    if _memories is None:
        return whole.numpy().copy()
    # the tensor is kept: its address must not become another's while this call's arguments are made
    kept = _memories.setdefault((whole.data_ptr(), whole.dtype), (whole, whole.numpy().copy()))
    return kept[1]
