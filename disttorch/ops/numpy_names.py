"""NumPy's names for arguments, which PyTorch takes as well: `axis` for `dim`, `keepdims` for `keepdim`, `x` for `input`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

_NAMES = {"axis": "dim", "keepdims": "keepdim", "x": "input"}


def _parameters(function: Any) -> tuple[str, ...]:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _accepting(function: Callable[..., Any], parameters: tuple[str, ...]) -> Callable[..., Any]:
    renamed = {theirs: ours for theirs, ours in _NAMES.items() if ours in parameters and theirs not in parameters}

    @functools.wraps(function)
    def accepting(*args: Any, **kwargs: Any) -> Any:
        if kwargs and not renamed.keys().isdisjoint(kwargs):
            kwargs = {renamed.get(name, name): value for name, value in kwargs.items()}
        return function(*args, **kwargs)

    return accepting


def accept_numpy_names(module: ModuleType) -> None:
    """Let the public functions of a module that have a parameter `dim` take NumPy's names."""
    for name in {*getattr(module, "__all__", ()), *getattr(module, "METHODS", "").split()}:
        function = getattr(module, name)
        if isinstance(function, FunctionType):
            parameters = _parameters(function)
            if "dim" in parameters:
                setattr(module, name, _accepting(function, parameters))
