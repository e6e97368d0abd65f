"""Noticing that a module is not any more what it was when it was wrapped."""

from __future__ import annotations

from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.nn.modules.module import Module


class ModuleWatch:
    """Remembers which parameters and modules a module has.

    ignored: full names of parameters and buffers that do not count.
    """

    def __init__(self, module: Module, ignored: set[str]) -> None:
        self._module, self._ignored = module, ignored
        self._look()

    def _look(self) -> None:
        modules = list(self._module.modules())
        named = self._module.named_parameters()
        counted = [(name, p) for name, p in named if name not in self._ignored]
        self._known = {id(p) for _, p in counted}
        self._frozen = [(name, p) for name, p in counted if not p.requires_grad]
        self._tables: list[tuple[dict[str, Any], list[Any]]] = [
            (table, list(table.values())) for m in modules for table in (m._parameters, m._modules) if table
        ]
        self._buffer_tables = [m._buffers for m in modules]

    def check(self) -> None:
        """Raise RuntimeError if a parameter requires a gradient that did not, or was not there, at the beginning."""
        for table, values in self._tables:
            for now, before in zip(table.values(), values):
                if now is not before:
                    return self._check_new()
            if len(table) != len(values):
                return self._check_new()
        for name, parameter in self._frozen:
            if parameter._requires_grad:
                raise RuntimeError(
                    f"parameter {name} requires a gradient now but did not when the module was wrapped in "
                    "DistributedDataParallel, so it would not be averaged; wrap the module after that change"
                )
        return None

    def _check_new(self) -> None:
        """Look at a module whose parts have changed."""
        for name, parameter in self._module.named_parameters():
            if parameter.requires_grad and id(parameter) not in self._known and name not in self._ignored:
                raise RuntimeError(
                    f"parameter {name} was not in the module when it was wrapped in DistributedDataParallel, so its "
                    "gradient would not be averaged; wrap the module after that change"
                )
        self._look()

    def buffers(self) -> list[Tensor]:
        """Return the buffers that the module has now."""
        if self._ignored:
            return [b for name, b in self._module.named_buffers() if name not in self._ignored]
        return [b for table in self._buffer_tables for b in table.values() if b is not None]
