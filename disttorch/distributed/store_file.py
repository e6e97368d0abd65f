"""A store in a file that processes of one host share."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from disttorch.distributed.errors import DistStoreError, StoreTimeout
from disttorch.distributed.store import Store
from disttorch.distributed.store_table import StoreTable

_MAGIC = b"DTFS1\n"
# Length and CRC of a record.
_HEAD = struct.Struct("<II")
_POLL_SECONDS = (0.001, 0.05)
_FIELDS = ("value", "expected", "amount")
_INTERNAL = "\0users"

_stores: weakref.WeakSet[FileStore] = weakref.WeakSet()


class FileStore(Store):
    """A store in the file `file_name`, which is made if need be; every process that opens it sees the same values.

    The file is a log of the changes, each a msgpack list behind its length and checksum; a lock on it orders them, and
    half a record, left by a process that was killed, is cut off. world_size: how many processes use the file; when that
    many have closed it and nobody has it open, it is removed. With -1 it stays, and its values are there next time.
    """

    def __init__(
        self, file_name: str | os.PathLike[str], world_size: int = -1, timeout: float | timedelta = 300.0
    ) -> None:
        super().__init__(timeout)
        self._path = os.path.abspath(os.fspath(file_name))
        self._world_size = world_size
        self._table = StoreTable()
        self._position = 0
        self._identity = (0, 0)
        self._mutex = threading.Lock()
        self._pid = os.getpid()
        self._open = True
        self._count_user(opened=1)
        _stores.add(self)

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    def num_keys(self) -> int:
        """Return the number of keys."""
        return super().num_keys() - 1

    def list_keys(self) -> list[str]:
        """Return the keys."""
        return [key for key in super().list_keys() if key != _INTERNAL]

    def clone(self) -> FileStore:
        """Return another store on the same file."""
        return FileStore(self._path, self._world_size, self._timeout)

    def close(self) -> None:
        """Stop using the file; the last of `world_size` users removes it."""
        if not self._open or self._pid != os.getpid():
            return
        self._open = False
        with contextlib.suppress(OSError, DistStoreError):
            self._count_user(closed=1)

    def __del__(self) -> None:
        if getattr(self, "_open", False):
            self.close()

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self._open:
            raise DistStoreError(f"the store in {self._path} was closed")
        deadline = time.monotonic() + request["timeout"]
        pause, longest = _POLL_SECONDS
        while True:
            reply = self._try(request)
            if reply is not None:
                return reply
            left = deadline - time.monotonic()
            if left <= 0:
                return {"value": b"", "amount": 0, "error": "timeout"}
            time.sleep(min(pause, left))
            pause = min(pause * 2, longest)

    def _try(self, request: dict[str, Any]) -> dict[str, Any] | None:
        with self._locked() as fd:
            before = self._table.version
            reply = self._table.answer(request)
            if self._table.version != before:
                self._write(fd, [request["op"], *request["keys"], *(request[name] for name in _FIELDS)])
            return reply

    def _count_user(self, opened: int = 0, closed: int = 0) -> None:
        """Note that a process has opened or closed the file, as `OPEN CLOSED`; the last one removes it."""
        with self._locked() as fd:
            users, ended = map(int, self._table.values.get(_INTERNAL, b"0 0").split())
            users, ended = users + opened - closed, ended + closed
            request = _request("set", _INTERNAL, f"{users} {ended}".encode())
            self._table.answer(request)
            self._write(fd, ["set", _INTERNAL, request["value"], b"", 0])
            if closed and users <= 0 and 0 < self._world_size <= ended:
                os.unlink(self._path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the lock on the file, with the table up to date; yields its descriptor."""
        with self._mutex:
            fd = self._open_locked()
            try:
                self._catch_up(fd)
                yield fd
            finally:
                os.close(fd)

    def _open_locked(self) -> int:
        """Open the file and lock it: the one that has the name when the lock is there."""
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._lock_file(fd)
            mine = os.fstat(fd)
            with contextlib.suppress(FileNotFoundError):
                now = os.stat(self._path)
                if (mine.st_dev, mine.st_ino) == (now.st_dev, now.st_ino):
                    break
            os.close(fd)
        if mine.st_uid != os.geteuid():
            os.close(fd)
            raise DistStoreError(f"{self._path} belongs to another user; give the name of a new file")
        if (mine.st_dev, mine.st_ino) != self._identity or mine.st_size < self._position:
            self._identity = mine.st_dev, mine.st_ino
            self._table, self._position = StoreTable(), 0
        return fd

    def _lock_file(self, fd: int) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(fd)
                    raise StoreTimeout(
                        f"another process has held the lock on {self._path} for {self._timeout:g} s: is it stopped?"
                    ) from None
            time.sleep(_POLL_SECONDS[0])

    def _catch_up(self, fd: int) -> None:
        """Do to the table what others have done since; cut off what is no whole record."""
        if self._position == 0:
            head = os.pread(fd, len(_MAGIC), 0)
            if head != _MAGIC and not _MAGIC.startswith(head):
                raise DistStoreError(f"{self._path} is not the file of a store; give the name of a new file")
            os.pwrite(fd, _MAGIC, 0)
            self._position = len(_MAGIC)
        size = os.fstat(fd).st_size
        while self._position < size:
            try:
                body = _read_record(fd, self._position)
                if body is None:
                    os.ftruncate(fd, self._position)
                    return
                self._replay(body)
            except (ValueError, TypeError, KeyError) as error:
                raise DistStoreError(f"{self._path} is damaged: {error}; remove it") from None
            self._position += _HEAD.size + len(body)

    def _replay(self, body: bytes) -> None:
        import msgpack

        op, key, *details = msgpack.unpackb(body)
        self._table.answer(_request(op, key, *details))

    def _write(self, fd: int, record: list[Any]) -> None:
        import msgpack

        body = msgpack.packb(record)
        data = _HEAD.pack(len(body), zlib.crc32(body)) + body
        try:
            whole = os.pwrite(fd, data, self._position) == len(data)
        except OSError:
            whole = False
        if not whole:  # the table holds what the file does not: read it anew
            self._table, self._position = StoreTable(), 0
            raise DistStoreError(f"{self._path} cannot take {len(data)} bytes more: is the disk full?")
        self._position += len(data)


@atexit.register
def _close_all() -> None:
    """Close what is open while that still works: the last user removes the file."""
    for store in list(_stores):
        store.close()


def _request(op: str, key: str, value: bytes, expected: bytes = b"", amount: int = 0) -> dict[str, Any]:
    return {"op": op, "keys": [key], "value": value, "expected": expected, "amount": amount, "timeout": 0.0}


def _read_record(fd: int, position: int) -> bytes | None:
    """Return the record at `position`, or None if it is not all there; ValueError if it is damaged."""
    head = os.pread(fd, _HEAD.size, position)
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    body = os.pread(fd, min(length, os.fstat(fd).st_size), position + _HEAD.size)
    if len(body) < length:
        return None
    if zlib.crc32(body) != checksum:
        raise ValueError("a checksum does not fit")
    return body
