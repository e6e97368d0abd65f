"""The transport between ranks of one host: a shared segment, and one word per rank that tells how far it is.

Each rank owns a page of the control area (its phase word, the headers of its last two collectives,
a text for error messages) and two staging buffers. A step is: write the staging buffer, add one to
the own phase word, wait until every other word is as far. A rank may be at most one phase ahead of
another, so two buffers and two headers used in turn are never overwritten while somebody reads
them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import numpy as np

from disttorch.distributed import futex
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.errors import DistError
from disttorch.distributed.headers import HEADER
from disttorch.distributed.segment import PAGE, Segment, round_up
from disttorch.distributed.transport import Bucket, Transport, slice_bounds

STAGING_BYTES = 1024 * 1024
# Spinning costs a core but spares the kernel's wake-up; only a thread that would do nothing else
# spins.
SPIN_SECONDS = 50e-6

_HEADERS = 64  # offset in a rank's page of two headers
_TEXT = 256  # offset of a length-prefixed text
_WORD_MASK = 0xFFFFFFFF
_HALF = 0x80000000


class SharedMemoryTransport(Transport):
    """Ranks of one host; all of them must ask the same agent for segments."""

    chunk = STAGING_BYTES

    def __init__(self, link: AgentLink, rank: int, size: int, epoch: int) -> None:
        super().__init__(link, rank, size, epoch)
        total = size * (PAGE + 2 * STAGING_BYTES)
        self._segment = Segment(link.segment(f"{epoch}/control", total), total)
        self._segment.reserve(rank * PAGE, PAGE)
        own = size * PAGE + rank * 2 * STAGING_BYTES
        self._segment.reserve(own, 2 * STAGING_BYTES)
        self._segment.seal()
        memory = self._segment.bytes
        self._pages = [memory[r * PAGE : (r + 1) * PAGE].data for r in range(size)]
        self._words = [page[:4].cast("I") for page in self._pages]
        self._addresses = [self._segment.address + r * PAGE for r in range(size)]
        staging = memory[size * PAGE :].reshape(size, 2, STAGING_BYTES)
        self._staging = [[staging[r, parity] for r in range(size)] for parity in (0, 1)]
        self._phase = 0
        self._header = b""
        self._spin = 0.0
        self._may_spin = not link.welcome["oversubscribed"]

    def _publish(self, header: bytes, patient: bool) -> None:
        at = self._header_offset()
        self._pages[self.rank][at : at + HEADER.size] = header
        self._header = header
        self._spin = SPIN_SECONDS if self._may_spin and not patient else 0.0

    def outbox(self, nbytes: int) -> np.ndarray:
        return self._staging[(self._phase + 1) & 1][self.rank][:nbytes]

    def exchange(self, sizes: Sequence[int]) -> list[np.ndarray]:
        self._advance()
        return [row[:size] for row, size in zip(self._staging[self._phase & 1], sizes, strict=True)]

    def scatter(self, bounds: Sequence[int]) -> list[np.ndarray]:
        self._advance()
        mine = slice(bounds[self.rank], bounds[self.rank + 1])
        return [row[mine] for row in self._staging[self._phase & 1]]

    def allocate(self, name: str, nbytes: int) -> Bucket:
        assert self.link is not None
        stride = round_up(max(nbytes, 1), PAGE)
        segment = Segment(self.link.segment(f"{self.epoch}/{name}", stride * self.size), stride * self.size)
        segment.reserve(self.rank * stride, stride)
        segment.seal()
        rows = [segment.bytes[r * stride : r * stride + nbytes] for r in range(self.size)]
        return Bucket(rows[self.rank], rows)

    def reduce_resident(self, bucket: Bucket, dtype: np.dtype, nbytes: int, op: str) -> None:
        assert bucket.rows is not None
        self._advance()
        bounds = slice_bounds(nbytes // dtype.itemsize, dtype.itemsize, self.size)
        mine = slice(bounds[self.rank], bounds[self.rank + 1])
        rows = [row[:nbytes].view(dtype)[mine] for row in bucket.rows]
        self.summation(op, dtype).into(rows, rows)
        self._advance()

    def close(self, orderly: bool) -> None:
        self._staging.clear()

    def _header_offset(self) -> int:
        return _HEADERS + HEADER.size * (self._sequence & 1)

    def _advance(self) -> None:
        """Take the next phase together with all ranks; the first one of a collective compares the headers."""
        self._phase = phase = (self._phase + 1) & _WORD_MASK
        futex.fence()
        self._words[self.rank][0] = phase
        futex.wake(self._addresses[self.rank])
        for peer in self.peers:
            if (self._words[peer][0] - phase) & _HALF:
                self._wait_for(peer, phase)
        futex.fence()
        if self._header:
            self._compare_headers()

    def _wait_for(self, peer: int, phase: int) -> None:
        word, address = self._words[peer], self._addresses[peer]
        if self._spin:
            until = time.perf_counter() + self._spin
            while time.perf_counter() < until:
                if not (word[0] - phase) & _HALF:
                    return
        while (seen := word[0]) - phase & _HALF:
            futex.wait(address, seen)
            if word[0] == seen:
                self._check_wait([r for r in self.peers if (self._words[r][0] - phase) & _HALF])

    def _compare_headers(self) -> None:
        at = self._header_offset()
        header, self._header = self._header, b""
        if any(self._pages[peer][at : at + HEADER.size] != header for peer in self.peers):
            raise self._mismatch(self._explain())

    def _explain(self) -> list[str]:
        """Tell the others what this rank is doing and return what every rank says."""
        text = self._call.describe(self._sequence).encode()[: PAGE - _TEXT - 4]
        page = self._pages[self.rank]
        page[_TEXT + 4 : _TEXT + 4 + len(text)] = text
        page[_TEXT : _TEXT + 4] = len(text).to_bytes(4, "little")
        self._begin_explaining()
        with contextlib.suppress(DistError):
            self._advance()
        return [self._read_text(r) for r in range(self.size)]

    def _read_text(self, rank: int) -> str:
        page = self._pages[rank]
        length = int.from_bytes(page[_TEXT : _TEXT + 4], "little")
        return bytes(page[_TEXT + 4 : _TEXT + 4 + min(length, PAGE - _TEXT - 4)]).decode(errors="replace")
