"""Numba's `njit` with a disk cache that notices a change in any compiled module (imports Numba: load lazily)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return `numba.njit(**options)`, whose cached machine code is used as long as no compiled module has changed.

    Numba itself looks at the file of a function alone. Functions of other files become part of its code, however, and so do
    their constants: after an upgrade that changes only those, it would go on with the old ones.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        compiled = numba.njit(**options)(function)
        if options.get("cache"):
            index = compiled._cache._cache_file
            index._source_stamp = index._source_stamp, fingerprint()
        return compiled

    return decorate


@cache
def fingerprint() -> str:
    """Return a hash of the sources of all compiled modules."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[2]
    for file in sorted([*package.rglob("_compiled*.py"), Path(__file__)]):
        digest.update(file.read_bytes())
    return digest.hexdigest()
