"""Ranks that no launcher has started find each other.

The first rank starts a host, a process of its own (`disttorch_run.meeting`), and tells the others through a store where
it is. To them the host is what the agent is to the workers of `disttorch-run`: it serves shared memory, sees a rank end
and tells the others. It outlives the first rank and ends with the last.
"""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import secrets
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from disttorch.distributed import agent_link, wire
from disttorch.distributed.agent_link import PEER_SIGNAL, AgentLink
from disttorch.distributed.errors import DistError, DistNetworkError, PeerFailed, StoreTimeout
from disttorch.distributed.store import Store

TOKEN_BYTES = 32
_MARGIN_SECONDS = 5.0
# How long the host may take to start, on a busy machine.
_START_SECONDS = 30.0
_CREDENTIALS = struct.Struct("iII")
_PLACE = "disttorch/meeting"
_hooked_in = -1


class _ElsewhereError(DistNetworkError):
    """The meeting is not where the store says, or it is another one."""


class MeetingLink(AgentLink):
    """A rank's line to the host."""

    def __init__(self, line: socket.socket) -> None:
        super().__init__(line.detach())
        self.closing = False

    def leave(self, error: BaseException | None = None) -> None:
        """Say that this rank goes, and what it failed with, and close the line."""
        if self.closing or self.pid != os.getpid():
            return
        self.closing = True
        if error is None:
            self.send("leave")
        else:
            agent_link.abandon("raised an exception")
            self.send("failed", **describe(error))
        self._leave_main()
        os.write(self._waker, b"\0")
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_MARGIN_SECONDS)
        self._socket.close()
        os.close(self._wake)
        os.close(self._waker)
        if agent_link.current() is self:
            agent_link.attach(None)

    def _agent_died(self) -> None:
        """Make waiting for others end: nobody would notice their end any more."""
        if self.closing:
            return
        with self._news:
            if self.failure is None:
                self.failure = DistNetworkError("the process that connects the ranks is gone")
            self._news.notify_all()
        self._signal_main(PEER_SIGNAL)


def join(store: Store, rank: int, world_size: int, timeout: float) -> MeetingLink:
    """Meet the other ranks, which have the same `store`, and return when all `world_size` are there.

    timeout: seconds. StoreTimeout if not all have come by then; the message names those that are missing.
    """
    if rank == 0:
        token = secrets.token_bytes(TOKEN_BYTES)
        line, address = _open_meeting(token, world_size, timeout)
        store.set(_PLACE, f"{address} {token.hex()}")
        _join_at(line, token, rank, world_size, timeout)
    else:
        line = _enter(store, rank, world_size, timeout)
    link = MeetingLink(line)
    agent_link.attach(link)
    _report_ends()
    return link


def leave(error: BaseException | None = None) -> None:
    """Tell the host, if this process has one, that this rank goes and what it failed with."""
    link = agent_link.current()
    if isinstance(link, MeetingLink):
        link.leave(error)


def describe(error: BaseException) -> dict[str, Any]:
    """Return the fields of a `failed` message."""
    if isinstance(error, SystemExit):
        return {"reason": f"exited with code {error.code}"[:4000], "traceback": "", "cause": -1}
    reason = "".join(traceback.format_exception_only(error)).strip()
    text = "".join(traceback.format_exception(error))
    cause = error.rank if isinstance(error, PeerFailed) else -1
    return {"reason": f"raised {reason}"[:4000], "traceback": text[-10000:], "cause": cause}


