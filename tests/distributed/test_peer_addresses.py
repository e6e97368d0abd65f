"""Who may connect to the sockets of the message transport."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator

import pytest
import zmq

from disttorch.distributed.members import Members
from disttorch.distributed.peer_addresses import PeerAddresses

SECRET = bytes(range(32))
PEER = """
import os, sys, zmq
from disttorch.distributed.members import Members
from disttorch.distributed.peer_addresses import PeerAddresses
scheme, run, key, address, user = sys.argv[1:]
os.setuid(int(user))
socket = zmq.Context().socket(zmq.DEALER)
if key:
    from disttorch.distributed import HashStore
    store = HashStore()
    store.set(f"disttorch/address/{run}/1/world/0-1", address)
    addresses = PeerAddresses(scheme, run, bytes.fromhex(key), lambda: store)
    assert addresses.connect(socket, Members("world", 1, (0, 1), 1, (0, 0)), 0, 1)
else:
    socket.connect(address)
try:
    socket.send(b"x", zmq.NOBLOCK)
except zmq.Again:
    pass  # refused by now
socket.close(300)
"""


class Listener:
    """Rank 0 of two, listening for rank 1."""

    def __init__(self, scheme: str) -> None:
        self.scheme, self.run = scheme, secrets.token_hex(8)
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.addresses = PeerAddresses(scheme, self.run, SECRET, lambda: self)
        self.addresses.listen(self.socket, Members("world", 1, (0, 1), 0, (0, 0)), 0, 1)
        self.address = self.socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()

    def set(self, key: str, value: bytes) -> None:
        """Be the store."""
        assert key == f"disttorch/address/{self.run}/1/world/0-1"

    def hears(self, key: bytes, user: int = 0) -> bool:
        """Say whether a message of a process with this key and of this user arrives."""
        subprocess.run(
            [sys.executable, "-c", PEER, self.scheme, self.run, key.hex(), self.address, str(user)],
            check=True,
            timeout=30,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return bool(self.socket.poll(300))


@pytest.fixture(params=["ipc", "tcp"])
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    listener = Listener(request.param)
    yield listener
    listener.socket.close(0)
    listener.context.term()


def test_only_a_peer_with_the_key_of_the_run_is_heard(listener: Listener) -> None:
    assert not listener.hears(b"")
    assert not listener.hears(bytes(32))
    assert listener.hears(SECRET)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_on_one_host_another_user_is_not_heard_even_with_the_key() -> None:
    listener = Listener("ipc")
    try:
        assert not listener.hears(SECRET, user=65534)
        assert listener.hears(SECRET)
    finally:
        listener.socket.close(0)
        listener.context.term()
