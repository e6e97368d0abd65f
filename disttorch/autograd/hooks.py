"""Hook tables and the handles that remove an entry."""

from __future__ import annotations

import itertools
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

_ids = itertools.count()


class RemovableHandle:
    """Removes a hook: `handle.remove()`, or at the end of a `with` statement."""

    def __init__(self, table: OrderedDict[int, Any]) -> None:
        self.id = next(_ids)
        self._table = weakref.ref(table)

    def remove(self) -> None:
        """Remove the hook; removing it twice does nothing."""
        table = self._table()
        if table is not None:
            table.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def add_hook(table: OrderedDict[int, Any], hook: Callable[..., Any], *, first: bool = False) -> RemovableHandle:
    """Put `hook` into `table` and return the handle that removes it."""
    handle = RemovableHandle(table)
    table[handle.id] = hook
    if first:
        table.move_to_end(handle.id, last=False)
    return handle


class GradientMemory:
    """Has the gradient of the leaf whose `hooks` these are put into `array`, until `remove()`.

    array: memory of the leaf's shape and type; free: called as a backward pass begins, once for all leaves that have the
    same, returns a byte for each of them, at its `index`, that is not 0 if its array may be used in that pass, or None if
    nobody's may.
    """

    def __init__(self, hooks: Hooks, array: Any, free: Callable[[], bytes | None], index: int) -> None:
        hooks.memory = self
        self._hooks = hooks
        self.array, self.free, self.index = array, free, index

    def remove(self) -> None:
        """Take it back, unless somebody else wants it elsewhere by now."""
        if self._hooks.memory is self:
            self._hooks.memory = None


class Hooks:
    """The hooks of one leaf tensor or one graph node; made when the first is registered.

    `gradient[i]` holds the hooks on output i's gradient, `retained[i]` the tensor whose `.grad` keeps it;
    `before` and `after` are a node's own hooks; `accumulated` runs when a leaf's `.grad` is complete.
    `memory` says where a leaf's gradient should be. `where` is the stack at which the node was made, kept in
    anomaly mode.
    """

    __slots__ = ("accumulated", "after", "before", "gradient", "memory", "retained", "where")

    def __init__(self) -> None:
        self.gradient: dict[int, OrderedDict[int, Any]] = {}
        self.retained: dict[int, weakref.ref[Any]] = {}
        self.before: OrderedDict[int, Any] = OrderedDict()
        self.after: OrderedDict[int, Any] = OrderedDict()
        self.accumulated: OrderedDict[int, Any] = OrderedDict()
        self.memory: GradientMemory | None = None
        self.where = ""

    def on_gradient(self, output: int) -> OrderedDict[int, Any]:
        """Return the table of hooks on the gradient of one output."""
        return self.gradient.setdefault(output, OrderedDict())
