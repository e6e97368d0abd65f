"""A worker's end of the socket to its agent (the `disttorch-run` process).

The socket is a connected Unix socket pair that the worker inherits, so there is no name, no port
and no key to find. It brings the worker its rank and keys, shared-memory segments, and the news
that another rank has failed; its closing means that the agent is dead. A monitor thread reads it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from array import array
from types import FrameType
from typing import Any

from disttorch.distributed import progress, wire
from disttorch.distributed.errors import DistError, PeerFailed, ProtocolError

FD_VARIABLE = "DISTTORCH_AGENT_FD"
# Delivered to the main thread to make it raise PeerFailed wherever it is.
PEER_SIGNAL = getattr(signal, "SIGRTMIN", 34) + 4
_REPLY_SECONDS = 60.0
_PROGRESS_SECONDS = 1.0
# Functions to raise nothing in, since Python drops it and what goes on is wrong (LLVM calls them while it compiles for Numba),
# or it cannot be noticed.
_DROPPING = frozenset({"_raw_object_cache_notify", "_raw_object_cache_getbuffer", "_raise_again"})
_AGAIN_SECONDS = 0.01

_link: AgentLink | None = None


def has_agent() -> bool:
    """Say whether this process was started by `disttorch-run`."""
    return (_link is not None and _link.pid == os.getpid()) or FD_VARIABLE in os.environ


def connect() -> AgentLink:
    """Return the link to the agent that started this process; DistError when there is none."""
    global _link
    if _link is not None and _link.pid == os.getpid():
        return _link
    number = os.environ.pop(FD_VARIABLE, "")
    if _link is not None or not number.isdecimal():
        raise DistError(
            "this process is no worker of disttorch-run; start the script with `disttorch-run "
            "--nproc-per-node N script.py`"
        )
    try:
        _link = AgentLink(int(number))
    except OSError:
        raise DistError(
            f"{FD_VARIABLE} names descriptor {number}, which is not open: only the process "
            "that disttorch-run "
            "started is a worker, not its children"
        ) from None
    return _link


def current() -> AgentLink | None:
    """Return this process's link to its agent, if it has connected."""
    return _link if _link is not None and _link.pid == os.getpid() else None


def attach(link: AgentLink | None) -> None:
    """Make `link` this process's link to its agent; None: there is no agent any more."""
    global _link
    _link = link


def abandon(reason: str) -> None:
    """Make everything that waits for other ranks fail, since this rank itself has failed."""
    if _link is not None and _link.pid == os.getpid():
        _link.abandon(reason)


