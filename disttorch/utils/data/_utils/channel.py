"""Messages between a loader and one worker process, over a socket pair; a message may carry file descriptors.

The worker's side waits; the loader's side never does, so that neither can hold up the other.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence

_HEADER = struct.Struct("<QB")  # bytes of the message, descriptors with it
_CHUNK = 1 << 20
_MAX_DESCRIPTORS = 4


class Channel:
    """The worker's end: `send` and `receive` wait until all bytes are through."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(True)

    def send(self, payload: bytes) -> None:
        """Send a message; BrokenPipeError if the loader is gone."""
        self._socket.sendall(_HEADER.pack(len(payload), 0))
        self._socket.sendall(payload)

    def receive(self) -> tuple[bytes, list[int]]:
        """Return the next message and the descriptors with it; EOFError when the loader has closed its end."""
        room = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
        header, control, _, _ = self._socket.recvmsg(_HEADER.size, room, socket.MSG_WAITALL | socket.MSG_CMSG_CLOEXEC)
        descriptors = array.array("i")
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if len(header) < _HEADER.size:
            raise EOFError("the loader has closed its end of the channel")
        length, _ = _HEADER.unpack(header)
        payload = bytearray(length)
        view = memoryview(payload)
        while view:
            count = self._socket.recv_into(view)
            if not count:
                raise EOFError("the loader has closed its end of the channel")
            view = view[count:]
        return bytes(payload), list(descriptors)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


class LoaderEnd:
    """The loader's end: `post` keeps what cannot be sent at once for `flush`, `read` returns what has arrived."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._incoming = bytearray()
        self._wanted = 0  # bytes of the message that is arriving; 0 before its header
        self.ended = False
        sock.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def post(self, payload: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message as soon as there is room; the descriptors are copied, the caller keeps its own."""
        header = _HEADER.pack(len(payload), len(descriptors))
        own = [os.dup(fd) for fd in descriptors]
        self._outgoing.append((memoryview(header + payload), own))
        self.flush()

    @property
    def pending(self) -> bool:
        """Whether a message waits for room."""
        return bool(self._outgoing)

    def flush(self) -> None:
        """Send what there is room for."""
        while self._outgoing:
            view, descriptors = self._outgoing[0]
            try:
                count = self._send(view, descriptors)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # the worker is gone: its sentinel tells the story
                self._drop_outgoing()
                return
            _close_all(descriptors)
            if count == len(view):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = (view[count:], [])

    def _send(self, view: memoryview, descriptors: list[int]) -> int:
        if not descriptors:
            return self._socket.send(view)
        rights = array.array("i", descriptors)
        return self._socket.sendmsg([view], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def read(self) -> list[bytes]:
        """Return the messages that have arrived completely; sets `ended` when the worker has closed its end."""
        messages: list[bytes] = []
        while True:
            try:
                piece = self._socket.recv(max(_CHUNK, self._wanted - len(self._incoming)))
            except (BlockingIOError, InterruptedError):
                return messages
            except OSError:
                piece = b""
            if not piece:
                self.ended = True
                return messages
            self._incoming += piece
            messages += self._complete()

    def _complete(self) -> list[bytes]:
        messages: list[bytes] = []
        while len(self._incoming) >= max(self._wanted, _HEADER.size):
            length, _ = _HEADER.unpack_from(self._incoming)
            self._wanted = _HEADER.size + length
            if len(self._incoming) < self._wanted:
                break
            messages.append(bytes(self._incoming[_HEADER.size : self._wanted]))
            del self._incoming[: self._wanted]
            self._wanted = 0
        return messages

    def _drop_outgoing(self) -> None:
        for _, descriptors in self._outgoing:
            _close_all(descriptors)
        self._outgoing.clear()

    def close(self) -> None:
        """Close this end; the worker finds the channel at its end."""
        self._drop_outgoing()
        self._socket.close()


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptors.pop())


def channel_pair() -> tuple[LoaderEnd, socket.socket]:
    """Return the loader's end of a new channel and the socket for the worker's `Channel`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return LoaderEnd(ours), theirs
