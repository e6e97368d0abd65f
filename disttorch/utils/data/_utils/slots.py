"""Batches in shared memory: a segment without a name, divided into slots, one batch in each.

A worker writes the arrays of a batch into the slot that came with its task and sends only where they lie. The loader
makes tensors on that memory; the slot is free again when the last of them is gone. The kernel frees the segment when
nobody maps it, so nothing can be left behind.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap

ALIGNMENT = 64
# Batches that the user holds on to beyond these are copied out of their slots.
HELD_SLOTS = 2


def round_up(size: int, to: int) -> int:
    """Return the smallest multiple of `to` that is not below `size`."""
    return -(-size // to) * to


def create_segment(name: str, size: int) -> int:
    """Return the descriptor of a new shared segment of `size` bytes, none of them taken yet."""
    fd = os.memfd_create(f"disttorch-{name}", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        raise
    return fd


class SlotRing:
    """The loader's side: lends slots to tasks and takes them back when the arrays on them are gone."""

    def __init__(self, slots: int, batch_bytes: int) -> None:
        self.slot_bytes = round_up(max(batch_bytes, 1), mmap.PAGESIZE)
        self.size = slots * self.slot_bytes
        self.fd = create_segment("batches", self.size)
        try:
            self._memory = mmap.mmap(self.fd, self.size)
        except BaseException:
            os.close(self.fd)
            raise
        self._free = list(range(slots))
        self._leases: dict[int, weakref.ref[np.ndarray]] = {}
        self._close_fd = weakref.finalize(self, os.close, self.fd)

    def acquire(self) -> int:
        """Return a free slot, -1 if there is none."""
        return self._free.pop() if self._free else -1

    def release(self, slot: int) -> None:
        """Take back a slot on which no array lies."""
        if slot >= 0:
            self._free.append(slot)

    def lease(self, slot: int, used: int) -> np.ndarray:
        """Return the first `used` bytes of a slot, uint8, for arrays that share them; copied if too many are held."""
        memory = np.frombuffer(self._memory, np.uint8, used, slot * self.slot_bytes)
        if len(self._leases) >= HELD_SLOTS:
            copied = memory.copy()
            self.release(slot)
            return copied
        self._leases[slot] = weakref.ref(memory, self._returner(slot))
        return memory

    def _returner(self, slot: int) -> Callable[[Any], None]:
        leases, free = self._leases, self._free

        def give_back(_: Any) -> None:
            del leases[slot]
            free.append(slot)

        return give_back


class SlotWriter:
    """The worker's side: fills the slot that came with a task, in a segment that `attach` maps."""

    def __init__(self) -> None:
        self.slot_bytes = 0
        self._fd = -1
        self._memory: mmap.mmap | None = None
        self._address = 0
        self._taken: dict[int, int] = {}
        self._slot = -1
        self.used = 0
        self.missed = 0

    def attach(self, fd: int, size: int, slot_bytes: int) -> None:
        """Write to another segment from now on; the descriptor becomes the writer's."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.slot_bytes = fd, slot_bytes
        self._memory = mmap.mmap(fd, size)
        self._address = np.frombuffer(self._memory, np.uint8, 1).ctypes.data
        self._taken = {}

    def begin(self, slot: int) -> None:
        """Fill `slot` from now on; -1: the batch gets none. `used` and `missed` count its bytes inside and outside."""
        self._slot = slot
        self.used = self.missed = 0

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
        """Return memory in the slot, None if it is full; MemoryError if the machine has no memory for it."""
        nbytes = math.prod(shape) * dtype.itemsize
        end = self.used + nbytes
        if self._slot < 0 or end > self.slot_bytes or not nbytes:
            return None
        self._reserve(end)
        start = self._slot * self.slot_bytes + self.used
        self.used = round_up(end, ALIGNMENT)
        assert self._memory is not None
        return np.frombuffer(self._memory, np.uint8, nbytes, start).view(dtype).reshape(shape)

    def _reserve(self, end: int) -> None:
        """Take the memory now: an error now instead of a SIGBUS while writing."""
        taken = self._taken.get(self._slot, 0)
        if end <= taken:
            return
        try:
            os.posix_fallocate(self._fd, self._slot * self.slot_bytes + taken, end - taken)
        except OSError as error:
            raise MemoryError(
                f"no shared memory for a batch of {end} bytes ({error.strerror}); use smaller batches or fewer workers"
            ) from None
        self._taken[self._slot] = end

    def place(self, array: np.ndarray) -> int | None:
        """Copy an array into the slot unless `allocate` put it there; return its offset, None if the slot is full."""
        if array.flags.c_contiguous:
            offset = self._offset(array)
            if offset >= 0 and offset + array.nbytes <= self.used:
                return offset
        target = self.allocate(array.shape, array.dtype)
        if target is None:
            self.missed += round_up(array.nbytes, ALIGNMENT)
            return None
        target[...] = array
        return self._offset(target)

    def _offset(self, array: np.ndarray) -> int:
        if self._slot < 0 or not array.nbytes:
            return -1
        return array.ctypes.data - self._address - self._slot * self.slot_bytes


class Placing:
    """A mixin for picklers: leaves out the arrays that it puts into a slot, and says where they are."""

    writer: SlotWriter

    def persistent_id(self, obj: Any) -> Any:
        """Return what `unpack` needs to make an array or a tensor again; None for anything else."""
        if type(obj) is Tensor:
            _check_can_travel(obj)
            return "tensor", obj._a, obj._requires_grad
        if type(obj) is np.ndarray and not obj.dtype.hasobject:
            offset = self.writer.place(obj)
            return None if offset is None else ("array", offset, obj.dtype, obj.shape)
        return None


class BatchPickler(Placing, pickle.Pickler):
    """Pickles a batch by the rules of `pickle`: classes and functions by name."""


def pack(batch: Any, writer: SlotWriter, pickler: type[Any] = BatchPickler) -> bytes:
    """Return the pickle of a batch whose arrays are in the writer's slot, as far as they fit."""
    buffer = io.BytesIO()
    packing = pickler(buffer, protocol=5)
    packing.writer = writer
    packing.dump(batch)
    return buffer.getvalue()


def _check_can_travel(tensor: Tensor) -> None:
    if tensor.grad_fn is not None:
        raise RuntimeError(
            "Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd does not support crossing "
            "process boundaries. If you just want to transfer the data, call detach() on the tensor in the dataset or in "
            "collate_fn."
        )
    if type(tensor._a) is not np.ndarray:
        raise RuntimeError(
            f"a worker can pass on tensors on the CPU only, got one on '{tensor.device}'; move it in the main process"
        )


def unpack(payload: bytes, memory: np.ndarray | None) -> Any:
    """Return the batch of a pickle made by `pack`, with its arrays on the slot's `memory`."""
    return _BatchUnpickler(payload, memory).load()


class _BatchUnpickler(pickle.Unpickler):
    def __init__(self, payload: bytes, memory: np.ndarray | None) -> None:
        super().__init__(io.BytesIO(payload))
        self._memory = memory

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "tensor":
            _, array, requires_grad = pid
            return wrap(array).requires_grad_(requires_grad)
        _, offset, dtype, shape = pid
        assert self._memory is not None
        nbytes = math.prod(shape) * dtype.itemsize
        return self._memory[offset : offset + nbytes].view(dtype).reshape(shape)
