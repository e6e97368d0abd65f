"""Which transport a group gets."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from disttorch.distributed import futex
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.members import Members
from disttorch.distributed.transport import LocalTransport, Transport

AUTO, SHARED_MEMORY, UNIX, TCP, HIERARCHICAL = TRANSPORTS = ("auto", "shm", "ipc", "tcp", "hierarchical")
INTERFACE_VARIABLE = "DISTTORCH_INTERFACE"
# The staging memory of a channel for messages between two ranks.
CHANNEL_BYTES = 128 * 1024


class Opener:
    """Opens the transports of one run.

    link: to the agent, whose welcome says what the run uses; store: what `default_store` returns.
    """

    def __init__(self, link: AgentLink, store: Any) -> None:
        self._link, self._store = link, store
        self._kind: str = link.welcome["transport"]

    def open(self, members: Members) -> Transport:
        """Return the transport of a group of ranks."""
        if members.size == 1:
            return LocalTransport(self._link, members)
        kind = self.kind(members)
        if kind == SHARED_MEMORY:
            from disttorch.distributed.shared_memory import SharedMemoryTransport

            return SharedMemoryTransport(self._link, members)
        return self._open_with_messages(kind, members)

    def open_channel(self, members: Members) -> Transport:
        """Return a transport for messages from one rank to another."""
        kind = self.kind(members)
        if kind == SHARED_MEMORY:
            from disttorch.distributed.shared_memory import SharedMemoryTransport

            return SharedMemoryTransport(self._link, members, staging=CHANNEL_BYTES)
        return self._open_with_messages(kind, members)

    def kind(self, members: Members) -> str:
        """Return which of TRANSPORTS a group uses: what was asked for, as far as the places of its ranks allow."""
        on_hosts = Counter(members.hosts)
        if len(on_hosts) == 1:
            if self._kind in (UNIX, TCP):
                return self._kind
            return SHARED_MEMORY if futex.available() else UNIX
        shared = self._kind != TCP and futex.available() and max(on_hosts.values()) > 1
        return HIERARCHICAL if shared else TCP

    def _open_with_messages(self, kind: str, members: Members) -> Transport:
        from disttorch.distributed.messages import MessageTransport
        from disttorch.distributed.peer_addresses import LOOPBACK, PeerAddresses

        welcome = self._link.welcome
        scheme = "ipc" if kind == UNIX else "tcp"
        interface = os.environ.get(INTERFACE_VARIABLE, LOOPBACK)
        addresses = PeerAddresses(scheme, welcome["run"], welcome["secret"], lambda: self._store, interface)
        if kind == HIERARCHICAL:
            from disttorch.distributed.hierarchical import HierarchicalTransport

            return HierarchicalTransport(self._link, members, addresses)
        return MessageTransport(self._link, members, addresses)
