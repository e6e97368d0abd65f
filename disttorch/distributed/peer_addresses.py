"""How the ranks of a message transport find each other, and the keys by which they know each other.

The agent gives every worker of a run the same 32 random bytes over an inherited socket. A CURVE key pair derived from
them is the identity of whoever listens. Its public half never leaves the run either, and without it a peer cannot
finish the handshake, so knowing it proves belonging to the run.
"""

from __future__ import annotations

import os
import socket as network
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import zmq
from zmq.utils import z85

from disttorch.distributed.errors import DistError
from disttorch.distributed.members import Members

LOOPBACK = "127.0.0.1"


class PeerAddresses:
    """Addresses and keys of one run.

    scheme: "ipc" for Unix sockets of one host, "tcp" for any; run: the run's name; secret: 32 bytes that only its
    workers know; store: called to reach the store, which carries TCP addresses; interface: the network interface or
    address to listen on for TCP.
    """

    def __init__(
        self, scheme: str, run: str, secret: bytes, store: Callable[[], Any], interface: str = LOOPBACK
    ) -> None:
        self.scheme, self._run, self._store = scheme, run, store
        self._address = address_of(interface)
        self._server_secret = z85.encode(blake2b(secret, digest_size=32, person=b"disttorch-curve").digest())
        self._server_public = zmq.curve_public(self._server_secret)
        self._public, self._secret = zmq.curve_keypair()

    def listen(self, socket: Any, members: Members, low: int, high: int) -> None:
        """Bind `socket` for the pair of ranks `low`, which calls this, and `high`."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._server_secret)
        if self.scheme == "ipc":
            socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
            socket.bind(self._unix_address(members, low, high))
            return
        socket.bind(f"tcp://{self._address}:*")
        endpoint = socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0")
        self._store().set(self._store_key(members, low, high), endpoint)

    def connect(self, socket: Any, members: Members, low: int, high: int) -> bool:
        """Connect `socket` of rank `high`, which calls this, to rank `low`; False if that does not listen yet."""
        key = self._store_key(members, low, high)
        if self.scheme == "tcp" and not self._store().check([key]):
            return False
        socket.setsockopt(zmq.CURVE_SERVERKEY, self._server_public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret)
        if self.scheme == "ipc":
            socket.connect(self._unix_address(members, low, high))
        else:
            socket.connect(self._store().get(key).decode())
        return True

    def _unix_address(self, members: Members, low: int, high: int) -> str:
        name = blake2b(f"{self._run} {members.key} {low} {high}".encode(), digest_size=16).hexdigest()
        return f"ipc://@disttorch-{name}"

    def _store_key(self, members: Members, low: int, high: int) -> str:
        return f"disttorch/address/{self._run}/{members.key}/{low}-{high}"


def address_of(interface: str) -> str:
    """Return the IPv4 address of a network interface, or `interface` itself if it is an address."""
    try:
        network.inet_aton(interface)
    except OSError:
        return _address_of_interface(interface)
    return interface


def _address_of_interface(name: str) -> str:
    import fcntl
    import struct

    request = struct.pack("256s", name.encode()[:15])
    with network.socket(network.AF_INET, network.SOCK_DGRAM) as probe:
        try:
            reply = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError:
            known = ", ".join(entry for _, entry in network.if_nameindex())
            raise DistError(f"there is no network interface {name!r} with an IPv4 address; there are {known}") from None
    return network.inet_ntoa(reply[20:24])


_SIOCGIFADDR = 0x8915
