"""Copying many tensors from one rank to all of a group in few broadcasts, and buffers when they have changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.backends import backend_of, device_of
from disttorch.distributed.collectives import broadcast
from disttorch.distributed.device_memory import DeviceMemory
from disttorch.distributed.groups import get_global_rank

_ALIGNMENT = 16
_PACK_BYTES = 32 * 1024 * 1024
_ALONE_BYTES = 1024 * 1024


def broadcast_coalesced(
    tensors: Sequence[Tensor], root: int, group: Any = None, packs: dict[Any, Pack] | None = None
) -> None:
    """Copy the tensors of rank `root` (a rank of the group) to all ranks; shapes and dtypes are the same everywhere.

    packs: keeps memory for the next time, with the same root and tensors.
    """
    source = get_global_rank(group, root)
    small = []
    for tensor in tensors:
        if tensor._a.nbytes >= _ALONE_BYTES:
            broadcast(tensor, source, group)
        else:
            small.append(tensor)
    packs = {} if packs is None else packs
    for number, part in enumerate(_parts(small)):
        arrays = [tensor._a for tensor in part]
        pack = packs.get((root, number))
        if pack is None or not pack.holds(arrays):
            pack = packs[root, number] = Pack(arrays)
        pack.broadcast(source, group)
        for tensor in part:
            if tensor._counter is not None:
                tensor._counter[0] += 1


def _parts(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    part: list[Tensor] = []
    size = 0
    for tensor in tensors:
        part.append(tensor)
        size += tensor._a.nbytes
        if size >= _PACK_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


class Pack:
    """Memory for the bytes of several arrays, of any dtypes, so that one broadcast carries them all.

    Arrays on a GPU that come one after another are collected there, in memory that is copied as a whole.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        self._arrays = list(arrays)
        lengths = [-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in arrays]
        self._bytes = np.zeros(sum(lengths), np.uint8)
        self._places: list[Any] = []
        self._on_devices: list[tuple[DeviceMemory, np.ndarray]] = []
        begin = 0
        for _, run in groupby(zip(arrays, lengths, strict=True), lambda pair: device_of(pair[0])):
            members = list(run)
            end = begin + sum(length for _, length in members)
            self._add_run(members, self._bytes[begin:end])
            begin = end

    def _add_run(self, members: list[tuple[Any, int]], host: np.ndarray) -> None:
        memory: Any = host
        first = members[0][0]
        if not isinstance(first, np.ndarray):
            library = backend_of(first).namespace
            with library.cuda.Device(first.device.id):
                memory = library.zeros(host.shape, np.uint8)
            self._on_devices.append((DeviceMemory(memory), host))
        start = 0
        for array, length in members:
            self._places.append(memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape))
            start += length

    def broadcast(self, source: int, group: Any) -> None:
        """Copy the arrays of the rank `source` (of all ranks) to every rank of the group."""
        from disttorch.distributed.runtime import get_rank

        own = get_rank() == source
        if own:
            for array, place in zip(self._arrays, self._places, strict=True):
                place[...] = array
            for memory, host in self._on_devices:
                memory.mark()
                memory.fetch(host)
        broadcast(self._bytes, source, group)
        if not own:
            for memory, host in self._on_devices:
                memory.mark()
                memory.store(host)
            for array, place in zip(self._arrays, self._places, strict=True):
                array[...] = place

    def holds(self, arrays: Sequence[Any]) -> bool:
        """Say whether this was made for these very arrays."""
        return len(arrays) == len(self._arrays) and all(a is b for a, b in zip(arrays, self._arrays, strict=True))


class BufferSync:
    """Keeps a module's buffers equal to those of one rank.

    `changed()` compares with what `remember` saw: other tensors, other memory or a counted change in place.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self._pack = Pack([])
        self._seen: list[tuple[Any, int]] = []

    def changed(self, buffers: Sequence[Tensor]) -> bool:
        """Say whether this rank has changed a buffer since they were last alike."""
        return len(buffers) != len(self._seen) or any(
            b._a is not array or b._counter is None or b._counter[0] != version
            for b, (array, version) in zip(buffers, self._seen, strict=True)
        )

    def remember(self, buffers: Sequence[Tensor]) -> None:
        """Take the buffers as they are for what all ranks have."""
        self._seen = [(b._a, -1 if b._counter is None else b._counter[0]) for b in buffers]

    def copy_from(self, root: int, buffers: Sequence[Tensor]) -> None:
        """Copy the buffers of rank `root` (of the group) to all; counters of changes stay, as in PyTorch."""
        arrays = [b._a for b in buffers]
        if not self._pack.holds(arrays):
            self._pack = Pack(arrays)
        self._pack.broadcast(get_global_rank(self._group, root), self._group)
        self.remember(buffers)