def peer(line: socket.socket) -> tuple[int, int]:
    """Return the process and the user at the other end of a Unix socket, on the kernel's word."""
    pid, uid, _ = _CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def _open_meeting(token: bytes, world_size: int, timeout: float) -> tuple[socket.socket, str]:
    """Start the host; return this rank's line to it and the address for the others."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far:
        process = subprocess.Popen(
            [sys.executable, "-m", "disttorch_run.meeting", str(far.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[far.fileno()],
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != agent_link.FD_VARIABLE},
        )
    threading.Thread(target=process.wait, name="disttorch-host", daemon=True).start()
    _send(near, "meet", token=token, world_size=world_size, timeout=timeout)
    reply = _receive(near, timeout + _START_SECONDS)
    if reply["error"]:
        raise DistNetworkError(reply["error"])
    return near, reply["address"]


def _enter(store: Store, rank: int, world_size: int, timeout: float) -> socket.socket:
    """Find the host and join, as another rank than the first.

    The store may still tell of an earlier meeting of these ranks, one that is over or complete: wait for the next.
    """
    deadline = time.monotonic() + timeout
    _wait_for_place(store, timeout)
    while True:
        address, _, token = store.get(_PLACE).decode().partition(" ")
        try:
            line = _connect(address)
            _join_at(line, bytes.fromhex(token), rank, world_size, timeout)
            return line
        except _ElsewhereError as reason:
            if time.monotonic() > deadline:
                raise DistNetworkError(f"rank {rank} has met nobody within {timeout:g} s: {reason}") from None
        time.sleep(0.05)


def _wait_for_place(store: Store, timeout: float) -> None:
    try:
        store.wait([_PLACE], timeout)
    except StoreTimeout:
        raise StoreTimeout(f"rank 0 has not called init_process_group within {timeout:g} s") from None


def _connect(address: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.connect(b"\0" + address.encode())
    except OSError as error:
        line.close()
        raise _ElsewhereError(f"the process that connects the ranks cannot be reached ({error.strerror})") from None
    if peer(line)[1] != os.geteuid():
        line.close()
        raise DistNetworkError("the process that is to connect the ranks belongs to another user")
    return line


def _join_at(line: socket.socket, token: bytes, rank: int, world_size: int, timeout: float) -> None:
    """Say who this is and wait until all ranks are there; the host's welcome stays unread."""
    _send(line, "join", token=token, rank=rank, world_size=world_size)
    reply = _receive(line, timeout + _MARGIN_SECONDS, socket.MSG_PEEK)
    if reply["type"] == "refused":
        line.close()
        raise {"late": StoreTimeout, "full": _ElsewhereError}.get(reply["why"], DistError)(reply["reason"])


def _send(line: socket.socket, kind: str, **fields: Any) -> None:
    try:
        line.send(wire.encode(kind, **fields))
    except OSError:
        line.close()
        raise _ElsewhereError("the process that connects the ranks has ended") from None


def _receive(line: socket.socket, limit: float, flags: int = 0) -> dict[str, Any]:
    poller = select.poll()
    poller.register(line, select.POLLIN)
    data = b""
    if poller.poll(max(0.0, limit) * 1000):
        with contextlib.suppress(OSError):  # it ends while this rank is still at the door
            data = line.recv(wire.MAX_MESSAGE + 1, flags)
    if not data:
        line.close()
        raise _ElsewhereError("the process that connects the ranks has ended or does not answer")
    return wire.decode(data)


def _report_ends() -> None:
    """Have the others told when this process ends, and with which exception if one ends it.

    `multiprocessing` prints an exception of its processes itself, but calls its finalizers before, while it is handled.
    """
    global _hooked_in
    if _hooked_in != os.getpid():
        if _hooked_in == -1:
            sys.excepthook = _leave_first(sys.excepthook)
        _hooked_in = os.getpid()
        multiprocessing.util.Finalize(None, _at_end, exitpriority=100)


def _leave_first(previous: Callable[..., Any]) -> Callable[..., None]:
    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        leave(error)
        previous(kind, error, trace)

    return excepthook


def _at_end() -> None:
    error = sys.exc_info()[1]
    if isinstance(error, SystemExit):
        error = None if error.code in (None, 0) else error
    with contextlib.suppress(OSError):
        leave(error)
