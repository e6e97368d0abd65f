"""Special functions, from `cupyx.scipy.special`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from disttorch.backends.cupy._library import compute_dtype, extension


def _of_cupyx(name: str) -> Callable[..., Any]:
    def kernel(*arrays: Any) -> Any:
        computed = [a.astype(compute_dtype(a.dtype), copy=False) for a in arrays]
        result = getattr(extension(arrays[0]).scipy.special, name)(*computed)
        return result.astype(arrays[0].dtype, copy=False)

    kernel.__name__ = kernel.__qualname__ = name
    return kernel


erf = _of_cupyx("erf")
