"""What a rank is about to do in a collective, in a form that ranks can compare."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from types import FrameType

from disttorch.distributed.headers import DTYPES, OPS, REDUCE_OPS, SEQUENCE_AT, Header

_PACKAGE = __name__.partition(".")[0] + "."


def call_site() -> tuple[str, int]:
    """Return file and line of the innermost frame outside of this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_globals.get("__name__") or "").startswith(_PACKAGE):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ("<unknown>", 0)


@lru_cache(maxsize=256)
def _fingerprint(*what: object) -> int:
    return int.from_bytes(blake2b(repr(what).encode(), digest_size=8).digest(), "little")


@dataclass(slots=True)
class Call:
    """One collective as one rank sees it.

    op: one of `headers.OPS`; dtype: NumPy name or "none"; shape; reduce_op: "SUM" ... or "none";
    root: a rank or -1; names: what the elements are (a bucket's parameters); bucket: its number.
    """

    op: str
    dtype: str = "none"
    shape: tuple[int, ...] = ()
    reduce_op: str = "none"
    root: int = -1
    names: tuple[str, ...] = ()
    bucket: int = 0
    length: int = 0
    site: tuple[str, int] = field(default_factory=call_site)
    packed: tuple[tuple[int, int], bytes] | None = field(default=None, repr=False, compare=False)

    def header(self, epoch: int, sequence: int, group: int = 0) -> bytes:
        """Return the 64 bytes that are equal on every rank if the ranks agree."""
        if self.packed is None or self.packed[0] != (epoch, group):
            self.packed = (epoch, group), self._pack(epoch, group)
        template = self.packed[1]
        return template[:SEQUENCE_AT] + sequence.to_bytes(8, "little") + template[SEQUENCE_AT + 8 :]

    def _pack(self, epoch: int, group: int) -> bytes:
        return Header(
            op=OPS.index(self.op),
            dtype=DTYPES.index(self.dtype),
            reduce_op=REDUCE_OPS.index(self.reduce_op),
            epoch=epoch,
            group=group,
            sequence=0,
            bucket=self.bucket,
            chunk=0,
            offset=0,
            length=self.length,
            fingerprint=_fingerprint(self.op, self.dtype, self.shape, self.reduce_op, self.root, self.names),
            flags=0,
        ).pack()

    def describe(self, sequence: int) -> str:
        """Say what this is and where it was called, for an error message."""
        parts = []
        if self.dtype != "none":
            parts.append(f"{self.dtype}{list(self.shape)}")
        if self.reduce_op != "none":
            parts.append(self.reduce_op)
        if self.root >= 0:
            parts.append(f"root {self.root}")
        if self.op == "bucket":
            shown = ", ".join(self.names[:3]) + (", ..." if len(self.names) > 3 else "")
            parts.append(f"gradients of {shown}")
        elif self.op in ("all_gather", "broadcast", "gather", "scatter") and self.names:
            parts.append(", ".join(self.names))
        file, line = self.site
        return f"{self.op}({', '.join(parts)}), collective number {sequence}, called at {file}:{line}"
