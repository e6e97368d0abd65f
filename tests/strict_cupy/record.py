"""Write down the names that the installed CuPy offers, for `strict`: `python tests/strict_cupy/record.py`.

CuPy can be imported without a GPU; only `cupyx.scipy.linalg`, which loads CUDA's libraries, cannot: its source is read.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parent / "names.json"
MODULES = ("cupy", "cupy.linalg", "cupy.fft", "cupyx", "cupyx.scipy.special", "cupyx.scipy.fft")


def parameters_of(member: Any) -> list[str] | None:
    """Return the names of a function's parameters, "*x" for any number; None where Python does not know them (universal functions)."""
    try:
        found = inspect.signature(member).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in found):
        return None
    return ["*" * (p.kind is p.VAR_POSITIONAL) + p.name for p in found]


def names_of(module: Any) -> dict[str, list[str] | None]:
    """Return the public members of a module that are no modules, with their parameters."""
    names = {}
    for name in sorted(dir(module)):
        member = getattr(module, name, None)
        if not name.startswith("_") and member is not None and not inspect.ismodule(member):
            names[name] = parameters_of(member) if callable(member) and not isinstance(member, type) else None
    return names


def names_in_source(package: Path) -> dict[str, list[str]]:
    """Return what the `__init__.py` of a package takes from its modules, with the parameters, without importing it."""
    names = {}
    for line in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(line, ast.ImportFrom) and line.module:
            source = package / f"{line.module.rpartition('.')[2]}.py"
            wanted = {alias.name for alias in line.names if not alias.name.startswith("_")}
            for made in ast.parse(source.read_text(encoding="utf-8")).body:
                if isinstance(made, ast.FunctionDef) and made.name in wanted:
                    rest = [f"*{made.args.vararg.arg}"] if made.args.vararg else []
                    names[made.name] = [*(a.arg for a in made.args.args), *rest, *(a.arg for a in made.args.kwonlyargs)]
    return dict(sorted(names.items()))


def recorded() -> dict[str, Any]:
    """Return what names.json should hold for the installed CuPy."""
    cupy = importlib.import_module("cupy")
    members = sorted(name for name in dir(cupy.ndarray) if not name.startswith("_"))
    modules = {name: names_of(importlib.import_module(name)) for name in MODULES}
    linalg = names_in_source(Path(importlib.import_module("cupyx.scipy").__path__[0]) / "linalg")
    return {"version": cupy.__version__, "ndarray": members, **modules, "cupyx.scipy.linalg": linalg}


if __name__ == "__main__":
    PLACE.write_text(json.dumps(recorded(), indent=0) + "\n", encoding="utf-8")
