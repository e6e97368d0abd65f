"""Keeping a module's buffers, such as running statistics, equal to those of one rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.distributed.coalesced import Pack, packed_size
from disttorch.distributed.device_memory import kinds_of_places
from disttorch.distributed.groups import get_global_rank
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.runtime import get_rank
from disttorch.distributed.same_model import Entry, check_same_model

# Buffers that take more bytes than this are broadcast: every rank would reserve twice as many of shared memory.
_MOST_BYTES = 1024 * 1024
_ROOT = 0
_HEADER_BYTES = 64


class BufferSync:
    """Keeps the buffers of a module equal to those of one rank, once per averaged backward pass.

    At the end of the pass, before the ranks meet to reduce the last gradients, every rank calls `offer()`; what it returns is
    summed with the gradients. If any rank has changed a buffer, all then call `copy_from()`. Where all ranks share memory,
    rank 0 has left its buffers there with `offer()`, and they have only to be copied; otherwise they are broadcast.

    group: of the ranks; buffers: returns those that the module has now, in the same order on every rank; in_use: whether
    they are kept equal, else nothing is prepared. DistError on every rank if they have different shapes or types.
    """

    def __init__(self, group: ProcessGroup, buffers: Callable[[], list[Tensor]], in_use: bool) -> None:
        self._group, self._buffers = group, buffers
        self._is_root = get_rank(group) == _ROOT
        self._pack = Pack([])
        self._shelf: _Shelf | None = None
        self._layout: list[Entry] = []
        now = buffers()
        self._remember(now)
        if in_use and now:
            self._agree(now)
            self._shelf = _Shelf.of(group, [b._a for b in now])

    def offer(self) -> tuple[bool, bool]:
        """Say whether this rank has changed a buffer since they were last alike, and whether shapes or types are others.

        A change is another tensor, other memory or a counted change in place.
        """
        now = self._buffers()
        arrays = [b._a for b in now]
        replaced = len(now) != len(self._seen) or any(a is not seen for a, (seen, _) in zip(arrays, self._seen))
        changed = replaced or any(
            b._counter is None or b._counter[0] != version for b, (_, version) in zip(now, self._seen, strict=True)
        )
        reshaped = replaced and _layout(now) != self._layout
        if self._shelf is not None:
            self._shelf.turn()
            if self._is_root and changed and not reshaped:
                self._shelf.put(arrays)
        return changed, reshaped

    def copy_from(self, root: int, reshaped: bool) -> None:
        """Copy the buffers of rank `root` (of the group) to all; counters of changes stay, as in PyTorch.

        reshaped: whether any rank's have other shapes or types than before; DistError on every rank unless all have the same.
        """
        now = self._buffers()
        arrays = [b._a for b in now]
        if reshaped:
            self._agree(now)
            if self._shelf is not None and not self._shelf.has_room(arrays):
                self._shelf = None
        if reshaped or root != _ROOT or self._shelf is None or not self._shelf.has_some:
            if not self._pack.holds(arrays):
                self._pack = Pack(arrays)
            self._pack.broadcast(get_global_rank(self._group, root), self._group)
        elif not self._is_root:
            self._shelf.take(arrays)
        self._remember(now)

    def _agree(self, buffers: Sequence[Tensor]) -> None:
        self._layout = _layout(buffers)
        check_same_model(self._layout, {}, set(), self._group)

    def _remember(self, buffers: Sequence[Tensor]) -> None:
        self._seen = [(b._a, -1 if b._counter is None else b._counter[0]) for b in buffers]


def _layout(buffers: Sequence[Tensor]) -> list[Entry]:
    """Describe the buffers for `check_same_model`."""
    places = kinds_of_places([b._a for b in buffers])
    pairs = enumerate(zip(buffers, places, strict=True))
    return [["buffer", f"number {i}", b._a.dtype.name, list(b._a.shape), False, place] for i, (b, place) in pairs]


class _Shelf:
    """Shared memory in which rank 0 leaves arrays for the others, of two passes in turn.

    Rank 0 writes to a half again two passes later. It comes there only after the reductions of the pass in between, which
    every rank enters after it has taken what was left in the pass before.

    halves: rank 0's row, uint8, twice a header (the pass) and space for `arrays`.
    """

    @classmethod
    def of(cls, group: ProcessGroup, arrays: Sequence[Any]) -> _Shelf | None:
        """Return one for arrays, alike on every rank; None if there is nothing to put there or no memory to share."""
        nbytes = packed_size(arrays)
        if not (group.transport.shares_buckets and 0 < nbytes <= _MOST_BYTES):
            return None
        number, half = group.buckets, _HEADER_BYTES + nbytes
        group.buckets += 1
        rows = group.transport.allocate(f"buffers{number}", 2 * half).rows
        assert rows is not None
        return cls(rows[_ROOT].reshape(2, half), arrays)

    def __init__(self, halves: np.ndarray, arrays: Sequence[Any]) -> None:
        self._headers = [half[:8].view(np.int64) for half in halves]
        self._spaces = [half[_HEADER_BYTES:] for half in halves]
        self._packs = [Pack(arrays, space) for space in self._spaces]
        self._pass = 0

    def turn(self) -> None:
        """Go on to the next pass."""
        self._pass += 1

    def has_room(self, arrays: Sequence[Any]) -> bool:
        """Whether the arrays fit."""
        return packed_size(arrays) <= self._spaces[0].size

    def put(self, arrays: Sequence[Any]) -> None:
        """Leave the arrays, as rank 0."""
        self._place_of(arrays).pack()
        self._headers[self._pass & 1][0] = self._pass

    @property
    def has_some(self) -> bool:
        """Whether rank 0 has left arrays in this pass; the others ask after having met it."""
        return bool(self._headers[self._pass & 1][0] == self._pass)

    def take(self, arrays: Sequence[Any]) -> None:
        """Copy what is there into the arrays, which have the shapes and types of rank 0's."""
        self._place_of(arrays).unpack()

    def _place_of(self, arrays: Sequence[Any]) -> Pack:
        """Return the pack of the arrays in this pass's half."""
        half = self._pass & 1
        if not self._packs[half].holds(arrays):
            self._packs[half] = Pack(arrays, self._spaces[half][: packed_size(arrays)])
        return self._packs[half]
