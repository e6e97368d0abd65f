"""The host of ranks that no launcher has started: `python -m disttorch_run.meeting DESCRIPTOR`.

The first rank starts it and inherits it one end of a socket pair; the others come to a Unix socket with a random name in
the abstract namespace, with a token. It does for them what the agent does for its workers, but for starting and killing
them. One thread, one poll; it ends when the last rank has gone, or when not all have come in time.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from disttorch.distributed import wire
from disttorch.distributed.agent_link import send_descriptor
from disttorch.distributed.errors import DistError, ProtocolError
from disttorch.distributed.meeting import peer
from disttorch.distributed.store_table import StoreServer
from disttorch_run import layout
from disttorch_run.failure import Failure, describe_exit, out_of_memory_kills
from disttorch_run.process import state_of
from disttorch_run.segments import SegmentServer

COLLECTIVE_SECONDS = 600.0
_FIRST_WORD_SECONDS = 10.0
_END_SECONDS = 0.5
# Messages of one rank that are read before it is the others' turn.
_MESSAGES_A_TURN = 64
_MOST_GUESTS = 64


class Member:
    """A process that has connected: `rank` is -1 until it has joined."""

    def __init__(self, line: socket.socket) -> None:
        line.setblocking(False)
        self.socket = line
        self.pid = peer(line)[0]
        self.pidfd = os.pidfd_open(self.pid)
        self.rank = -1
        self.gone = False
        self.said_why = False

    def send(self, kind: str, fd: int = -1, **fields: Any) -> None:
        """Send a message; nothing happens when the process does not listen any more."""
        with contextlib.suppress(OSError):
            send_descriptor(self.socket, wire.encode(kind, **fields), fd)

    def receive(self) -> dict[str, Any] | None:
        """Return the next message, `{"type": "end"}` at the end of the line, or None if there is none."""
        try:
            data, _, flags, _ = self.socket.recvmsg(wire.MAX_MESSAGE + 1)
        except BlockingIOError:
            return None
        except OSError:
            data, flags = b"", 0
        if flags & socket.MSG_TRUNC:
            raise ProtocolError("a message is too long")
        return wire.decode(data) if data else {"type": "end"}

    def exit_code(self) -> int | None:
        """Return how the process has ended, as `subprocess` gives it; None if its parent has collected it already."""
        waiting = select.poll()
        waiting.register(self.pidfd, select.POLLIN)
        waiting.poll(_END_SECONDS * 1000)
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        status = int(fields[49])
        if fields[0] != "Z":
            return None
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def state(self) -> str:
        """Say what the process is doing."""
        return state_of(self.pid)

    def close(self) -> None:
        """Close the line."""
        self.socket.close()
        os.close(self.pidfd)


class Host:
    """Brings the ranks together and watches over them."""

    def __init__(self, first: socket.socket) -> None:
        import zmq

        self._poller = zmq.Poller()
        self._guests: dict[int, Member] = {}
        self._members: dict[int, Member] = {}
        self._failure: Failure | None = None
        self._complete = False
        self._warned: set[tuple[int, ...]] = set()
        self._kills = out_of_memory_kills()
        self._deadline = time.monotonic() + _FIRST_WORD_SECONDS
        self._first = self._admit(first)

    def run(self) -> None:
        """Be the host until the last rank has gone."""
        with contextlib.ExitStack() as stack:
            try:
                self._open(stack)
            except (OSError, DistError) as error:
                self._first.send("meeting", address="", error=f"the ranks cannot be connected: {error}")
                return
            self._first.send("meeting", address=self._address, error="")
            while not self._is_over():
                self._step()

    def _open(self, stack: contextlib.ExitStack) -> None:
        poller = select.poll()
        poller.register(self._first.socket, select.POLLIN)
        poller.poll(_FIRST_WORD_SECONDS * 1000)
        asked = self._first.receive()
        if asked is None or asked["type"] != "meet":
            raise ProtocolError("the first rank did not say what it wants")
        self._token, self._size, self._limit = asked["token"], asked["world_size"], asked["timeout"]
        self._deadline = time.monotonic() + self._limit
        self._layout = layout.plan(os.environ, self._size)
        self._store = StoreServer("127.0.0.1")
        stack.callback(self._store.close)
        self._segments = SegmentServer()
        stack.callback(self._segments.close)
        self._address = f"disttorch-meeting-{secrets.token_hex(16)}"
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.callback(self._door.close)
        self._door.bind(b"\0" + self._address.encode())
        self._door.listen(self._size)
        self._door.setblocking(False)
        for source in (self._store.socket, self._door):
            self._watch(source)

    def _is_over(self) -> bool:
        if not self._complete:
            return self._first.gone or self._refused_late()
        return all(member.gone for member in self._members.values())

    def _refused_late(self) -> bool:
        """When not all have come in time, say so to those who have."""
        if time.monotonic() < self._deadline:
            return False
        missing = sorted(set(range(self._size)).difference(self._members))
        who = f"rank {missing[0]} has" if len(missing) == 1 else f"ranks {', '.join(map(str, missing))} have"
        for member in self._members.values():
            member.send("refused", why="late", reason=f"{who} not called init_process_group within {self._limit:g} s")
        return True

    def _watch(self, source: Any) -> None:
        import zmq

        self._poller.register(source, zmq.POLLIN)

    def _step(self) -> None:
        dates = [date for date in (self._store.next_deadline(), None if self._complete else self._deadline) if date]
        wait = max(0, int((min(dates) - time.monotonic()) * 1000) + 1) if dates else None
        for source, _ in self._poller.poll(wait):
            if source is self._store.socket:
                self._store.serve()
            elif source == self._door.fileno():
                self._accept()
            elif source in self._guests:
                self._listen(self._guests[source], ended=source == self._guests[source].pidfd)
        self._store.expire()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            line, _ = self._door.accept()
            try:
                if peer(line)[1] != os.geteuid() or len(self._guests) >= self._size + _MOST_GUESTS:
                    raise PermissionError
                self._admit(line)
            except OSError:  # it may have gone in the meantime, too
                line.close()

    def _admit(self, line: socket.socket) -> Member:
        member = Member(line)
        for fd in (line.fileno(), member.pidfd):  # the line may be open in a process that it has forked
            self._guests[fd] = member
            self._watch(fd)
        return member

    def _listen(self, member: Member, ended: bool) -> None:
        try:
            for _ in range(_MESSAGES_A_TURN):
                message = None if member.gone else member.receive()
                if message is None:
                    break
                self._handle(member, message)
            if ended:
                self._handle(member, {"type": "end"})
        except ProtocolError as error:
            self._part(member, f"sent something malformed: {error}")

    def _handle(self, member: Member, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "end":
            self._part(member, "" if member.rank < 0 else self._explain_end(member))
        elif kind == "join" and member.rank < 0:
            self._join(member, message)
        elif member.rank < 0 or kind == "leave":
            self._part(member)
        elif kind == "segment_request":
            self._segments.answer(member, message["key"], message["size"], message["users"])  # type: ignore[arg-type]
        elif kind == "waiting":
            self._note_waiting(member, message)
        elif kind == "failed":
            if message["cause"] < 0 or self._failure is None:
                self._fail(Failure(member.rank, message["reason"], message["traceback"]))
            self._part(member)

    def _join(self, member: Member, message: dict[str, Any]) -> None:
        rank, size = message["rank"], message["world_size"]
        kind, reason = "wrong", ""
        if not hmac.compare_digest(message["token"], self._token):
            reason = "the token is wrong"
        elif size != self._size:
            reason = f"rank {rank} says that there are {size} ranks, rank 0 says {self._size}"
        elif self._complete or rank in self._members or not 0 <= rank < size:
            reason = f"there is a rank {rank} already; give every process a rank of its own"
            kind = "full" if self._complete else kind
        if reason:
            member.send("refused", why=kind, reason=reason)
            self._part(member)
            return
        member.rank = rank
        self._members[rank] = member
        if len(self._members) == self._size:
            self._complete = True
            self._welcome()

    def _welcome(self) -> None:
        run, secret = secrets.token_hex(16), secrets.token_bytes(32)
        for rank, member in self._members.items():
            member.send(
                "welcome",
                run=run,
                secret=secret,
                transport=self._layout.transport,
                hosts=list(self._layout.hosts),
                rank=rank,
                world_size=self._size,
                local_rank=rank,
                local_world_size=self._size,
                store=self._store.address,
                store_key=self._store.key,
                timeout=COLLECTIVE_SECONDS,
                oversubscribed=self._size > len(os.sched_getaffinity(0)),
            )

    def _explain_end(self, member: Member) -> str:
        """Say how a rank has ended that did not say that it would."""
        code = member.exit_code()
        if code is None:
            return "has ended without leaving the group"
        return describe_exit(code, self._kills)

    def _part(self, member: Member, why: str = "") -> None:
        """A process goes; `why` says what was wrong about that."""
        if member.gone:
            return
        member.gone = True
        for fd in (member.socket.fileno(), member.pidfd):
            self._poller.unregister(fd)
            del self._guests[fd]
        member.close()
        if member.rank < 0:
            return
        if not self._complete:
            del self._members[member.rank]
            return
        if why:
            self._fail(Failure(member.rank, why))
        for other in self._present():
            other.send("left", rank=member.rank)

    def _present(self) -> Iterator[Member]:
        return (member for member in self._members.values() if not member.gone)

    def _fail(self, failure: Failure) -> None:
        """A rank has failed: tell the others."""
        if self._failure is not None:
            return
        self._failure = failure
        for member in self._present():
            if member.rank != failure.rank:
                member.send("abort", rank=failure.rank, reason=failure.reason, traceback=failure.traceback)

    def _note_waiting(self, member: Member, message: dict[str, Any]) -> None:
        missing = tuple(sorted({rank for rank in message["missing"] if type(rank) is int and rank in self._members}))
        if not missing or (missing in self._warned and not message["final"]):
            return
        self._warned.add(missing)
        states = ", ".join(f"rank {r} (pid {self._members[r].pid}, {self._members[r].state()})" for r in missing)
        text = f"disttorch: rank {member.rank} has waited {message['seconds']:.0f} s in {message['what']} for {states}"
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def main(fd: int) -> None:
    """Be the host for the first rank at the other end of `fd`."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(ProcessLookupError):  # the first rank has ended already
        Host(socket.socket(fileno=fd)).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
