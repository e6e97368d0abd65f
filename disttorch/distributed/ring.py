"""Slots of fixed size in memory that one process writes, one after another, and another may read at any time.

The memory is a `memfd` that the agent has made, so what a worker wrote last can still be read when
the worker was killed, is stopped or is stuck. The reader trusts nothing in it: a slot whose first
and last word differ is being written, and everything else is checked where it is parsed.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import struct
import threading
from collections.abc import Iterator

from disttorch.distributed import segment

MAGIC = b"DTRG"
VERSION = 1
PAGE = 4096
NAMED_THREADS = 60
_HEADER = struct.Struct("<4sIII")
_SERIAL = struct.Struct("<Q")
_THREAD = struct.Struct("<II56s")
_THREADS_AT = 128
_MEMFD = "/memfd:disttorch-"


class Layout:
    """How many slots of how many bytes there are after a page about the ring and `extra` bytes of the user's.

    name: tells rings of different kinds apart. The first and the last eight bytes of a slot are its serial number.
    """

    def __init__(self, name: str, slots: int, slot_bytes: int, extra: int = 0) -> None:
        self.name, self.slots, self.slot_bytes = name, slots, slot_bytes
        self.first = PAGE + extra
        self.total = self.first + slots * slot_bytes

    def create(self) -> int:
        """Return the descriptor of new, empty memory for such a ring."""
        return segment.create(self.name, self.total)

    def slots_of(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """Yield serial number and memory of every slot that is complete in a copy of a ring, in order of the numbers."""
        if len(data) != self.total or _HEADER.unpack_from(data)[:2] != (MAGIC, VERSION):
            return
        found = []
        for index, at in enumerate(range(self.first, self.total, self.slot_bytes)):
            (serial,) = _SERIAL.unpack_from(data, at)
            last = _SERIAL.unpack_from(data, at + self.slot_bytes - _SERIAL.size)[0]
            if serial and serial == last and serial % self.slots == index:
                found.append((serial, at))
        view = memoryview(data)
        for serial, at in sorted(found):
            yield serial, view[at : at + self.slot_bytes]

    def threads_of(self, data: bytes) -> dict[int, str]:
        """Return the names of the writer's threads by their number in the system."""
        if len(data) != self.total or _HEADER.unpack_from(data)[:2] != (MAGIC, VERSION):
            return {}
        found = {}
        for index in range(NAMED_THREADS):
            number, length, name = _THREAD.unpack_from(data, _THREADS_AT + index * _THREAD.size)
            if number and length <= len(name):
                found[number] = clean(name[:length])
        return found

    def read(self, fd: int) -> bytes:
        """Return a copy of what a writer has put behind a descriptor from `create`; b"" if it cannot be read."""
        with contextlib.suppress(OSError):
            return os.pread(fd, self.total, 0)
        return b""


class Ring:
    """The writer's side. `memory` is the mapping; `claim` gives the next slot."""

    def __init__(self, layout: Layout, memory: mmap.mmap) -> None:
        self.layout, self.memory = layout, memory
        self._serials = itertools.count(1)
        self._named: set[int] = set()
        _HEADER.pack_into(memory, 0, MAGIC, VERSION, os.getpid(), layout.slots)

    @classmethod
    def open(cls, layout: Layout, variable: str) -> Ring:
        """Map the memory whose descriptor the agent left in an environment variable; without one, memory of its own."""
        number = os.environ.pop(variable, "")
        memory = _inherited(layout, int(number)) if number.isdecimal() else None
        return cls(layout, memory or mmap.mmap(-1, layout.total))

    def claim(self) -> tuple[int, int]:
        """Return the serial number of the next record and where its slot begins; safe in any thread."""
        serial = next(self._serials)
        layout = self.layout
        return serial, layout.first + serial % layout.slots * layout.slot_bytes

    def thread(self) -> int:
        """Return the calling thread's number in the system, and note its name at the first call."""
        number = threading.get_native_id()
        if number not in self._named:
            slot = len(self._named) % NAMED_THREADS
            self._named.add(number)
            name = threading.current_thread().name.encode()[:56]
            _THREAD.pack_into(self.memory, _THREADS_AT + slot * _THREAD.size, number, len(name), name)
        return number

    def copy(self) -> bytes:
        """Return a copy of the memory, as `Layout.read` does for the agent."""
        return self.memory[:]


def clean(data: bytes) -> str:
    """Return text that came from another process, without what could steer a terminal."""
    text = data.rstrip(b"\0").decode(errors="replace")
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _inherited(layout: Layout, fd: int) -> mmap.mmap | None:
    """Map an inherited descriptor; None if it is not a ring, or another process writes to it already.

    A process that a worker has started inherits the variable but not the descriptor, which may be anything there.
    """
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
        if not name.startswith(_MEMFD + layout.name) or os.fstat(fd).st_size != layout.total:
            return None
        os.set_inheritable(fd, False)
        memory = mmap.mmap(fd, layout.total, mmap.MAP_SHARED)
    except (OSError, ValueError):
        return None
    if _HEADER.unpack_from(memory)[2] not in (0, os.getpid()):
        return None
    os.close(fd)
    return memory
