"""A page in the browser that shows what all ranks do: a small HTTP server in the agent's own poll loop.

It listens on 127.0.0.1 only, and answers only requests whose path begins with the run's random
token. Requests are small, connections few and short-lived, and nothing is ever waited for, so a
browser cannot hold up the agent.
"""

from __future__ import annotations

import json
import secrets
import socket
from pathlib import Path

from disttorch_run.events import Loop
from disttorch_run.status import Board

MAX_REQUEST = 8 * 1024
MAX_CONNECTIONS = 16
DEADLINE_SECONDS = 5.0
_READ_BYTES = 4096
_RETRY_SECONDS = 1.0
_PAGE = Path(__file__).with_name("dashboard.html")
_REASONS = {200: "OK", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 431: "Request Header Too Large"}


class Dashboard:
    """Serves the page and its figures; `url` has the token. OSError if `port` is taken (0: any free one)."""

    def __init__(self, loop: Loop, board: Board, port: int) -> None:
        self._loop = loop
        self._board = board
        self._token = secrets.token_urlsafe(24)
        self._page = _PAGE.read_text(encoding="utf-8")
        self._connections: set[_Connection] = set()
        self._listener = socket.socket()
        self._listener.setblocking(False)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind(("127.0.0.1", port))
            self._listener.listen(MAX_CONNECTIONS)
        except OSError as error:
            self._listener.close()
            raise OSError(
                f"the dashboard cannot listen on 127.0.0.1:{port}: {error.strerror}; use --dashboard 0 for any free port"
            ) from None
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/{self._token}/"
        self._listen()

    def answer(self, request: bytes) -> bytes:
        """Return the response to a request; it is 403 unless the path has the token."""
        words = request.split(b"\r\n", 1)[0].split(b" ")
        method, path = (words[0], words[1]) if len(words) in (2, 3) else (b"", b"")
        token, _, name = path.removeprefix(b"/").partition(b"?")[0].partition(b"/")
        if not secrets.compare_digest(token, self._token.encode()):
            return _response(403, "the address needs the token that disttorch-run printed")
        if len(request) >= MAX_REQUEST:
            return _response(431, "the request is too long")
        if method not in (b"GET", b"HEAD"):
            return _response(405, "only GET", extra="Allow: GET, HEAD\r\n")
        if name == b"":
            nonce = secrets.token_urlsafe(12)
            text, kind = self._page.replace("NONCE", nonce), "text/html; charset=utf-8"
            response = _response(200, text, kind, nonce)
        elif name == b"status.json":
            response = _response(200, json.dumps(self._board.as_json()), "application/json")
        else:
            response = _response(404, "there is no such page")
        return response if method == b"GET" else response[: response.index(b"\r\n\r\n") + 4]

    def close(self) -> None:
        """Stop listening and drop whoever is connected."""
        self._loop.forget(self._listener)
        self._listener.close()
        for connection in list(self._connections):
            connection.close()

    def _listen(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.watch(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # out of descriptors, or the client has gone: do not try again at once
            self._loop.forget(self._listener)
            self._loop.call_later(_RETRY_SECONDS, self._listen)
            return
        client.setblocking(False)
        if len(self._connections) >= MAX_CONNECTIONS:
            client.close()
            return
        self._connections.add(_Connection(client, self))

    def drop(self, connection: _Connection) -> None:
        """Forget a connection that has been closed."""
        self._connections.discard(connection)

    @property
    def loop(self) -> Loop:
        """The agent's loop."""
        return self._loop


class _Connection:
    """One request and its response; closed at the latest `DEADLINE_SECONDS` after it began."""

    def __init__(self, client: socket.socket, dashboard: Dashboard) -> None:
        self._socket = client
        self._dashboard = dashboard
        self._request = b""
        self._response = b""
        self._deadline = dashboard.loop.call_later(DEADLINE_SECONDS, self.close)
        dashboard.loop.watch(client, self._read)

    def _read(self) -> None:
        data = self._receive()
        if data is None:
            return
        self._request += data
        if b"\r\n\r\n" in self._request or len(self._request) >= MAX_REQUEST or not data:
            self._response = self._dashboard.answer(self._request)
            self._dashboard.loop.watch(self._socket, self._write, writable=True)

    def _write(self) -> None:
        try:
            self._response = self._response[self._socket.send(self._response) :]
            if not self._response:
                # Closing with something unread would make the kernel drop the response.
                self._socket.shutdown(socket.SHUT_WR)
                self._dashboard.loop.watch(self._socket, self._drain)
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _drain(self) -> None:
        if self._receive() == b"":
            self.close()

    def _receive(self) -> bytes | None:
        """Return what has come, b"" at the end, None if there is nothing (any more)."""
        try:
            return self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            self.close()
            return None

    def close(self) -> None:
        """Close the connection, once."""
        if self._socket.fileno() >= 0:
            self._deadline.cancel()
            self._dashboard.loop.forget(self._socket)
            self._socket.close()
            self._dashboard.drop(self)


def _response(code: int, body: str, kind: str = "text/plain; charset=utf-8", nonce: str = "", extra: str = "") -> bytes:
    data = body.encode()
    policy = "default-src 'none'"
    if nonce:
        policy += f"; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'"
    head = (
        f"HTTP/1.1 {code} {_REASONS[code]}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
        f"Connection: close\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
        f"X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nContent-Security-Policy: {policy}\r\n{extra}\r\n"
    )
    return head.encode() + data
