"""Reading the zip archive of a checkpoint, with every field checked before it is used."""

from __future__ import annotations

import os
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_WIDE32 = 0xFFFFFFFF
_ENCRYPTED = 1

_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_KNOWN_FILES = (
    (b"", "is empty"),
    (
        _LEGACY,
        "is in the format that PyTorch wrote before version 1.6; load it with PyTorch and save it again",
    ),
    (b"version https://git-lfs", "is a Git LFS pointer; fetch the file itself with 'git lfs pull'"),
    (b"<", "is a web page or another text of markup, perhaps a failed download"),
    (b"\x1f\x8b", "is compressed by gzip; unpack it first"),
    (b"\x89HDF", "is an HDF5 file"),
    (b"\x93NUMPY", "is a NumPy file; read it with numpy.load"),
    (b"\x80", "is a plain pickle, not written by torch.save"),
)


class Record(NamedTuple):
    """An entry of the directory; its header and payload lie between `header` and `limit`."""

    header: int
    size: int
    crc: int
    method: int
    limit: int


class ArchiveReader:
    """The records of a checkpoint archive, by their names below its folder.

    `file` is a seekable binary file; the archive begins at its position now. `name` is used in
    messages. Raises RuntimeError for anything that is not a whole, uncompressed zip archive.
    """

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self.name = name
        self._start = file.tell()
        self.size = file.seek(0, os.SEEK_END) - self._start
        self._check_beginning()
        self.records = self._read_directory()

    def damaged(self, what: str) -> RuntimeError:
        """Return the error for an archive whose bytes contradict each other."""
        return RuntimeError(f"{self.name} is damaged: {what}")

    def read(self, name: str) -> bytes:
        """Return the payload of a record, checked against its checksum."""
        buffer = np.empty(self.record(name).size, np.uint8)
        self.read_into(name, buffer)
        return buffer.tobytes()

    def read_into(self, name: str, buffer: np.ndarray) -> None:
        """Read the payload of a record into a uint8 array of its size, and check its checksum."""
        record = self.record(name)
        self._file.seek(self.payload_offset(name))
        view = buffer.data
        if not _fill(self._file, view):
            raise self.damaged(f"the file ends within record '{name}'")
        # PyTorch can be told to write no checksums (`set_crc32_options(False)`); they are 0 then.
        if record.crc and zlib.crc32(view) != record.crc:
            raise self.damaged(f"the checksum of record '{name}' is wrong")

    def record(self, name: str) -> Record:
        """Return a record; RuntimeError if there is none of that name, or it is compressed."""
        record = self.records.get(name)
        if record is None:
            raise RuntimeError(f"{self.name} has no record '{name}'; expected a checkpoint written by torch.save")
        if record.method:
            raise RuntimeError(
                f"record '{name}' of {self.name} is compressed; expected an archive as torch.save "
                "writes it: unpack it and pack it again without compression (zip -0)"
            )
        return record

    def payload_offset(self, name: str) -> int:
        """Return the position in the file at which the payload of a record begins."""
        record = self.record(name)
        fields = self._unpack(_LOCAL, record.header, f"the header of record '{name}'")
        offset = record.header + _LOCAL.size + fields[-2] + fields[-1]
        if fields[0] != b"PK\3\4" or offset + record.size > record.limit:
            raise self.damaged(f"the header of record '{name}' is wrong")
        return self._start + offset

    def _check_beginning(self) -> None:
        head = self._bytes_at(0, min(self.size, 64))
        if head.startswith(b"PK\3\4"):
            return
        for signature, meaning in _KNOWN_FILES:
            if head.startswith(signature) if signature else not head:
                raise RuntimeError(f"{self.name} {meaning}; expected a checkpoint by torch.save")
        raise RuntimeError(
            f"{self.name} is not a checkpoint: expected a zip archive as torch.save has written it "
            f"since PyTorch 1.6, found a file that begins with {head[:16]!r}"
        )

    def _read_directory(self) -> dict[str, Record]:
        start, length, count = self._find_directory()
        data = self._bytes_at(start, length)
        entries: list[tuple[str, Record]] = []
        at = 0
        while at < length:
            name, record, at = self._parse_entry(data, at)
            entries.append((name, record))
        if len(entries) != count:
            raise self.damaged(f"its directory has {len(entries)} records, not {count}")
        if not entries:
            raise RuntimeError(f"{self.name} is an empty zip archive; expected a checkpoint")
        return self._by_name(entries, start)

    def _by_name(self, entries: list[tuple[str, Record]], end: int) -> dict[str, Record]:
        headers = sorted(record.header for _, record in entries)
        # In reverse, so that of records at one place the last reaches no further than itself.
        limits = dict(zip(reversed(headers), [end, *reversed(headers[1:])], strict=True))
        folder = entries[0][0].partition("/")[0] + "/"
        records: dict[str, Record] = {}
        for name, record in entries:
            if not name.startswith(folder):
                continue
            name = name[len(folder) :]
            if name in records:
                raise self.damaged(f"record '{name}' occurs twice")
            records[name] = record._replace(limit=limits[record.header])
        return records

    def _find_directory(self) -> tuple[int, int, int]:
        """Return where the directory begins, its length, and the number of its entries."""
        tail_start = max(0, self.size - _END.size - 0xFFFF)
        tail = self._bytes_at(tail_start, self.size - tail_start)
        at = tail.rfind(b"PK\5\6")
        if at < 0 or at + _END.size > len(tail):
            raise RuntimeError(
                f"{self.name} is truncated: the end of the zip archive is missing, as after an "
                "interrupted copy or download"
            )
        count, length, start = _END.unpack_from(tail, at)[4:7]
        end = tail_start + at
        if end >= _LOCATOR64.size:
            signature, _, position, _ = self._unpack(_LOCATOR64, end - _LOCATOR64.size, "its end")
            if signature == b"PK\6\7":
                fields = self._unpack(_END64, position, "its ZIP64 end")
                count, length, start = fields[-3:]
                end = position
        if start + length != end:
            raise self.damaged("its directory is not where its end says")
        return start, length, count

    def _parse_entry(self, data: bytes, at: int) -> tuple[str, Record, int]:
        name_at = at + _ENTRY.size
        if name_at > len(data):
            raise self.damaged("its directory is cut off")
        fields = _ENTRY.unpack_from(data, at)
        signature, flags, method, crc = fields[0], fields[3], fields[4], fields[7]
        name_length, extra_length, comment_length = fields[10:13]
        extra_at = name_at + name_length
        end = extra_at + extra_length + comment_length
        if signature != b"PK\1\2" or end > len(data):
            raise self.damaged("its directory has an entry that is not one")
        if flags & _ENCRYPTED:
            raise RuntimeError(f"{self.name} is encrypted; unpack it and pack it again without")
        extra = data[extra_at : extra_at + extra_length]
        packed, size, header = self._wide_fields((fields[8], fields[9], fields[16]), extra)
        if not method and packed != size:
            raise self.damaged("the sizes of a record differ")
        try:
            name = data[name_at:extra_at].decode()
        except UnicodeDecodeError:
            raise self.damaged("the name of a record is not text") from None
        return name, Record(header, size, crc, method, 0), end

    def _wide_fields(self, values: tuple[int, ...], extra: bytes) -> list[int]:
        """Return sizes and offset, from the ZIP64 extra field where 32 bits do not hold them."""
        wide = _extra_field(extra, 1) if _WIDE32 in values else b""
        result = []
        for value in values:
            if value == _WIDE32:
                if len(wide) < 8:
                    raise self.damaged("a ZIP64 field is missing")
                value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
            result.append(value)
        return result

    def _unpack(self, layout: struct.Struct, offset: int, what: str) -> tuple[Any, ...]:
        if offset + layout.size > self.size:
            raise self.damaged(f"{what} is cut off")
        return layout.unpack(self._bytes_at(offset, layout.size))

    def _bytes_at(self, offset: int, length: int) -> bytes:
        """Return bytes that lie within the file."""
        if offset + length > self.size:
            raise self.damaged("it ends too early")
        self._file.seek(self._start + offset)
        buffer = bytearray(length)
        if not _fill(self._file, memoryview(buffer)):
            raise self.damaged("it ends too early")
        return bytes(buffer)


def _extra_field(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        identity, length = struct.unpack_from("<HH", extra, at)
        if identity == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _fill(file: Any, view: memoryview) -> bool:
    """Read until `view` is full; False if the file ends first."""
    read_into = getattr(file, "readinto", None)
    while view.nbytes:
        if read_into is not None:
            count = read_into(view) or 0
        else:
            data = file.read(view.nbytes)
            count = len(data)
            view[:count] = data
        if count <= 0:
            return False
        view = view[count:]
    return True
