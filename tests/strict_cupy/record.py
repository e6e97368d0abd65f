"""Write down the names that the installed CuPy offers, for `strict`: `python tests/strict_cupy/record.py`.

CuPy can be imported without a GPU; only the parts that load CUDA's libraries at import cannot, and are left out.
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parent / "names.json"
MODULES = ("cupy", "cupy.linalg", "cupy.fft", "cupyx", "cupyx.scipy.special")


def parameters_of(member: Any) -> list[str] | None:
    """Return the names of a function's parameters; None where Python does not know them (universal functions)."""
    try:
        found = inspect.signature(member).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in found):
        return None
    return [p.name for p in found]


def names_of(module: Any) -> dict[str, list[str] | None]:
    """Return the public members of a module that are no modules, with their parameters."""
    names = {}
    for name in sorted(dir(module)):
        member = getattr(module, name, None)
        if not name.startswith("_") and member is not None and not inspect.ismodule(member):
            names[name] = parameters_of(member) if callable(member) and not isinstance(member, type) else None
    return names


def recorded() -> dict[str, Any]:
    """Return what names.json should hold for the installed CuPy."""
    cupy = importlib.import_module("cupy")
    members = sorted(name for name in dir(cupy.ndarray) if not name.startswith("_"))
    modules = {name: names_of(importlib.import_module(name)) for name in MODULES}
    return {"version": cupy.__version__, "ndarray": members, **modules}


if __name__ == "__main__":
    PLACE.write_text(json.dumps(recorded(), indent=0) + "\n", encoding="utf-8")
