"""The transport between ranks of one host: a shared segment, and one word per rank that tells how far it is.

Each rank owns a page of the control area (its phase word, the headers of its last two collectives,
a text for error messages) and two staging buffers. A step is: write the staging buffer, add one to
the own phase word, wait until every other word is as far. A rank may be at most one phase ahead of
another, so two buffers and two headers used in turn are never overwritten while somebody reads
them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from disttorch.distributed import futex
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.errors import DistError
from disttorch.distributed.headers import HEADER
from disttorch.distributed.members import Members
from disttorch.distributed.reduction import Reduction
from disttorch.distributed.segment import PAGE, Segment, round_up
from disttorch.distributed.transport import CACHE_LINE, Bucket, Transport, slice_bounds

STAGING_BYTES = 1024 * 1024
# Spinning costs a core but spares the kernel's wake-up; only a thread that would do nothing else
# spins. Where ranks share cores it gives its core to another one that is ready, again and again.
SPIN_SECONDS = 50e-6
YIELD_SECONDS = 1e-3
# From here on, summing only the own slice saves more than the second step costs.
SLICED_BYTES = 512 * 1024
SLICED_BYTES_OF_MANY = 64 * 1024
MANY_RANKS = 4

_HEADERS = 64  # offset in a rank's page of two headers
_TEXT = 256  # offset of a length-prefixed text
_WORD_MASK = 0xFFFFFFFF
_HALF = 0x80000000


class SharedMemoryTransport(Transport):
    """Ranks of one host; all of them must ask the same agent for segments.

    here: which of the group's ranks share this memory (all, unless it is a part of another
    transport); staging: bytes that a rank can give in one step.
    """

    def __init__(
        self, link: AgentLink, members: Members, here: Sequence[int] | None = None, staging: int | None = None
    ) -> None:
        super().__init__(link, members)
        staging = staging or STAGING_BYTES
        self.here = list(range(self.size)) if here is None else list(here)
        self.peers = [r for r in self.here if r != self.rank]
        count, own = len(self.here), self.here.index(self.rank)
        self.chunk = staging
        self.cell = staging // count // CACHE_LINE * CACHE_LINE
        total = count * (PAGE + 2 * staging)
        self._segment = Segment(link.segment(f"{members.key}/control-{self.here[0]}", total, count), total)
        self._segment.reserve(own * PAGE, PAGE)
        self._segment.reserve(count * PAGE + own * 2 * staging, 2 * staging)
        self._segment.seal()
        memory = self._segment.bytes
        pages = [memory[i * PAGE : (i + 1) * PAGE].data for i in range(count)]
        rows = memory[count * PAGE :].reshape(count, 2, staging)
        self._position = {r: i for i, r in enumerate(self.here)}
        self._pages = dict(zip(self.here, pages))
        self._words = {r: page[:4].cast("I") for r, page in self._pages.items()}
        self._addresses = {r: self._segment.address + i * PAGE for i, r in enumerate(self.here)}
        self._staging = [{r: rows[i, parity] for i, r in enumerate(self.here)} for parity in (0, 1)]
        self._phase = 0
        self._header = b""
        self._spin = 0.0
        self._yields: bool = link.welcome["oversubscribed"]
        self._nothing = np.empty(0, np.uint8)

    def publish(self, header: bytes, patient: bool) -> None:
        """Write the header where the others compare it."""
        at = self._header_offset()
        self._pages[self.rank][at : at + HEADER.size] = header
        self._header = header
        self._spin = 0.0 if patient else YIELD_SECONDS if self._yields else SPIN_SECONDS

    def share(self, part: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """Copy `part` to the own staging buffer and return views of all buffers."""
        if part.size:
            self._outbox()[: part.size] = part
        self.advance()
        return self._collect(part, 0, sizes)

    def exchange(self, parts: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
        """Copy the parts to the cells of the own staging buffer and return views of the own cells of all buffers."""
        outbox = self._outbox()
        for peer in self.peers:
            if parts[peer].size:
                at = self._position[peer] * self.cell
                outbox[at : at + parts[peer].size] = parts[peer]
        self.advance()
        return self._collect(parts[self.rank], self._position[self.rank] * self.cell, sizes)

    def all_reduce(self, flat: np.ndarray, op: str) -> bool:
        """Reduce a tensor that is worth it slice by slice: each rank sums its own slice, in place, and publishes it."""
        if flat.nbytes < (SLICED_BYTES if self.size < MANY_RANKS else SLICED_BYTES_OF_MANY):
            return False
        reduction = self.reduction(op, flat.dtype)
        step = self.cell * self.size // flat.itemsize
        for start in range(0, flat.size, step):
            self._reduce_sliced(flat[start : start + step], reduction)
        return True

    def _reduce_sliced(self, part: np.ndarray, reduction: Reduction) -> None:
        bounds = slice_bounds(part.size, part.itemsize, self.size)
        slices = [part[start:stop] for start, stop in pairwise(bounds)]
        own = slices[self.rank]
        rows = self.exchange([piece.view(np.uint8) for piece in slices], [own.nbytes] * self.size)
        parts = [own if r == self.rank else row.view(part.dtype) for r, row in enumerate(rows)]
        reduction.into([own, self._outbox()[: own.nbytes].view(part.dtype)], parts)
        self.advance()
        for peer in self.peers:
            result = self._staging[self._phase & 1][peer][: slices[peer].nbytes]
            np.copyto(slices[peer], result.view(part.dtype))

    def pending(self, peer: int) -> bool:
        """Say whether `peer` has begun the next collective."""
        return not (self._words[peer][0] - self._phase - 1) & _HALF

    def allocate(self, name: str, nbytes: int) -> Bucket:
        """Return one row per rank of a new segment."""
        assert self.link is not None
        stride = round_up(max(nbytes, 1), PAGE)
        count, own = len(self.here), self._position[self.rank]
        key = f"{self.members.key}/{name}-{self.here[0]}"
        segment = Segment(self.link.segment(key, stride * count, count), stride * count)
        segment.reserve(own * stride, stride)
        segment.seal()
        rows = [segment.bytes[i * stride : i * stride + nbytes] for i in range(count)]
        return Bucket(rows[own], rows)

    def reduce_resident(self, bucket: Bucket, dtype: np.dtype, nbytes: int, op: str) -> None:
        """Wait for all, sum the own slice of all rows into all rows, wait for all."""
        assert bucket.rows is not None
        self.advance()
        bounds = slice_bounds(nbytes // dtype.itemsize, dtype.itemsize, self.size)
        mine = slice(bounds[self.rank], bounds[self.rank + 1])
        rows = [row[:nbytes].view(dtype)[mine] for row in bucket.rows]
        self.reduction(op, dtype).into(rows, rows)
        self.advance()

    def close(self, orderly: bool) -> None:
        """Let go of the memory."""
        self._staging.clear()

    def _outbox(self) -> np.ndarray:
        return self._staging[(self._phase + 1) & 1][self.rank]

    def _collect(self, own: np.ndarray, at: int, sizes: Sequence[int]) -> list[np.ndarray]:
        rows = [self._nothing] * self.size
        for r, buffer in self._staging[self._phase & 1].items():
            rows[r] = buffer[at : at + sizes[r]]
        rows[self.rank] = own
        return rows

    def _header_offset(self) -> int:
        return _HEADERS + HEADER.size * (self.sequence & 1)

    def advance(self) -> None:
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
        start = time.perf_counter()
        if self._spin:
            until = start + self._spin
            while (now := time.perf_counter()) < until:
                if not (word[0] - phase) & _HALF:
                    self.count_waiting(now - start)
                    return
                if self._yields:
                    os.sched_yield()
        while (seen := word[0]) - phase & _HALF:
            futex.wait(address, seen)
            now = time.perf_counter()
            if word[0] == seen:
                self.check_wait([r for r in self.peers if (self._words[r][0] - phase) & _HALF], now - start)
            else:
                self.count_waiting(now - start)
            start = now

    def _compare_headers(self) -> None:
        at = self._header_offset()
        header, self._header = self._header, b""
        if any(self._pages[peer][at : at + HEADER.size] != header for peer in self.peers):
            raise self.mismatch(self.owner.explain())

    def explain(self, *_: object) -> list[str]:
        """Write down what this rank is doing and read what the others are doing."""
        text = self.call.describe(self.sequence).encode()[: PAGE - _TEXT - 4]
        page = self._pages[self.rank]
        page[_TEXT + 4 : _TEXT + 4 + len(text)] = text
        page[_TEXT : _TEXT + 4] = len(text).to_bytes(4, "little")
        self.begin_explaining()
        with contextlib.suppress(DistError):
            self.advance()
        return [self._read_text(r) if r in self._pages else "" for r in range(self.size)]

    def _read_text(self, rank: int) -> str:
        page = self._pages[rank]
        length = int.from_bytes(page[_TEXT : _TEXT + 4], "little")
        return bytes(page[_TEXT + 4 : _TEXT + 4 + min(length, PAGE - _TEXT - 4)]).decode(errors="replace")
