"""What a rank sees of pytest: decorators that do nothing, and the rest once it is used.

A rank imports the test's file for one function. pytest takes as long to import as the library, and its marks and fixtures
mean nothing there.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Decorator:
    """Stands for `pytest.mark`, `pytest.fixture` and all that they give; returns what it decorates unchanged."""

    def __getattr__(self, name: str) -> _Decorator:
        return self

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return arguments[0] if len(arguments) == 1 and not options and callable(arguments[0]) else self


class _Pytest(ModuleType):
    mark = fixture = param = _Decorator()

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get("pytest") is self:
            del sys.modules["pytest"]
        return getattr(importlib.import_module("pytest"), name)


def stand_in() -> None:
    """Put it in the place of pytest, unless that is imported already."""
    sys.modules.setdefault("pytest", _Pytest("pytest"))
