"""Writing a checkpoint's zip archive: uncompressed, aligned payloads, fixed timestamps."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

ALIGNMENT = 64  # bytes; payloads start at multiples, so that a mapped file gives aligned arrays
WIDE_FROM = 0xFFFFFFFF  # a size or offset from here on goes into a ZIP64 field
MANY_FROM = 0xFFFF  # and a number of records
_IN_ZIP64 = 0xFFFFFFFF  # what the 32-bit field holds then
_DATE = 0x0021  # 1 January 1980: equal objects give equal files
_PADDING_ID = b"FB"  # the extra field in which PyTorch pads

Payload = bytes | memoryview


class _Entry(NamedTuple):
    name: bytes
    offset: int
    size: int
    crc: int


class ArchiveWriter:
    """Writes records below one folder of a zip archive, front to back, through `write` alone.

    `write` is the method of a binary file, which need not be seekable; offsets count from its
    position now. A payload is `bytes` or a contiguous memoryview of bytes and is handed to `write`
    without a copy.
    """

    def __init__(self, write: Callable[[Any], Any], folder: str) -> None:
        self._write = write
        self._folder = folder
        self._entries: list[_Entry] = []
        self._position = 0

    def add(self, name: str, payload: Payload) -> None:
        """Append one record."""
        data = memoryview(payload)
        entry = _Entry(f"{self._folder}/{name}".encode(), self._position, data.nbytes, zlib.crc32(data))
        self._put(memoryview(_local_header(entry)))
        self._put(data)
        self._entries.append(entry)

    def close(self) -> None:
        """Append the directory, without which the archive is not complete."""
        start = self._position
        for entry in self._entries:
            self._put(memoryview(_directory_entry(entry)))
        self._put(memoryview(_directory_end(len(self._entries), start, self._position - start)))

    def _put(self, data: memoryview) -> None:
        self._position += data.nbytes
        while data.nbytes:
            written = self._write(data)
            if not isinstance(written, int) or written >= data.nbytes:
                return
            if written <= 0:
                raise OSError("the file took no more data before the checkpoint was complete")
            data = data[written:]  # an unbuffered file may take a part only


def _local_header(entry: _Entry) -> bytes:
    extra = b""
    size = entry.size
    if size >= WIDE_FROM:
        extra = struct.pack("<HHQQ", 1, 16, size, size)
        size = _IN_ZIP64
    start = entry.offset + 30 + len(entry.name) + len(extra) + 4
    padding = -start % ALIGNMENT
    extra += _PADDING_ID + struct.pack("<H", padding) + b"Z" * padding
    needed = _version_needed(entry)
    fields = (needed, 0, 0, 0, _DATE, entry.crc, size, size, len(entry.name), len(extra))
    return b"PK\3\4" + struct.pack("<5H3L2H", *fields) + entry.name + extra


def _directory_entry(entry: _Entry) -> bytes:
    size, offset, wide = entry.size, entry.offset, b""
    if size >= WIDE_FROM:
        wide += struct.pack("<QQ", size, size)
        size = _IN_ZIP64
    if offset >= WIDE_FROM:
        wide += struct.pack("<Q", offset)
        offset = _IN_ZIP64
    extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
    needed = _version_needed(entry)
    fields = (needed, needed, 0, 0, 0, _DATE, entry.crc, size, size, len(entry.name), len(extra))
    return b"PK\1\2" + struct.pack("<6H3L5H2L", *fields, 0, 0, 0, 0, offset) + entry.name + extra


def _version_needed(entry: _Entry) -> int:
    return 45 if max(entry.size, entry.offset) >= WIDE_FROM else 20


def _directory_end(count: int, start: int, size: int) -> bytes:
    wide = b""
    if count >= MANY_FROM or max(start, size) >= WIDE_FROM:
        wide = b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, 0, 0, count, count, size, start)
        wide += b"PK\6\7" + struct.pack("<LQL", 0, start + size, 1)
        count, size, start = 0xFFFF, _IN_ZIP64, _IN_ZIP64
    return wide + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, count, count, size, start, 0)
