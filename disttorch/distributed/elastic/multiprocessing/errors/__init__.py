"""`record`, with which scripts for torchrun mark their main function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["record"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def record(fn: Callable[_Arguments, _Result], error_handler: Any = None) -> Callable[_Arguments, _Result]:
    """Return a function that does what `fn` does: `disttorch-run` is told about every exception anyway.

    error_handler: accepted and not called.
    """

    @functools.wraps(fn)
    def wrapper(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        return fn(*args, **kwargs)

    return wrapper
