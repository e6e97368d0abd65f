"""The page that --dashboard serves: for whoever has the token, and never in the agent's way."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from disttorch.distributed.progress import Progress
from disttorch_run import dashboard
from disttorch_run.dashboard import Dashboard
from disttorch_run.events import Loop
from disttorch_run.status import Board


class Page:
    """A dashboard, its loop turned by the test."""

    def __init__(self) -> None:
        self.loop, self.board = Loop(), Board()
        self.dashboard = Dashboard(self.loop, self.board, 0)
        self.token = self.dashboard.url.rstrip("/").rpartition("/")[2]
        self.port = int(re.search(r":(\d+)/", self.dashboard.url)[1])

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port))
        client.setblocking(False)
        return client

    def turn(self, seconds: float = 0.0) -> None:
        until = time.monotonic() + seconds
        for _ in range(20):
            self.loop.step(time.monotonic())
        while time.monotonic() < until:
            self.loop.step(time.monotonic() + 0.01)

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Send a request and return the code, the head and the body of the response."""
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(request)
            client.setblocking(False)
            answer, until = b"", time.monotonic() + 5
            while time.monotonic() < until:
                self.loop.step(time.monotonic() + 0.01)
                with contextlib.suppress(BlockingIOError):
                    data = client.recv(65536)
                    if not data:
                        break
                    answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), head, body


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.dashboard.close()


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def test_with_the_token_there_is_a_page_and_its_figures(page: Page) -> None:
    code, head, body = page.ask(get(f"/{page.token}/"))
    assert code == 200
    assert b"<title>disttorch-run</title>" in body
    assert int(re.search(rb"Content-Length: (\d+)", head)[1]) == len(body)
    nonce = re.search(rb"script-src 'nonce-([\w-]+)'", head)[1]
    assert body.count(b'nonce="' + nonce + b'"') == 2
    assert not re.search(rb"(src|href)=|https?://", body)  # nothing comes from elsewhere
    code, _, body = page.ask(get(f"/{page.token}/status.json?x=1"))
    assert code == 200
    assert json.loads(body)["ranks"] == []
    code, _, body = page.ask(get(f"/{page.token}", "HEAD"))
    assert (code, body) == (200, b"")
    assert page.ask(get(f"/{page.token}/other"))[0] == 404
    assert page.ask(get(f"/{page.token}/", "POST"))[0] == 405


def test_without_the_token_everything_is_forbidden(page: Page) -> None:
    for request in (
        get("/"),
        get("/status.json"),
        get(f"/{page.token[:-1]}/"),
        get(f"/{page.token}x/status.json"),
        get(f"//{page.token}/"),
        get("/" + "a" * 100),
        get(f"http://127.0.0.1/{page.token}/"),
        b"\r\n\r\n",
        b"\x16\x03\x01\x00" * 10 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"x" * dashboard.MAX_REQUEST,
        bytes(range(256)) * 40,
    ):
        code, _, body = page.ask(request)
        assert code == 403, request[:80]
        assert page.token.encode() not in body
    assert page.ask(get(f"/{page.token}/" + "?" + "a" * dashboard.MAX_REQUEST))[0] == 431


def test_clients_that_dawdle_are_dropped_and_too_many_are_refused(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "DEADLINE_SECONDS", 0.2)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(page.connect()) for _ in range(dashboard.MAX_CONNECTIONS)]
        page.turn()
        slow[0].send(b"GET /")
        refused = stack.enter_context(page.connect())
        page.turn()
        assert refused.recv(1) == b""
        started = time.monotonic()
        page.turn(0.3)
        assert time.monotonic() - started < 2
        assert [client.recv(1) for client in slow] == [b""] * len(slow)
    assert page.ask(get(f"/{page.token}/"))[0] == 200


def test_a_client_that_does_not_read_is_dropped(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "DEADLINE_SECONDS", 0.3)
    page.board.history.extend((float(i), 1e300 / 3) for i in range(600))
    page.dashboard._page = "x" * 20_000_000
    with page.connect() as client:
        client.send(get(f"/{page.token}/"))
        page.turn(0.5)
        assert not page.dashboard._connections


def test_a_port_that_is_taken_is_one_sentence(page: Page) -> None:
    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{page.port}: .*use --dashboard 0"):
        Dashboard(page.loop, page.board, page.port)


def test_figures_are_json_whatever_the_ranks_say(page: Page) -> None:
    class Worker:
        rank, pid, attached, code = 0, 5, True, 0

        def state(self) -> str:
            return "ended with exit code 0"

    page.board.begin([Worker()])
    page.board.note(0, Progress(1, 2, 0.5, "</script>", '"\x00\ud800'))
    shown = json.loads(page.ask(get(f"/{page.token}/status.json"))[2])["ranks"][0]
    assert (shown["phase"], shown["collective"]) == ("</script>", '"\x00\ud800')


def test_a_run_with_a_dashboard(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        """
import time
import disttorch.distributed as dist
from disttorch.distributed import progress
dist.init_process_group()
while True:
    time.sleep(0.05)
    progress.step(4)
"""
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "disttorch_run", "--nproc-per-node", "2", "--oversubscribe", "--grace", "1"]
        + ["--dashboard", str(tmp_path / "train.py")],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = re.fullmatch(
            r"disttorch-run: dashboard at (http://127\.0\.0\.1:\d+/\S{32}/)\n", process.stderr.readline()
        )[1]
        until = time.monotonic() + 60
        while True:
            with urllib.request.urlopen(url + "status.json", timeout=5) as reply:
                shown = json.load(reply)
            if len(shown["history"]) > 2 and all(one["samples_per_second"] for one in shown["ranks"]):
                break
            assert time.monotonic() < until, shown
            time.sleep(0.2)
        assert [one["rank"] for one in shown["ranks"]] == [0, 1]
        assert {one["state"] for one in shown["ranks"]} <= {"running", "sleeping"}
        assert shown["history"][-1][1] > 0
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url[:-5] + "/", timeout=5)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
