"""The transport that carries payload in ZeroMQ messages, where there is no shared memory (`DISTTORCH_SHM=0`).

Every pair of ranks has a DEALER-DEALER connection over a Unix socket in the abstract namespace, so
there is no file to leave behind; the kernel tells the user at the other end, and another user's
connection is refused. All sockets belong to the communication thread. A step sends one message to
every peer, the 64-byte header and then the payload, and receives one from every peer.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence

import numpy as np
import zmq

from disttorch.distributed import wire
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.errors import DistError, ProtocolError
from disttorch.distributed.futex import SLICE_SECONDS
from disttorch.distributed.headers import Header
from disttorch.distributed.transport import Bucket, Transport

CHUNK_BYTES = 1024 * 1024
# libzmq copies shorter messages anyway, and its tracker calls them finished at once.
ZERO_COPY_BYTES = 64 * 1024
_LINGER_SECONDS = 2.0


class MessageTransport(Transport):
    """Ranks connected by ZeroMQ; also the whole transport of a group of one, which has no peers."""

    inline = False
    chunk = CHUNK_BYTES

    def __init__(self, link: AgentLink | None, rank: int, size: int, epoch: int) -> None:
        super().__init__(link, rank, size, epoch)
        self.inline = size == 1
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        self._poller = zmq.Poller()
        self._buffers = [np.empty(0, np.uint8), np.empty(0, np.uint8)]
        self._trackers: list[list[zmq.MessageTracker]] = [[], []]
        self._step = 0
        self._header = Header.unpack(Header(*[0] * 12).pack())
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    def _publish(self, header: bytes, patient: bool) -> None:
        if self._context is None and self.peers:
            self._connect()
        self._header = Header.unpack(header)
        self._chunk = 0

    def _connect(self) -> None:
        """Open the sockets, in the thread that will use them."""
        assert self.link is not None
        self._context = zmq.Context()
        for peer in self.peers:
            low, high = sorted((self.rank, peer))
            address = f"ipc://@disttorch-{self.link.welcome['run']}-{self.epoch}-{low}-{high}"
            socket = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, 10)
            socket.setsockopt(zmq.MAXMSGSIZE, CHUNK_BYTES + wire.MAX_MESSAGE)
            if self.rank == low:
                accept_only_this_user(socket)
                socket.bind(address)
            else:
                socket.connect(address)
            self._sockets[peer] = socket
            self._poller.register(socket, zmq.POLLIN)

    def outbox(self, nbytes: int) -> np.ndarray:
        parity = self._step & 1
        for tracker in self._trackers[parity]:
            tracker.wait()
        self._trackers[parity].clear()
        if self._buffers[parity].size < nbytes:
            self._buffers[parity] = np.empty(nbytes, np.uint8)
        return self._buffers[parity][:nbytes]

    def exchange(self, sizes: Sequence[int]) -> list[np.ndarray]:
        mine = self._buffers[self._step & 1][: sizes[self.rank]]
        return self._swap(dict.fromkeys(self.peers, mine), mine, sizes)

    def scatter(self, bounds: Sequence[int]) -> list[np.ndarray]:
        buffer = self._buffers[self._step & 1]
        parts = [buffer[bounds[r] : bounds[r + 1]] for r in range(self.size)]
        mine = parts[self.rank]
        return self._swap({peer: parts[peer] for peer in self.peers}, mine, [mine.size] * self.size)

    def allocate(self, name: str, nbytes: int) -> Bucket:
        return Bucket(np.zeros(nbytes, np.uint8))

    def reduce_resident(self, *_: object) -> None:
        raise DistError("buckets of the message transport are not shared")

    def close(self, orderly: bool) -> None:
        """Close the sockets; after a failure without waiting, since ending a context can hang."""
        context, self._context = self._context, None
        for socket in self._sockets.values():
            socket.close(linger=int(_LINGER_SECONDS * 1000) if orderly else 0)
        self._sockets.clear()
        if context is not None and orderly:
            thread = threading.Thread(target=context.term, daemon=True)
            thread.start()
            thread.join(_LINGER_SECONDS)

    def _swap(self, gives: dict[int, np.ndarray], mine: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        for peer, payload in gives.items():
            self._send(peer, payload)
        rows = [mine] * self.size
        waiting = set(self.peers)
        while waiting:
            for peer in self._poll(waiting):
                rows[peer] = self._receive(peer, sizes[peer])
                waiting.discard(peer)
        self._step += 1
        self._chunk += 1
        return rows

    def _send(self, peer: int, payload: np.ndarray) -> None:
        socket = self._sockets[peer]
        header = self._header._replace(chunk=self._chunk, length=payload.size).pack()
        socket.send(header, zmq.SNDMORE)
        if payload.size >= ZERO_COPY_BYTES:
            tracker = socket.send(payload.data, copy=False, track=True)
            self._trackers[self._step & 1].append(tracker)
        else:
            socket.send(payload.tobytes())

    def _poll(self, waiting: set[int]) -> list[int]:
        ready = dict(self._poller.poll(int(SLICE_SECONDS * 1000)))
        found = [peer for peer in waiting if self._sockets[peer] in ready]
        if not found:
            self._check_wait(sorted(waiting))
        return found

    def _receive(self, peer: int, size: int) -> np.ndarray:
        frames = self._sockets[peer].recv_multipart(copy=False)
        expected = self._header._replace(chunk=self._chunk, length=size)
        if len(frames) == 1 or Header.unpack(frames[0].buffer) != expected:
            raise self._mismatch(self._explain(peer, frames))
        payload = np.frombuffer(frames[1].buffer, np.uint8)
        if len(frames) != 2 or payload.size != size:
            raise ProtocolError(f"rank {peer} announced {size} bytes and sent {payload.size}")
        return payload

    def _explain(self, peer: int, frames: list[zmq.Frame]) -> list[str]:
        """Tell the others what this rank is doing and return what every rank says."""
        self._begin_explaining()
        texts = [""] * self.size
        texts[self.rank] = self._call.describe(self._sequence)
        message = wire.encode("explain", rank=self.rank, sequence=self._sequence, text=texts[self.rank][:4096])
        for socket in self._sockets.values():
            socket.send(message)
        waiting = set(self.peers)
        self._note_text(peer, frames, texts, waiting)
        with contextlib.suppress(DistError):
            while waiting:
                for other in self._poll(waiting):
                    self._note_text(other, self._sockets[other].recv_multipart(copy=False), texts, waiting)
        return texts

    @staticmethod
    def _note_text(peer: int, frames: list[zmq.Frame], texts: list[str], waiting: set[int]) -> None:
        """Keep an explanation; payload that arrives before it is of no use any more."""
        if len(frames) == 1:
            texts[peer] = wire.decode(frames[0].buffer)["text"]
            waiting.discard(peer)


def accept_only_this_user(socket: zmq.Socket[bytes]) -> None:
    """Have the kernel's word that whoever connects to `socket`, not yet bound, is this user."""
    socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
