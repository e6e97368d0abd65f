"""What collectives need from a transport, and what every transport shares."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.call import Call
from disttorch.distributed.errors import CollectiveMismatch, CollectiveTimeout, PeerFailed
from disttorch.distributed.reduction import Summation

# A rank that waits this long says so, once, to the agent, which names the ranks that are missing.
WARN_SECONDS = 10.0
# At the time-out the waiting rank stays where it is this long, so that the agent sees its stack
# there.
STACK_SECONDS = 0.3
# How long the ranks wait for each other's side of the story after a mismatch.
EXPLAIN_SECONDS = 2.0


class Bucket:
    """Gradient memory: `row` is this rank's (uint8); `rows` are all ranks' where they are shared, else None."""

    def __init__(self, row: np.ndarray, rows: list[np.ndarray] | None = None) -> None:
        self.row = row
        self.rows = rows


class Transport(ABC):
    """Moves bytes between the ranks of one group, in steps that every rank takes together.

    A collective is `begin`, then one or more steps. In a step a rank writes what it gives to
    `outbox` and gets what the others gave from `exchange` or `scatter`. What a step returns is
    valid until the next but one.

    Attributes: `rank`, `size`; `chunk`, the most bytes of one step; `inline`, whether the caller's
    thread may run collectives or only the communication thread.
    """

    inline = True
    chunk: int

    def __init__(self, link: AgentLink | None, rank: int, size: int, epoch: int) -> None:
        self.link, self.rank, self.size, self.epoch = link, rank, size, epoch
        self.peers = [r for r in range(size) if r != rank]
        self._summations: dict[tuple[str, np.dtype], Summation] = {}
        self._call = Call("barrier")
        self._sequence = 0
        self._timeout = 0.0
        self._started = 0.0
        self._warned = False
        self._quiet = False

    def begin(self, call: Call, sequence: int, timeout: float, patient: bool) -> None:
        """Announce a collective; `patient` says that the waiting thread must not spin."""
        self._call, self._sequence, self._timeout = call, sequence, timeout
        self._started = 0.0
        self._warned = False
        if self.link is not None:
            self.link.check()
        self._publish(call.header(self.epoch, sequence), patient)

    def summation(self, op: str, dtype: np.dtype) -> Summation:
        """Return the reduction of this group's rows, which keeps its scratch memory."""
        found = self._summations.get((op, dtype))
        if found is None:
            found = self._summations[op, dtype] = Summation(op, dtype, self.size)
        return found

    @abstractmethod
    def _publish(self, header: bytes, patient: bool) -> None: ...

    @abstractmethod
    def outbox(self, nbytes: int) -> np.ndarray:
        """Return `nbytes` bytes of memory (at most `chunk`, uint8) for what this rank gives in the next step."""

    @abstractmethod
    def exchange(self, sizes: Sequence[int]) -> list[np.ndarray]:
        """Give everybody the outbox; return what each rank gave: `sizes[r]` bytes from rank r."""

    @abstractmethod
    def scatter(self, bounds: Sequence[int]) -> list[np.ndarray]:
        """Give bytes `bounds[r]:bounds[r + 1]` of the outbox to rank r; return what each rank gave this one."""

    @abstractmethod
    def allocate(self, name: str, nbytes: int) -> Bucket:
        """Return memory for a gradient bucket; every rank asks for the same names and sizes."""

    @abstractmethod
    def reduce_resident(self, bucket: Bucket, dtype: np.dtype, nbytes: int, op: str) -> None:
        """Reduce the first `nbytes` of all rows of a shared bucket in place, each rank its own slice."""

    @abstractmethod
    def close(self, orderly: bool) -> None:
        """Let go of memory and sockets; `orderly` first sends what is still to be sent."""

    def _check_wait(self, missing: Sequence[int]) -> None:
        """Called while waiting, about every 50 ms: raise if waiting for `missing` is in vain or has taken too long."""
        now = time.monotonic()
        if not self._started:
            self._started = now
        waited = now - self._started
        if self.link is None:
            return
        self.link.check()
        gone = self.link.left.intersection(missing)
        if gone and waited > 0.2:  # what it sent before it left may still be on its way
            what = self._call.describe(self._sequence)
            raise PeerFailed(min(gone), f"finished while rank {self.rank} waits for it in {what}")
        if waited > self._timeout:
            self._report(missing, waited, final=True)
            time.sleep(STACK_SECONDS)
            raise CollectiveTimeout(
                f"rank {self.rank} waited {self._timeout:g} s for {_ranks(missing)} in "
                f"{self._call.describe(self._sequence)}; raise the time-out with --timeout or "
                "init_process_group(timeout=...) if this may take longer"
            )
        if waited > WARN_SECONDS and not self._warned:
            self._warned = True
            self._report(missing, waited, final=False)

    def _begin_explaining(self) -> None:
        """Wait no longer than it takes the others to tell their side, and leave the agent out of it."""
        self._timeout, self._started = min(self._timeout, EXPLAIN_SECONDS), 0.0
        self._quiet = True

    def _report(self, missing: Sequence[int], waited: float, final: bool) -> None:
        if self.link is None or self._quiet:
            return
        what = self._call.describe(self._sequence)
        self.link.send("waiting", what=what, missing=list(missing), seconds=waited, final=final)

    def _mismatch(self, texts: Sequence[str]) -> CollectiveMismatch:
        sides = "\n".join(f"  rank {r}: {text or '(gave no details)'}" for r, text in enumerate(texts))
        return CollectiveMismatch(f"the ranks disagree about collective number {self._sequence}:\n{sides}")


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"


def slice_bounds(count: int, itemsize: int, size: int) -> list[int]:
    """Cut `count` elements into `size` slices that begin on cache lines; return the `size + 1` borders."""
    line = max(1, 64 // itemsize)
    lines = -(-count // line)
    return [min(count, line * (lines * r // size)) for r in range(size + 1)]
