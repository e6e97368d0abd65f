"""What collectives need from a transport, and what every transport shares."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from disttorch.distributed import flight, progress
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.call import Call
from disttorch.distributed.errors import CollectiveMismatch, CollectiveTimeout, PeerFailed
from disttorch.distributed.members import Members
from disttorch.distributed.reduction import Reduction

# A rank that waits this long says so, once, to the agent, which names the ranks that are missing.
WARN_SECONDS = 10.0
# At the time-out the waiting rank stays where it is this long, so that the agent sees its stack
# there.
STACK_SECONDS = 0.3
# What a rank sent before it left may still be on its way for so long.
LEFT_SECONDS = 0.2
# How long the ranks wait for each other's side of the story after a mismatch.
EXPLAIN_SECONDS = 1.0

CACHE_LINE = 64
NOTHING = np.empty(0, np.uint8)


class Bucket:
    """Gradient memory: `row` is this rank's (uint8); `rows` are all ranks' where they are shared, else None.

    prepared: what the transport keeps for the bucket's reductions, by ReduceOp.
    """

    def __init__(self, row: np.ndarray, rows: list[np.ndarray] | None = None) -> None:
        self.row = row
        self.rows = rows
        self.prepared: dict[str, Any] = {}


class Transport(ABC):
    """Moves bytes between the ranks of one group, in steps that every rank takes together.

    A collective is `begin`, then one or more steps, `end`. In a step a rank gives memory to the
    others and gets theirs: the same to everybody with `share`, something else to each with
    `exchange`. What a step returns is valid until this rank enters the next one; what a rank gives must stay
    as it is until the end of the next step. One thread at a time may use a transport.

    Attributes: `rank`, `size`; `chunk`, the most bytes that a rank may `share` in one step; `cell`, the most that it may
    give another in one `exchange`; `shares_buckets`, whether a bucket's rows are in memory that all ranks share.
    """

    chunk: int
    cell: int
    shares_buckets = False

    def __init__(self, link: AgentLink | None, members: Members) -> None:
        self.link, self.members = link, members
        self.rank, self.size = members.rank, members.size
        self.peers = [r for r in range(self.size) if r != self.rank]
        self.part_of: Transport | None = None
        self.call = Call("barrier")
        self.sequence = 0
        self.slot = -1  # of the collective in the flight recorder
        self._reductions: dict[tuple[str, np.dtype], Reduction] = {}
        self._timeout = 0.0
        self._started = 0.0
        self._warned = False
        self._quiet = False
        self._counts = True
        self._left_since = 0.0

    @property
    def owner(self) -> Transport:
        """The transport that this one is a part of, or itself."""
        return self.part_of or self

    def begin(self, call: Call, sequence: int, timeout: float, patient: bool) -> None:
        """Announce a collective; `patient` says that the waiting thread must not spin."""
        self.call, self.sequence, self._timeout = call, sequence, timeout
        self._started = 0.0
        self._warned = False
        self._counts = not patient
        if self.link is not None:
            self.link.check()
        self.publish(call.header(self.members.epoch, sequence, self.members.number), patient)

    def reduction(self, op: str, dtype: np.dtype) -> Reduction:
        """Return the reduction of this group's rows, which keeps its scratch memory."""
        found = self._reductions.get((op, dtype))
        if found is None:
            found = self._reductions[op, dtype] = Reduction(op, dtype, self.size)
        return found

    @abstractmethod
    def publish(self, header: bytes, patient: bool) -> None:
        """Prepare the first step, in which the ranks compare their headers."""

    @abstractmethod
    def share(self, part: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """Give `part` (uint8, at most `chunk` bytes) to everybody; return what each gave: `sizes[r]` bytes from rank r."""

    @abstractmethod
    def exchange(self, parts: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
        """Give `parts[r]` (uint8) to rank r; return what each gave to this one: `sizes[r]` bytes from rank r.

        A rank's own part comes back as it is. No part is longer than `cell`.
        """

    def end(self) -> None:  # noqa: B027 - most transports have nothing to do here
        """Finish a collective: what this rank gave may be changed from now on."""

    def all_reduce(self, flat: np.ndarray, op: str) -> bool:
        """Reduce `flat` over all ranks in a way of the transport's own, or return False: `steps` knows one for all."""
        return False

    def pending(self, peer: int) -> bool:
        """Say whether `peer` has come to the next collective already."""
        raise NotImplementedError

    @abstractmethod
    def allocate(self, name: str, nbytes: int) -> Bucket:
        """Return memory for a gradient bucket; every rank asks for the same names and sizes."""

    def prepare(self, bucket: Bucket, dtype: np.dtype, nbytes: int, op: str) -> None:
        """Load what the reductions of a bucket need now rather than in the first step."""
        self.reduction(op, dtype).warm_up(nbytes)

    def reduce_resident(self, bucket: Bucket, dtype: np.dtype, nbytes: int, op: str) -> None:
        """Reduce the first `nbytes` of all rows of a shared bucket in place, each rank its own slice."""
        raise NotImplementedError

    @abstractmethod
    def close(self, orderly: bool) -> None:
        """Let go of memory and sockets; `orderly` first sends what is still to be sent."""

    def check_wait(self, missing: Sequence[int], seconds: float) -> None:
        """Called while waiting, about every 50 ms: raise if waiting for `missing` is in vain or has taken too long.

        seconds: how long the rank has waited since the last call.
        """
        self._count(seconds)
        now = time.monotonic()
        if not self._started:
            self._started = now - seconds
        waited = now - self._started
        if self.link is None:
            return
        self.link.check()
        world = [self.members.ranks[r] for r in missing]
        flight.recorder().waiting(self.slot, world)
        gone = self.link.left.intersection(world)
        self._left_since = (self._left_since or now) if gone else 0.0
        if gone and now - self._left_since > LEFT_SECONDS:
            what = self.call.describe(self.sequence)
            raise PeerFailed(min(gone), f"finished while rank {self.members.ranks[self.rank]} waits for it in {what}")
        if waited > self._timeout:
            self._report(world, waited, final=True)
            time.sleep(STACK_SECONDS)
            raise CollectiveTimeout(
                f"rank {self.members.ranks[self.rank]} waited {self._timeout:g} s for {_ranks(world)} in "
                f"{self.call.describe(self.sequence)}; raise the time-out with --timeout or "
                "init_process_group(timeout=...) if this may take longer"
            )
        if waited > WARN_SECONDS and not self._warned:
            self._warned = True
            self._report(world, waited, final=False)

    def came(self, seconds: float) -> None:
        """Called when a rank that was waited for has come: how long is waited for the next one counts anew."""
        self._started, self._warned = 0.0, False
        self._count(seconds)

    def _count(self, seconds: float) -> None:
        """Count time spent waiting, unless it passes in the background of a computation."""
        if self._counts:
            progress.waited(seconds)

    def explain(self, peer: int = -1, frames: Sequence[Any] = ()) -> list[str]:
        """Tell the others what this rank is doing and return what every rank says, "" for one that does not.

        frames: a message that has come from `peer` already.
        """
        return [""] * self.size

    def begin_explaining(self) -> None:
        """Wait no longer than it takes the others to tell their side, and leave the agent out of it."""
        self._timeout, self._started = min(self._timeout, EXPLAIN_SECONDS), 0.0
        self._quiet = True

    def _report(self, missing: Sequence[int], waited: float, final: bool) -> None:
        if self.link is None or self._quiet:
            return
        what = self.call.describe(self.sequence)
        self.link.send("waiting", what=what, missing=list(missing), seconds=waited, final=final)

    def mismatch(self, texts: Sequence[str]) -> CollectiveMismatch:
        """Return the error of a group whose ranks do different things; `texts[r]` is what rank r does."""
        sides = "\n".join(
            f"  rank {self.members.ranks[r]}: {text or '(is not in this collective)'}" for r, text in enumerate(texts)
        )
        return CollectiveMismatch(f"the ranks disagree about collective number {self.sequence}:\n{sides}")


class LocalTransport(Transport):
    """The transport of a group of one, which has nobody to send to."""

    chunk = cell = 1 << 40

    def publish(self, header: bytes, patient: bool) -> None:
        """Do nothing."""

    def share(self, part: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """Return `part`."""
        return [part]

    def exchange(self, parts: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
        """Return `parts`."""
        return list(parts)

    def allocate(self, name: str, nbytes: int) -> Bucket:
        """Return memory of this process."""
        return Bucket(np.zeros(nbytes, np.uint8))

    def close(self, orderly: bool) -> None:
        """Do nothing."""


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"


def slice_bounds(count: int, itemsize: int, size: int) -> list[int]:
    """Cut `count` elements into `size` slices that begin on cache lines; return the `size + 1` borders."""
    line = max(1, CACHE_LINE // itemsize)
    lines = -(-count // line)
    return [min(count, line * (lines * r // size)) for r in range(size + 1)]
