"""Networks: modules, their parameters, losses, initial values."""

from importlib import import_module
from typing import Any

from disttorch.nn import functional, init, modules, utils
from disttorch.nn.modules import *  # noqa: F403
from disttorch.nn.modules import __all__ as _modules
from disttorch.nn.parameter import Buffer, Parameter

__all__ = ["Buffer", "Parameter", "functional", "init", "modules", "utils", *_modules]


def __getattr__(name: str) -> Any:
    """Import the data-parallel wrappers when they are first asked for: they are built on this package."""
    if name not in ("DataParallel", "parallel"):
        raise AttributeError(f"module 'disttorch.nn' has no attribute '{name}'")
    parallel = import_module("disttorch.nn.parallel")
    return parallel if name == "parallel" else parallel.DataParallel