class AgentLink:
    """The worker's side of the conversation with its agent."""

    def __init__(self, fd: int) -> None:
        self.pid = os.getpid()
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        # Signals that the monitor is to send to the main thread once more; 0 ends the monitor.
        self._wake, self._waker = os.pipe()
        self._thread: threading.Thread | None = None
        self._segments: dict[str, tuple[dict[str, Any], int]] = {}
        self._news = threading.Condition()
        self._raise_in_main = False
        self._main_knows = False
        self._is_news = False  # whether what the main thread raised last was the first that it heard of the failure
        self._told = progress.Progress()
        self.failure: DistError | None = None
        self.left: set[int] = set()
        self.welcome = self._receive()[0]

    def check(self) -> None:
        """Raise PeerFailed if another rank has failed."""
        if self.failure is not None:
            if threading.current_thread() is threading.main_thread():
                self._is_news = not self._main_knows
                self._tell_main()
            raise self.failure

    def abandon(self, reason: str) -> None:
        """Count this rank as failed; the main thread knows."""
        with self._news:
            self._main_knows, self._raise_in_main = True, False
            if self.failure is None:
                self.failure = PeerFailed(self.welcome["rank"], reason)
            self._news.notify_all()

    def send(self, kind: str, **fields: Any) -> None:
        """Send a control message; nothing happens when the agent is gone."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.send(wire.encode(kind, **fields))

    def report_progress(self) -> None:
        """Tell the agent how far this rank is, if that has changed; never wait for an agent that does not listen."""
        now = progress.read()
        if now == self._told:
            return
        with contextlib.suppress(OSError):
            self._socket.send(wire.encode("progress", **now._asdict()), socket.MSG_DONTWAIT)
            self._told = now

    def segment(self, key: str, size: int, users: int) -> int:
        """Return a descriptor of the segment `key` of `size` bytes, the same one for all `users` ranks that ask."""
        self.send("segment_request", key=key, size=size, users=users)
        with self._news:
            if not self._news.wait_for(lambda: key in self._segments or self.failure, _REPLY_SECONDS):
                raise DistError(f"the agent did not answer a request for {size} bytes of shared memory")
            self.check()
            message, fd = self._segments.pop(key)
        if message["error"]:
            raise MemoryError(message["error"])
        return fd

    def start(self) -> None:
        """Start the monitor thread; in the main thread, let failures of peers raise there."""
        if self._thread is not None:
            return
        if threading.current_thread() is threading.main_thread():
            signal.signal(PEER_SIGNAL, self._raise_peer_failed)
            self._report_dropped, sys.unraisablehook = sys.unraisablehook, self._raise_again
            self._raise_in_main = True
        self._thread = threading.Thread(target=self._monitor, name="disttorch-monitor", daemon=True)
        self._thread.start()
        self.send("ready")

    def _receive(self) -> tuple[dict[str, Any], int]:
        data, fds, flags, _ = socket.recv_fds(self._socket, wire.MAX_MESSAGE + 1, 1)
        wanted = False
        try:
            if not data:
                raise ConnectionResetError("the agent is gone")
            if flags & socket.MSG_TRUNC:
                raise ProtocolError("the agent sent a message that is too long")
            message = wire.decode(data)
            wanted = message["type"] == "segment" and message["key"] not in self._segments
            return message, fds[0] if fds and wanted else -1
        finally:
            for fd in fds[wanted:]:
                os.close(fd)

    def _monitor(self) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        next_report = time.monotonic() + _PROGRESS_SECONDS
        while True:
            ready = poller.poll(max(0.0, next_report - time.monotonic()) * 1000)
            if any(fd == self._wake for fd, _ in ready):
                number = os.read(self._wake, 1)[0]
                if not number:
                    return
                time.sleep(_AGAIN_SECONDS)
                self._signal_main(number)
            if time.monotonic() >= next_report:
                self.report_progress()
                next_report = time.monotonic() + _PROGRESS_SECONDS
            if all(fd == self._wake for fd, _ in ready):
                continue
            try:
                message, fd = self._receive()
            except (OSError, ProtocolError):
                poller.unregister(self._socket)
                self._agent_died()
                continue
            self._handle(message, fd)

    def _handle(self, message: dict[str, Any], fd: int) -> None:
        kind = message["type"]
        with self._news:
            if kind == "segment":
                self._segments.setdefault(message["key"], (message, fd))
            elif kind == "left":
                self.left.add(message["rank"])
            elif kind == "abort" and self.failure is None:
                self.failure = PeerFailed(message["rank"], message["reason"], message["traceback"])
            self._news.notify_all()
        if kind == "abort":
            self._signal_main(PEER_SIGNAL)

    def _signal_main(self, number: int) -> None:
        if self._raise_in_main or number == signal.SIGINT:
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    def _raise_peer_failed(self, _signal: int, frame: FrameType | None) -> None:
        if self.failure is None or self._main_knows:
            return
        if _drops_exceptions(frame):
            os.write(self._waker, bytes([PEER_SIGNAL]))
            return
        self._is_news = True
        self._tell_main()
        raise self.failure

    def _raise_again(self, dropped: sys.UnraisableHookArgs) -> None:
        """Raise what Python has dropped, if it is PeerFailed or Ctrl-C, once more in a moment: `sys.unraisablehook`.

        A signal's exception may come in the callback of a weak reference or in one from C. Not at the exit, when all
        that the main thread still does drops exceptions.
        """
        main = threading.main_thread()
        ours = self._raise_in_main and self.pid == os.getpid()
        if ours and threading.current_thread() is main and main.is_alive():
            if self._is_news and self.failure is not None and dropped.exc_value is self.failure:
                self._main_knows = False
                os.write(self._waker, bytes([PEER_SIGNAL]))
                return
            if dropped.exc_type is KeyboardInterrupt:
                os.write(self._waker, bytes([signal.SIGINT]))
                return
        try:
            self._report_dropped(dropped)
        except KeyboardInterrupt:
            os.write(self._waker, bytes([signal.SIGINT]))

    def _leave_main(self) -> None:
        """Raise nothing in the main thread any more."""
        self._raise_in_main = False
        if sys.unraisablehook == self._raise_again:
            sys.unraisablehook = self._report_dropped

    def _tell_main(self) -> None:
        """Note that the main thread raises PeerFailed now: the signal must not raise it again in its handlers."""
        if not self._main_knows:
            self._main_knows = True
            self.send("unwinding")

    def _agent_died(self) -> None:
        """Stop this worker and the processes that it started: nobody is left to watch them."""
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _drops_exceptions(frame: FrameType | None) -> bool:
    """Say whether an exception in this frame would not reach the program."""
    while frame is not None:
        if frame.f_code.co_name in _DROPPING:
            return True
        frame = frame.f_back
    return False


def send_descriptor(sock: socket.socket, data: bytes, fd: int) -> None:
    """Send one message, with a descriptor unless `fd` is -1."""
    if fd < 0:
        sock.send(data)
    else:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))
        sock.sendmsg([data], [rights])
