"""Special functions, from `cupyx.scipy.special`."""

from __future__ import annotations

from typing import Any

from disttorch.backends import numpy as host
from disttorch.backends.cupy._library import compute_dtype, extension, library, on_host


def erf(x: Any) -> Any:
    """The error function, elementwise."""
    return scipy_special("erf", x)


def scipy_special(name: str, *operands: Any) -> Any:
    """Apply a function that SciPy knows as `name`, elementwise, in the type of the arrays among the operands.

    16-bit floats are computed in float32. What `cupyx` lacks (`airy`) is computed on the host.
    """
    function = getattr(extension(_first(operands)).scipy.special, name, None)
    if function is None:
        return on_host(host.scipy_special, name, *operands)
    dtype, xp = _first(operands).dtype, library(_first(operands))
    wide = [xp.asarray(x, compute_dtype(dtype)) for x in operands]  # `polygamma` takes no number for its order
    return function(*wide).astype(dtype, copy=False)


def _first(operands: tuple[Any, ...]) -> Any:
    return next(x for x in operands if hasattr(x, "dtype"))
