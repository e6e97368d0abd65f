"""The transport between ranks of several hosts: shared memory within a host, messages between hosts.

A large all-reduce crosses the network once per host, not once per rank: each host reduces its own ranks in shared memory
as far as the canonical tree allows, the first rank of each host exchanges these partial results with the others, and
the result is spread through shared memory. Where a host holds a whole subtree of ranks, that is one partial result; the
bits are those of the tree in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from disttorch.distributed import shared_memory
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.call import Call
from disttorch.distributed.members import Members
from disttorch.distributed.messages import MessageTransport
from disttorch.distributed.peer_addresses import PeerAddresses
from disttorch.distributed.reduction import Reduction, accumulation_dtype, combine_subtrees, subtrees
from disttorch.distributed.shared_memory import SharedMemoryTransport
from disttorch.distributed.transport import CACHE_LINE, NOTHING, Bucket, Transport, slice_bounds

# From here on the bytes that the hierarchy saves are worth its additional steps.
HIERARCHICAL_BYTES = 128 * 1024


class HierarchicalTransport(Transport):
    """Ranks of several hosts, several of them on one host."""

    def __init__(self, link: AgentLink, members: Members, addresses: PeerAddresses) -> None:
        super().__init__(link, members)
        self.here = members.here
        self._local = SharedMemoryTransport(link, members, self.here)
        others = [r for r in range(self.size) if r not in self.here]
        self._remote = MessageTransport(link, members, addresses, others)
        self._parts: list[Transport] = [self._local, self._remote]
        for part in self._parts:
            part.part_of = self
        by_host = [[r for r in range(self.size) if members.hosts[r] == host] for host in dict.fromkeys(members.hosts)]
        # The ranks cut data into the same chunks, wherever they are: as the host with the most ranks has to.
        self.chunk = min(shared_memory.STAGING_BYTES, self._remote.chunk)
        self.cell = min(
            shared_memory.STAGING_BYTES // max(map(len, by_host)) // CACHE_LINE * CACHE_LINE, self._remote.cell
        )
        self._leaders = [ranks[0] for ranks in by_host]
        self._on_hosts = {len(ranks) for ranks in by_host}
        self._leader = self.here[0]
        self._subtrees = [subtrees(0, self.size, set(ranks)) for ranks in by_host]
        self._own_subtrees = self._subtrees[self._leaders.index(self._leader)]
        self._between: MessageTransport | None = None
        if self.rank == self._leader:
            self._between = MessageTransport(link, members.subset("leaders", self._leaders), addresses)
            self._parts.append(self._between)
        self._partial: dict[tuple[str, np.dtype, int], Reduction] = {}

    def begin(self, call: Call, sequence: int, timeout: float, patient: bool) -> None:
        """Announce a collective to all parts."""
        super().begin(call, sequence, timeout, patient)
        for part in self._parts:
            part.slot = self.slot
            part.begin(call, sequence, timeout, patient)

    def publish(self, header: bytes, patient: bool) -> None:
        """Leave it to the parts."""

    def share(self, part: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """Give `part` to the other hosts' ranks in messages, to those of this host through memory."""
        self._remote.send(dict.fromkeys(self._remote.peers, part))
        rows = self._local.share(part, sizes)
        return self._merge(rows, self._remote.receive(part, sizes))

    def exchange(self, parts: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
        """Give the parts to the other hosts' ranks in messages, to those of this host through memory."""
        self._remote.send({peer: parts[peer] for peer in self._remote.peers})
        rows = self._local.exchange(parts, sizes)
        return self._merge(rows, self._remote.receive(parts[self.rank], sizes))

    def all_reduce(self, flat: np.ndarray, op: str) -> bool:
        """Reduce a large tensor host by host."""
        if flat.nbytes < HIERARCHICAL_BYTES:
            return False
        self.share(NOTHING, [0] * self.size)  # here the ranks compare what they are about to do
        wide = accumulation_dtype(op, flat.dtype)
        most = max(len(trees) for trees in self._subtrees)
        limit = min(shared_memory.STAGING_BYTES, MessageTransport.cell * len(self._leaders)) // (most * wide.itemsize)
        # Slices are rounded up to cache lines, so a part must be no longer than what the cells of every host hold.
        cells = min(n * (shared_memory.STAGING_BYTES // n // CACHE_LINE * CACHE_LINE) for n in self._on_hosts)
        step = min(limit, cells // flat.itemsize) // CACHE_LINE * CACHE_LINE
        for start in range(0, flat.size, step):
            self._reduce_part(flat[start : start + step], op, wide)
        return True

    def _reduce_part(self, part: np.ndarray, op: str, wide: np.dtype) -> None:
        bounds = slice_bounds(part.size, part.itemsize, len(self.here))
        partials = self._reduce_here(part, bounds, op, wide)
        lengths = {r: bounds[i + 1] - bounds[i] for i, r in enumerate(self.here)}
        sizes = [len(partials) * lengths.get(r, 0) * wide.itemsize for r in range(self.size)]
        rows = self._local.share(partials.reshape(-1).view(np.uint8), sizes)
        if self._between is not None:
            pieces = [rows[r].view(wide).reshape(len(partials), -1) for r in self.here]
            self._reduce_between(self._between, part, np.concatenate(pieces, axis=1), op)
        given = part.view(np.uint8) if self.rank == self._leader else NOTHING
        sizes = [part.nbytes if r == self._leader else 0 for r in range(self.size)]
        result = self._local.share(given, sizes)[self._leader]
        if self.rank != self._leader:
            part.view(np.uint8)[:] = result

    def _reduce_here(self, part: np.ndarray, bounds: list[int], op: str, wide: np.dtype) -> np.ndarray:
        """Return the own slice of the reduction of each subtree of ranks that this host holds, [subtrees, elements]."""
        parts = [NOTHING] * self.size
        for i, r in enumerate(self.here):
            parts[r] = part[bounds[i] : bounds[i + 1]].view(np.uint8)
        own = parts[self.rank]
        rows = [row.view(part.dtype) for row in self._local.exchange(parts, [own.nbytes] * self.size)]
        partials = np.empty((len(self._own_subtrees), own.nbytes // part.itemsize), wide)
        for out, (low, high) in zip(partials, self._own_subtrees):
            self._partial_reduction(op, part.dtype, high - low).into([out], rows[low:high])
        return partials

    def _reduce_between(self, between: MessageTransport, part: np.ndarray, partials: np.ndarray, op: str) -> None:
        """Combine the hosts' partial results into `part`; partials: this host's, [subtrees, elements]."""
        count = len(self._leaders)
        bounds = slice_bounds(part.size, part.itemsize, count)
        own = slice(bounds[between.rank], bounds[between.rank + 1])
        length = own.stop - own.start
        gives = [np.ascontiguousarray(partials[:, a:b]).reshape(-1).view(np.uint8) for a, b in pairwise(bounds)]
        sizes = [len(trees) * length * partials.itemsize for trees in self._subtrees]
        found: dict[tuple[int, int], np.ndarray] = {}
        for trees, row in zip(self._subtrees, between.exchange(gives, sizes)):
            found.update(zip(trees, row.view(partials.dtype).reshape(len(trees), length)))
        combine_subtrees(op, self.size, found, part[own])
        slices = [part[a:b].view(np.uint8) for a, b in pairwise(bounds)]
        for piece, row in zip(slices, between.share(slices[between.rank], [piece.nbytes for piece in slices])):
            piece[:] = row

    def _partial_reduction(self, op: str, dtype: np.dtype, count: int) -> Reduction:
        key = "SUM" if op == "AVG" else op, dtype, count
        if key not in self._partial:
            self._partial[key] = Reduction(*key)
        return self._partial[key]

    def _merge(self, local: list[np.ndarray], remote: list[np.ndarray]) -> list[np.ndarray]:
        return [local[r] if r in self.here else remote[r] for r in range(self.size)]

    def end(self) -> None:
        """Finish a collective in all parts."""
        for part in self._parts:
            part.end()

    def pending(self, peer: int) -> bool:
        """Say whether `peer` has come to the next collective."""
        return (self._local if peer in self.here else self._remote).pending(peer)

    def explain(self, peer: int = -1, frames: Sequence[Any] = ()) -> list[str]:
        """Tell the ranks of all hosts what this one is doing and return what they say."""
        local = self._local.explain()
        remote = self._remote.explain(peer, frames)
        return [local[r] or remote[r] for r in range(self.size)]

    def allocate(self, name: str, nbytes: int) -> Bucket:
        """Return memory of this process."""
        return Bucket(np.zeros(nbytes, np.uint8))

    def close(self, orderly: bool) -> None:
        """Close all parts."""
        for part in self._parts:
            part.close(orderly)
            part.part_of = None
