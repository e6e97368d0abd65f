"""Special functions, from SciPy."""

from __future__ import annotations

import numpy as np


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, elementwise."""
    from scipy import special

    if x.dtype.itemsize == 2:
        return special.erf(x.astype(np.float32)).astype(x.dtype)
    return special.erf(x)
