"""Keeping a module's buffers, such as running statistics, equal to those of one rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.distributed.coalesced import Pack, packed_size
from disttorch.distributed.errors import DistError
from disttorch.distributed.groups import get_global_rank
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.runtime import get_rank

# Buffers that take more bytes than this are broadcast: they would be twice in shared memory, whether they change or not.
_MOST_BYTES = 1024 * 1024
_ROOT = 0
_HEADER_BYTES = 64


class BufferSync:
    """Keeps the buffers of a module equal to those of one rank, once per averaged backward pass.

    `changed()` compares with what they were when they were last alike: other tensors, other memory or a counted change in
    place. If all ranks share memory, rank 0 leaves changed buffers there with `offer()`, before gradients are reduced; after
    that the others have only to copy them. Where it has not, and for another rank's, `copy_from()` broadcasts.

    group: of the ranks; buffers: returns those that the module has now.
    """

    def __init__(self, group: ProcessGroup, buffers: Callable[[], list[Tensor]]) -> None:
        self._group, self._buffers = group, buffers
        self._is_root = get_rank(group) == _ROOT
        self._changed = False
        self._pack = Pack([])
        now = buffers()
        self._shelf = _Shelf.of(group, packed_size([b._a for b in now]))
        self._remember(now)

    def changed(self) -> bool:
        """Say whether this rank has changed a buffer since they were last alike."""
        now = self._buffers()
        self._changed = len(now) != len(self._seen) or any(
            b._a is not array or b._counter is None or b._counter[0] != version
            for b, (array, version) in zip(now, self._seen, strict=True)
        )
        return self._changed

    def _remember(self, buffers: Sequence[Tensor]) -> None:
        self._seen = [(b._a, -1 if b._counter is None else b._counter[0]) for b in buffers]

    def offer(self) -> None:
        """At the end of every averaged pass, before ranks meet to reduce: leave what has changed for those who take it."""
        if self._shelf is not None:
            self._shelf.turn()
            if self._is_root and self._changed:
                self._shelf.put([b._a for b in self._buffers()])

    def copy_from(self, root: int) -> None:
        """Copy the buffers of rank `root` (of the group) to all; counters of changes stay, as in PyTorch."""
        now = self._buffers()
        arrays = [b._a for b in now]
        if root != _ROOT or self._shelf is None or not self._shelf.has_some:
            if not self._pack.holds(arrays):
                self._pack = Pack(arrays)
            self._pack.broadcast(get_global_rank(self._group, root), self._group)
        elif not self._is_root:
            self._shelf.take(arrays)
        self._remember(now)


class _Shelf:
    """Shared memory in which rank 0 leaves arrays for the others, of two passes in turn.

    A rank that still takes what was left in one pass keeps rank 0 from the end of the next one, so never from the place
    of its own that rank 0 writes to meanwhile.

    halves: rank 0's row, uint8, twice a header (the pass, how many bytes are there) and space.
    """

    @classmethod
    def of(cls, group: ProcessGroup, nbytes: int) -> _Shelf | None:
        """Return one for `nbytes` (the same on every rank), None if there is nothing to put there or no memory to share."""
        if not (group.transport.shares_buckets and 0 < nbytes <= _MOST_BYTES):
            return None
        number, half = group.buckets, _HEADER_BYTES + nbytes
        group.buckets += 1
        rows = group.transport.allocate(f"buffers{number}", 2 * half).rows
        assert rows is not None
        return cls(rows[_ROOT].reshape(2, half))

    def __init__(self, halves: np.ndarray) -> None:
        self._headers = [half[:16].view(np.int64) for half in halves]
        self._spaces = [half[_HEADER_BYTES:] for half in halves]
        self._packs = [Pack([]), Pack([])]
        self._pass = 0

    def turn(self) -> None:
        """Go on to the next pass."""
        self._pass += 1

    def put(self, arrays: Sequence[Any]) -> None:
        """Leave the arrays, as rank 0, if they are not more than at first."""
        half = self._pass & 1
        pack = self._pack(arrays)
        if pack is not None:
            pack.pack()
            self._headers[half][:] = self._pass, pack.nbytes

    @property
    def has_some(self) -> bool:
        """Whether rank 0 has left arrays in this pass; the others ask after having met it."""
        return bool(self._headers[self._pass & 1][0] == self._pass)

    def take(self, arrays: Sequence[Any]) -> None:
        """Copy what is there into the arrays."""
        there = int(self._headers[self._pass & 1][1])
        pack = self._pack(arrays)
        if pack is None or pack.nbytes != there:
            raise DistError(
                f"the buffers of the module take {packed_size(arrays)} bytes on this rank and {there} on rank {_ROOT} of its "
                "group; buffers that are replaced must have the same shapes and types on every rank"
            )
        pack.unpack()

    def _pack(self, arrays: Sequence[Any]) -> Pack | None:
        """Return the place of the arrays in this pass, None if they do not fit."""
        half = self._pass & 1
        if not self._packs[half].holds(arrays):
            nbytes = packed_size(arrays)
            if nbytes > self._spaces[half].size:
                return None
            self._packs[half] = Pack(arrays, self._spaces[half][:nbytes])
        return self._packs[half]
