"""In-place optimizer updates of one parameter array (see the CPU's kernels for arguments and sources)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from disttorch.backends import _optimizer
from disttorch.backends.cupy._library import library


def _update(formula: Callable[..., None]) -> Callable[..., None]:
    def kernel(param: Any, *others: Any) -> None:
        formula(library(param), param, *others)

    kernel.__name__ = kernel.__qualname__ = formula.__name__
    kernel.__doc__ = formula.__doc__
    return kernel


sgd, adam, rmsprop = _update(_optimizer.sgd), _update(_optimizer.adam), _update(_optimizer.rmsprop)
