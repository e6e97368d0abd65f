"""The one door to the compiled kernels, which keeps Numba out of `import disttorch`.

Modules named `_compiled_*` import Numba and compile on first use; the machine code is cached on
disk.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np


@cache
def compiled(name: str) -> Any:
    """The module `_compiled_<name>`, imported at its first use."""
    return import_module(f"disttorch.backends.numpy._compiled_{name}")


def is_float(dtype: np.dtype) -> bool:
    """Whether the kernels are compiled for `dtype`: float32 or float64."""
    return dtype.char in "fd"
