"""Copying many tensors from one rank to all of a group in few broadcasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
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
# From so many arrays on machine code copies them, which takes a moment to load.
_MANY = 16


@cache
def _compiled() -> Any:
    return import_module("disttorch.distributed._compiled_pack")


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


def packed_size(arrays: Sequence[Any]) -> int:
    """Return how many bytes a `Pack` of these arrays has."""
    return sum(_aligned(array.nbytes) for array in arrays)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


class Pack:
    """Memory for the bytes of several arrays, of any dtypes, so that one broadcast carries them all.

    Arrays on a GPU that come one after another are collected there, in memory that is copied as a whole.
    memory: uint8, `packed_size(arrays)` long, for a pack that is used again and again: machine code copies many arrays to it;
    new memory without.
    """

    def __init__(self, arrays: Sequence[Any], memory: np.ndarray | None = None) -> None:
        self._arrays = list(arrays)
        lengths = [_aligned(array.nbytes) for array in arrays]
        self._bytes = np.zeros(sum(lengths), np.uint8) if memory is None else memory
        self._places: list[Any] = []
        self._on_devices: list[tuple[DeviceMemory, np.ndarray]] = []
        begin = 0
        for _, run in groupby(zip(arrays, lengths, strict=True), lambda pair: device_of(pair[0])):
            members = list(run)
            end = begin + sum(length for _, length in members)
            self._add_run(members, self._bytes[begin:end])
            begin = end
        self._table = None
        if memory is not None and len(self._arrays) >= _MANY and not self._on_devices:
            self._table = self._addresses()

    def _addresses(self) -> np.ndarray | None:
        """Return where each array's bytes go, where they are and how many, int64; None if that is not all there is to it."""
        if not all(array.flags.c_contiguous and array.flags.writeable for array in self._arrays):
            return None
        pairs = zip(self._places, self._arrays, strict=True)
        rows = [(place.ctypes.data, array.ctypes.data, array.nbytes) for place, array in pairs]
        table = np.array(rows, np.int64).T.copy()
        _compiled().copy_pieces(*table[:, :0], self._bytes)  # copies nothing, but the code is compiled then
        return table

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
            self.pack()
        broadcast(self._bytes, source, group)
        if not own:
            self.unpack()

    def pack(self) -> None:
        """Copy the arrays into the memory."""
        if self._table is not None:
            places, arrays, sizes = self._table
            _compiled().copy_pieces(places, arrays, sizes, self._bytes)
            return
        for array, place in zip(self._arrays, self._places, strict=True):
            place[...] = array
        for memory, host in self._on_devices:
            memory.mark()
            memory.fetch(host)

    def unpack(self) -> None:
        """Copy the memory into the arrays."""
        if self._table is not None:
            places, arrays, sizes = self._table
            _compiled().copy_pieces(arrays, places, sizes, self._bytes)
            return
        for memory, host in self._on_devices:
            memory.mark()
            memory.store(host)
        for array, place in zip(self._arrays, self._places, strict=True):
            array[...] = place

    def holds(self, arrays: Sequence[Any]) -> bool:
        """Say whether this was made for these very arrays."""
        return len(arrays) == len(self._arrays) and all(a is b for a, b in zip(arrays, self._arrays, strict=True))
