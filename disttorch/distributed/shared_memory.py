"""The transport between ranks of one host: a shared segment, and one word per rank that tells how far it is.

Each rank owns a page of the control area (its phase word, the headers of its last two collectives,
a text for error messages) and two staging buffers. A step is: write the staging buffer, add one to
the own phase word, wait until every other word is as far. A rank may be at most one phase ahead of
another, so two buffers and two headers used in turn are never overwritten while somebody reads
them. In the middle of a large tensor it may be two ahead; `pipeline` has four buffers for that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.errors import DistError
from disttorch.distributed.headers import HEADER
from disttorch.distributed.members import Members
from disttorch.distributed.phases import Phases
from disttorch.distributed.pipeline import Pipeline
from disttorch.distributed.reduction import COMPILED_BYTES
from disttorch.distributed.resident import ResidentSum
from disttorch.distributed.segment import PAGE, Segment, round_up
from disttorch.distributed.transport import CACHE_LINE, NOTHING, Bucket, Transport, slice_bounds

STAGING_BYTES = 512 * 1024
# Ranks that share cores meet slowly in Python, as one has to run after the other: they give more at a time.
STAGING_FACTOR_OF_SHARED_CORES = 4
# From here on, summing only the own slice saves more than the second step costs; where that is compiled, or there are many
# ranks, it is earlier.
SLICED_BYTES = 512 * 1024
SLICED_BYTES_EARLY = COMPILED_BYTES
MANY_RANKS = 4

_HEADERS = 64  # offset in a rank's page of two headers
_TEXT = 256  # offset of a length-prefixed text


class SharedMemoryTransport(Transport):
    """Ranks of one host; all of them must ask the same agent for segments.

    here: which of the group's ranks share this memory (all, unless it is a part of another
    transport); staging: bytes that a rank can give in one step.
    """

    shares_buckets = True

    def __init__(
        self, link: AgentLink, members: Members, here: Sequence[int] | None = None, staging: int | None = None
    ) -> None:
        super().__init__(link, members)
        shares_cores: bool = link.welcome["oversubscribed"]
        staging = staging or STAGING_BYTES * (STAGING_FACTOR_OF_SHARED_CORES if shares_cores else 1)
        self.here = list(range(self.size)) if here is None else list(here)
        self.peers = [r for r in self.here if r != self.rank]
        count = len(self.here)
        self._own = own = self.here.index(self.rank)
        self.chunk = staging
        self.cell = staging // count // CACHE_LINE * CACHE_LINE
        total = count * (PAGE + 2 * staging)
        control = Segment(link.segment(f"{members.key}/control-{self.here[0]}", total, count), total)
        with control:
            control.reserve(own * PAGE, PAGE)
            control.reserve(count * PAGE + own * 2 * staging, 2 * staging)
        memory = control.bytes
        pages = [memory[i * PAGE : (i + 1) * PAGE] for i in range(count)]
        rows = memory[count * PAGE :].reshape(count, 2, staging)
        self._position = {r: i for i, r in enumerate(self.here)}
        self._pages = {r: page.data for r, page in zip(self.here, pages)}
        self._staging = [{r: rows[i, parity] for i, r in enumerate(self.here)} for parity in (0, 1)]
        self._phases = Phases(pages, own, shares_cores, self._wait_for, self.came)
        self._pipeline: Pipeline | None = None
        if here is None:
            self._pipeline = Pipeline(rows.reshape(count, -1), own, self._phases, self.advance, self._compare_headers)
        self._header = b""

    def publish(self, header: bytes, patient: bool) -> None:
        """Write the header where the others compare it."""
        at = self._header_offset()
        self._pages[self.rank][at : at + HEADER.size] = header
        self._header = header
        self._phases.patient = patient

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
                assert parts[peer].size <= self.cell
                at = self._position[peer] * self.cell
                outbox[at : at + parts[peer].size] = parts[peer]
        self.advance()
        return self._collect(parts[self.rank], self._position[self.rank] * self.cell, sizes)

    def all_reduce(self, flat: np.ndarray, op: str) -> bool:
        """Reduce a tensor slice by slice, if that is worth it: each rank sums its own slice for all."""
        reduction = self.reduction(op, flat.dtype)
        early = self.size >= MANY_RANKS or reduction.compilable
        if flat.nbytes < (SLICED_BYTES_EARLY if early else SLICED_BYTES):
            return False
        assert self._pipeline is not None
        self._pipeline.all_reduce(flat, reduction, self._header_at)
        self._header = b""
        return True

    def pending(self, peer: int) -> bool:
        """Say whether `peer` has begun the next collective."""
        return self._phases.is_ahead(self._position[peer])

    def allocate(self, name: str, nbytes: int) -> Bucket:
        """Return one row per rank of a new segment."""
        assert self.link is not None
        stride = round_up(max(nbytes, 1), PAGE)
        count, own = len(self.here), self._own
        key = f"{self.members.key}/{name}-{self.here[0]}"
        segment = Segment(self.link.segment(key, stride * count, count), stride * count)
        with segment:
            segment.reserve(own * stride, stride)
        rows = [segment.bytes[i * stride : i * stride + nbytes] for i in range(count)]
        return Bucket(rows[own], rows)

    def prepare(self, bucket: Bucket, dtype: np.dtype, nbytes: int, op: str) -> None:
        """Load the compiled sum of a bucket now rather than in the first step."""
        self._compiled_sum(bucket, dtype, nbytes, op)

    def reduce_resident(self, bucket: Bucket, dtype: np.dtype, nbytes: int, op: str) -> None:
        """Wait for all, sum the own slice of all rows into all rows, wait for all."""
        compiled = self._compiled_sum(bucket, dtype, nbytes, op)
        if compiled is not None:
            compiled.run(self._header_at, self._compare_headers)
            self._header = b""
            return
        assert bucket.rows is not None
        self.advance()
        rows = self._own_slices(bucket.rows, dtype, nbytes)
        self.reduction(op, dtype).into(rows, rows)
        self.advance()

    def _compiled_sum(self, bucket: Bucket, dtype: np.dtype, nbytes: int, op: str) -> ResidentSum | None:
        """Return the compiled sum of a bucket, None where there is none for its type or it is too small for one."""
        found: ResidentSum | None = bucket.prepared.get(op)
        if found is None and nbytes >= COMPILED_BYTES and self.reduction(op, dtype).compilable:
            assert bucket.rows is not None
            slices = self._own_slices(bucket.rows, dtype, nbytes)
            found = bucket.prepared[op] = ResidentSum(self.reduction(op, dtype), slices, self._own, self._phases)
        return found

    def _own_slices(self, rows: list[np.ndarray], dtype: np.dtype, nbytes: int) -> list[np.ndarray]:
        bounds = slice_bounds(nbytes // dtype.itemsize, dtype.itemsize, self.size)
        mine = slice(bounds[self.rank], bounds[self.rank + 1])
        return [row[:nbytes].view(dtype)[mine] for row in rows]

    def close(self, orderly: bool) -> None:
        """Let go of the memory."""
        self._staging.clear()
        self._pages.clear()
        self._phases.close()
        self._pipeline = None

    def _outbox(self) -> np.ndarray:
        return self._staging[(self._phases.phase + 1) & 1][self.rank]

    def _collect(self, own: np.ndarray, at: int, sizes: Sequence[int]) -> list[np.ndarray]:
        rows = [NOTHING] * self.size
        for r, buffer in self._staging[self._phases.phase & 1].items():
            rows[r] = buffer[at : at + sizes[r]]
        rows[self.rank] = own
        return rows

    def _header_offset(self) -> int:
        return _HEADERS + HEADER.size * (self.sequence & 1)

    @property
    def _header_at(self) -> int:
        """Where in a rank's page the header is that is still to be compared, 0 if there is none."""
        return self._header_offset() if self._header else 0

    def advance(self) -> None:
        """Take the next phase together with all ranks; the first one of a collective compares the headers."""
        self._phases.advance()
        if self._header:
            self._compare_headers()

    def _wait_for(self, positions: list[int], seconds: float) -> None:
        self.check_wait([self.here[i] for i in positions], seconds)

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
