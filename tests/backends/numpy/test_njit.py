"""The disk cache of compiled code, over changes of what a function is made of."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from disttorch.backends.numpy import _njit

SOURCE = """
from disttorch.backends.numpy._njit import njit

@njit(cache=True)
def double(x):
    return 2 * x
"""


def load(path: Path) -> Any:
    """Import the module anew, as another process does, and return its function, compiled or from the cache."""
    spec = importlib.util.spec_from_file_location("a_compiled_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.double(21) == 42
    return module.double


def test_code_comes_from_the_cache_until_a_compiled_module_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a_compiled_module.py"
    path.write_text(SOURCE)
    assert load(path).stats.cache_misses
    assert load(path).stats.cache_hits
    monkeypatch.setattr(_njit, "fingerprint", lambda: "of other sources")
    changed = load(path).stats
    assert changed.cache_misses
    assert not changed.cache_hits
    assert load(path).stats.cache_hits


def test_every_compiled_module_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "disttorch" / "backends" / "numpy"
    folder.mkdir(parents=True)
    for name in ("_njit.py", "_compiled_math.py"):
        (folder / name).write_text("one")
    (tmp_path / "disttorch" / "distributed").mkdir()
    other = tmp_path / "disttorch" / "distributed" / "_compiled_meeting.py"
    monkeypatch.setattr(_njit, "__file__", str(folder / "_njit.py"))
    found = set()
    for text in ("one", "two"):
        other.write_text(text)
        found.add(_njit.fingerprint.__wrapped__())
    assert len(found) == 2


def test_compiled_modules_use_it() -> None:
    files = list(Path(_njit.__file__).parents[2].rglob("_compiled*.py"))
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "numba":
                assert not {"njit", "jit"} & {alias.name for alias in node.names}, file
            assert not (isinstance(node, ast.Attribute) and node.attr in ("njit", "jit")), file
