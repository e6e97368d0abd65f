"""The transport that carries payload in ZeroMQ messages: between hosts, and where there is no shared memory.

Every pair of ranks has a DEALER-DEALER connection, encrypted and authenticated with CURVE under a key that is derived
from the run's secret: a peer that does not know it is refused in the handshake. On one host it is a Unix socket in
the abstract namespace, so there is no file to leave behind, and the kernel refuses other users as well; between hosts
it is TCP on a port that the kernel picks and the store tells. A step sends one message to every peer, the 64-byte
header and then the payload, and receives one from every peer.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence

import numpy as np
import zmq

from disttorch.distributed import wire
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.errors import DistError, ProtocolError
from disttorch.distributed.futex import SLICE_SECONDS
from disttorch.distributed.headers import Header
from disttorch.distributed.members import Members
from disttorch.distributed.peer_addresses import PeerAddresses
from disttorch.distributed.transport import EXPLAIN_SECONDS, NOTHING, Bucket, Transport

CHUNK_BYTES = 1024 * 1024
# libzmq copies shorter messages anyway, and its tracker calls them finished at once.
ZERO_COPY_BYTES = 64 * 1024
_LINGER_SECONDS = 2.0
# How often the store is asked where a peer listens.
_ADDRESS_SECONDS = 0.02


class MessageTransport(Transport):
    """Ranks connected by ZeroMQ.

    addresses: how the ranks find each other and the keys; peers: the ranks to connect to (all others, unless this
    is a part of another transport).
    """

    chunk = cell = CHUNK_BYTES

    def __init__(
        self, link: AgentLink, members: Members, addresses: PeerAddresses, peers: Sequence[int] | None = None
    ) -> None:
        super().__init__(link, members)
        self.peers = self.peers if peers is None else list(peers)
        self._finder = addresses
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        self._unconnected: set[int] = set()
        self._poller = zmq.Poller()
        self._sent: list[list[zmq.MessageTracker]] = [[], []]
        self._header = Header(*[0] * 12)
        self._step = 0
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._explained = False  # whether the others are to hear what this rank did

    def publish(self, header: bytes, patient: bool) -> None:
        """Keep the header, which goes before every payload; connect at the first one."""
        self._open()
        for peer in sorted(self._unconnected):
            while not self._connect(peer):
                start = time.perf_counter()
                time.sleep(_ADDRESS_SECONDS)
                self.check_wait([peer], time.perf_counter() - start)
        self._header = Header.unpack(header)
        self._step = 0

    def share(self, part: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """Send `part` to every peer and receive theirs."""
        self.send(dict.fromkeys(self.peers, part))
        return self.receive(part, sizes)

    def exchange(self, parts: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
        """Send each peer its part and receive theirs."""
        self.send({peer: parts[peer] for peer in self.peers})
        return self.receive(parts[self.rank], sizes)

    def send(self, gives: dict[int, np.ndarray]) -> None:
        """Do the first half of a step: send `gives[peer]` to every peer."""
        trackers = self._sent[self._step & 1]
        while trackers:  # of the last step but one
            self._wait_for(trackers[-1])
            trackers.pop()
        for peer, payload in gives.items():
            header = self._header._replace(chunk=self._step, length=payload.size).pack()
            socket = self._sockets[peer]
            self._send_first(peer, header, zmq.SNDMORE)
            if payload.size >= ZERO_COPY_BYTES:
                trackers.append(socket.send(payload.data, copy=False, track=True))
            else:
                socket.send(payload.tobytes())

    def receive(self, own: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """Do the second half of a step: return what every peer has sent, `own` in the place of this rank."""
        rows = [NOTHING] * self.size
        rows[self.rank] = own
        waiting = set(self.peers)
        while waiting:
            for peer in self._poll(waiting):
                rows[peer] = self._receive(peer, sizes[peer])
                waiting.discard(peer)
        self._step += 1
        return rows

    def end(self) -> None:
        """Wait until what was sent without copying has left this process's memory."""
        for trackers in self._sent:
            while trackers:
                self._wait_for(trackers[-1])
                trackers.pop()

    def pending(self, peer: int) -> bool:
        """Say whether something from `peer` has arrived."""
        self._open()
        return (peer not in self._unconnected or self._connect(peer)) and bool(self._sockets[peer].poll(0))

    def allocate(self, name: str, nbytes: int) -> Bucket:
        """Return memory of this process."""
        return Bucket(np.zeros(nbytes, np.uint8))

    def close(self, orderly: bool) -> None:
        """Close the sockets; after a failure without waiting, unless the others are still to hear what this rank did."""
        context, self._context = self._context, None
        linger = _LINGER_SECONDS if orderly else EXPLAIN_SECONDS if self._explained else 0
        for socket in self._sockets.values():
            socket.close(linger=int(linger * 1000))
        self._sockets.clear()
        if context is not None and linger:
            thread = threading.Thread(target=context.term, daemon=True)  # ending a context can hang
            thread.start()
            thread.join(linger)

    def _open(self) -> None:
        """Open the sockets: the lower rank of a pair listens, the other one connects when it has said where."""
        if self._context is not None or not self.peers:
            return
        self._context = zmq.Context()
        for peer in self.peers:
            socket = self._context.socket(zmq.DEALER)
            self._sockets[peer] = socket
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, 10)
            socket.setsockopt(zmq.MAXMSGSIZE, CHUNK_BYTES + wire.MAX_MESSAGE)
            if self.rank < peer:
                self._finder.listen(socket, self.members, self.rank, peer)
            else:
                self._unconnected.add(peer)
            self._poller.register(socket, zmq.POLLIN)

    def _connect(self, peer: int) -> bool:
        """Connect to a lower rank; False if it does not listen yet."""
        if not self._finder.connect(self._sockets[peer], self.members, peer, self.rank):
            return False
        self._unconnected.discard(peer)
        return True

    def _send_first(self, peer: int, frame: bytes, flags: int = 0) -> None:
        """Send the first frame of a message, which has to wait until the peer has connected."""
        socket = self._sockets[peer]
        while True:
            try:
                socket.send(frame, flags | zmq.NOBLOCK)
                return
            except zmq.Again:
                start = time.perf_counter()
                if not socket.poll(int(SLICE_SECONDS * 1000), zmq.POLLOUT):
                    self.check_wait([peer], time.perf_counter() - start)

    def _wait_for(self, tracker: zmq.MessageTracker) -> None:
        while True:
            try:
                tracker.wait(SLICE_SECONDS)
                return
            except zmq.NotDone:
                self.check_wait(self.peers, SLICE_SECONDS)

    def _poll(self, waiting: set[int]) -> list[int]:
        start = time.perf_counter()
        ready = dict(self._poller.poll(int(SLICE_SECONDS * 1000)))
        found = [peer for peer in waiting if self._sockets[peer] in ready]
        if found:
            self.came(time.perf_counter() - start)
        elif waiting:
            if ready:  # a message for the next collective makes the poll return at once
                time.sleep(0.001)
            self.check_wait(sorted(waiting), time.perf_counter() - start)
        return found

    def _receive(self, peer: int, size: int) -> np.ndarray:
        frames = self._sockets[peer].recv_multipart(copy=False)
        expected = self._header._replace(chunk=self._step, length=size)
        try:
            agreed = len(frames) > 1 and Header.unpack(frames[0].buffer) == expected
        except ProtocolError as error:
            raise ProtocolError(f"rank {self.members.ranks[peer]}: {error}") from None
        if not agreed:
            raise self.mismatch(self.owner.explain(peer, frames))
        payload = np.frombuffer(frames[1].buffer, np.uint8)
        if len(frames) != 2 or payload.size != size:
            raise ProtocolError(
                f"rank {self.members.ranks[peer]} announced {size} bytes and sent {len(frames) - 1} frames, the first of "
                f"{payload.size}"
            )
        return payload

    def explain(self, peer: int = -1, frames: Sequence[zmq.Frame] = ()) -> list[str]:
        """Tell the others what this rank is doing and return what every rank says; `frames` came from `peer` already."""
        self.begin_explaining()
        self._explained = True
        texts = [""] * self.size
        texts[self.rank] = self.call.describe(self.sequence)
        message = wire.encode("explain", rank=self.rank, sequence=self.sequence, text=texts[self.rank][:4096])
        for socket in self._sockets.values():
            with contextlib.suppress(zmq.Again):  # it has not even connected
                socket.send(message, zmq.NOBLOCK)
        waiting = set(self.peers)
        if peer >= 0:
            self._note_text(peer, frames, texts, waiting)
        with contextlib.suppress(DistError):
            while waiting:
                for other in self._poll(waiting):
                    self._note_text(other, self._sockets[other].recv_multipart(copy=False), texts, waiting)
        return texts

    def _note_text(self, peer: int, frames: Sequence[zmq.Frame], texts: list[str], waiting: set[int]) -> None:
        """Keep an explanation; payload that arrives before it is of no use any more."""
        if len(frames) == 1:
            message = wire.decode(frames[0].buffer)
            if message["type"] != "explain":
                raise ProtocolError(
                    f"rank {self.members.ranks[peer]} sent '{message['type']}' in place of an explanation"
                )
            texts[peer] = message["text"]
            waiting.discard(peer)
