"""`import torch` gives disttorch, in one process.

`install` puts a finder in front of Python's others, so that `import torch.nn` gives the module `disttorch.nn` itself, not
a copy. It reaches the processes that this one starts to load data (forks, the loader's server, `multiprocessing`'s
`spawn` and `forkserver`), and no others.
"""

from __future__ import annotations

import functools
import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _TorchFinder(MetaPathFinder, Loader):
    """Finds `torch` and its submodules among those of disttorch."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "torch":
            return None
        own = _own_name(fullname)
        if not _exists(own):
            raise _no_module(fullname)
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(_own_name(spec.name))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module, which has been executed as disttorch's, its own spec back."""
        spec = module.__spec__
        assert spec is not None
        module.__spec__ = spec.loader_state


def _own_name(name: str) -> str:
    return "disttorch" + name.removeprefix("torch")


def _exists(own: str) -> bool:
    parent, _, last = own.rpartition(".")
    if own in sys.modules or not parent:
        return True
    if not _exists(parent):
        return False
    folders = getattr(importlib.import_module(parent), "__path__", None)
    return folders is not None and last in _modules_in(folders)


def _modules_in(folders: Any) -> list[str]:
    import pkgutil

    return [module.name for module in pkgutil.iter_modules(folders)]


def _no_module(fullname: str) -> ModuleNotFoundError:
    import difflib

    from disttorch._missing import advice

    parent, _, last = fullname.rpartition(".")
    folders = getattr(sys.modules.get(_own_name(parent)), "__path__", [])
    similar = difflib.get_close_matches(last, _modules_in(folders), 1, 0.7)
    if similar:
        why = f"it is not in disttorch; the nearest that is: {parent}.{similar[0]}"
    else:
        why = advice(_own_name(parent), last)
    return ModuleNotFoundError(f"No module named '{fullname}': {why}", name=fullname)


_finder = _TorchFinder()


def installed() -> bool:
    """Whether `torch` is disttorch in this process."""
    return _finder in sys.meta_path


def install() -> None:
    """Let `import torch`, in this process and in those that it starts to load data, give disttorch."""
    if installed():
        return
    sys.meta_path.insert(0, _finder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
        del sys.modules[name]
    from multiprocessing import spawn

    prepare = spawn.get_preparation_data

    @functools.wraps(prepare)
    def get_preparation_data(name: str) -> dict[str, Any]:
        """Return what a spawned process unpickles first, before it imports the script."""
        return {"torch": _Installing(), **prepare(name)}

    spawn.get_preparation_data = get_preparation_data


class _Installing:
    """Pickles to a call of `install`."""

    def __reduce__(self) -> Any:
        return install, ()
