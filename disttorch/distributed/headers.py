"""The 64-byte header of payload.

Its fields are magic, version, op, dtype, reduce op, epoch, group, sequence, bucket, chunk, offset, length,
fingerprint, flags.

The headers that the ranks publish for one collective are equal byte for byte; a difference means
that the ranks disagree, and it is found before any payload is read.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from disttorch.distributed.errors import ProtocolError

MAGIC = b"DTCH"
VERSION = 1
HEADER = struct.Struct("<4sBBBBIIQIIQQQI4x")
SEQUENCE_AT = 16  # where the 8 bytes of the sequence are

OPS = (
    "all_reduce", "broadcast", "all_gather", "barrier", "bucket", "reduce", "gather", "scatter",
    "reduce_scatter", "all_to_all", "send",
)  # fmt: skip
REDUCE_OPS = ("none", "SUM", "AVG", "PRODUCT", "MIN", "MAX", "BAND", "BOR", "BXOR")
DTYPES = (
    "none", "bool", "uint8", "int8", "int16", "int32", "int64",
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip


class Header(NamedTuple):
    """The fixed header that goes before payload and that every rank publishes for a collective."""

    op: int
    dtype: int
    reduce_op: int
    epoch: int
    group: int
    sequence: int
    bucket: int
    chunk: int
    offset: int
    length: int
    fingerprint: int
    flags: int

    def pack(self) -> bytes:
        """Return the 64 bytes."""
        return HEADER.pack(MAGIC, VERSION, *self)

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Header:
        """Parse 64 bytes; ProtocolError for another length, magic or version."""
        if len(data) != HEADER.size:
            raise ProtocolError(f"a payload header has {HEADER.size} bytes, got {len(data)}")
        magic, version, *fields = HEADER.unpack(data)
        if magic != MAGIC or version != VERSION:
            raise ProtocolError(f"expected header {MAGIC!r} version {VERSION}, got {magic!r} version {version}")
        return cls(*fields)
