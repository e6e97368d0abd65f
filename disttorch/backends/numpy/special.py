"""Special functions, from SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, elementwise."""
    return scipy_special("erf", x)


def scipy_special(name: str, *operands: Any) -> np.ndarray:
    """Apply a function of `scipy.special`, elementwise, in the type of the arrays among the operands.

    16-bit floats are computed in float32. Of several results the first is returned.
    """
    from scipy import special

    dtype = next(x.dtype for x in operands if hasattr(x, "dtype"))
    if dtype.itemsize == 2:
        operands = tuple(x.astype(np.float32) if hasattr(x, "dtype") else x for x in operands)
    result = getattr(special, name)(*operands)
    return (result[0] if isinstance(result, tuple) else result).astype(dtype, copy=False)
