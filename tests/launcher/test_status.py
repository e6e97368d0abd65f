"""What disttorch-run shows of the progress of all ranks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from disttorch.distributed.progress import Progress
from disttorch_run import status
from disttorch_run.status import Board, summarize

SCRIPT = """
import os, sys, time
import disttorch.distributed as dist
from disttorch.distributed import progress
dist.init_process_group()
rank = dist.get_rank()
dist.barrier()
if rank == 0:
    print("a line", flush=True)
    sys.stdout.write("10%\\r20%\\r")
    sys.stdout.flush()
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    time.sleep(0.02)
    progress.waited(0.018 if rank == 0 else 0.002)
    progress.collective("all_reduce", 7)
    progress.step(32)
dist.barrier()
if rank == 0:
    print("end", flush=True)
"""


class FakeWorker:
    def __init__(self, rank: int) -> None:
        self.rank, self.pid, self.attached, self.code = rank, 100 + rank, True, None

    def state(self) -> str:
        return "running"


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(status.time, "monotonic", lambda: self.now)


def board_of(count: int) -> Board:
    board = Board()
    board.begin([FakeWorker(rank) for rank in range(count)])
    return board


def test_rates_waiting_and_the_slowest_rank_come_from_the_last_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    board = board_of(3)
    assert board.summary() == ""
    for second in range(31):
        clock.now = 1000.0 + second
        busy = second > 15  # before, nobody waits
        for rank, share in enumerate((0.5, 0.1, 0.4)):
            waited = share * max(0, second - 15) if busy else 0.0
            board.note(rank, Progress(2 * second, 64 * second, waited, "backward", f"all_reduce {second}"))
        board.sample()
    one = board.ranks()[0]
    assert one.samples_per_second == pytest.approx(64)
    assert one.steps_per_second == pytest.approx(2)
    assert one.waiting == pytest.approx(0.5)
    assert board.summary() == "step 60 | 192 samples/s | waiting 33% | slowest rank 1"
    assert board.history[-1] == (30.0, 192.0)
    shown = board.as_json()
    assert shown["slowest"] == 1
    assert shown["ranks"][2]["collective"] == "all_reduce 30"


def test_a_rank_that_reports_nothing_more_comes_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    board = board_of(1)
    for second in range(3):
        clock.now = 1000.0 + second
        board.note(0, Progress(second, 10 * second, 0.0, "", ""))
    assert board.ranks()[0].samples_per_second == pytest.approx(10)
    clock.now += 18
    assert board.ranks()[0].samples_per_second == pytest.approx(1)


def test_starting_up_is_no_part_of_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    board = board_of(1)
    for second in range(6):
        clock.now = 1000.0 + second
        board.note(0, Progress(0, 0, 0.9 * second))
        assert board.summary() == ""
    for second in range(1, 3):
        clock.now = 1005.0 + second
        board.note(0, Progress(second, 10 * second, 4.5 + 0.2 * second))
    assert board.summary() == "step 2 | 10 samples/s | waiting 20%"


def test_without_samples_the_line_counts_steps_and_equal_ranks_have_no_slowest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    board = board_of(2)
    for second in range(3):
        clock.now = 1000.0 + second
        for rank in range(2):
            board.note(rank, Progress(5 * second, 0, 0.1 * second))
    assert board.summary() == "step 10 | 5 steps/s | waiting 10%"


def test_reports_that_cannot_be_true_are_left_out() -> None:
    board = board_of(1)
    for wrong in (Progress(-1), Progress(samples=-5), Progress(waited=float("nan")), Progress(waited=-1.0)):
        board.note(0, wrong)
    board.note(0, Progress(waited=float("inf")))
    assert board.summary() == ""
    board.note(0, Progress(1, collective="x" * 50_000))
    assert len(board.as_json()["ranks"][0]["collective"]) == 200
    board.begin([FakeWorker(0)])
    assert board.summary() == ""
    assert summarize(board.ranks()) == "step 0"


def command(folder: Path, *options: str, seconds: float = 4.0) -> list[str]:
    path = folder / "train.py"
    path.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "disttorch_run", "--nproc-per-node", "2", "--oversubscribe"]
    return [*launcher, *options, str(path), str(seconds)]


def test_without_a_terminal_status_is_a_line_now_and_then(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "--status", "--status-interval", "0.5"), capture_output=True, timeout=90)
    assert done.returncode == 0
    assert done.stdout == b"a line\n10%\r20%\rend\n"
    lines = done.stderr.decode().splitlines()
    assert all(line.startswith("disttorch-run: step ") for line in lines)
    assert re.search(r"samples/s \| waiting \d+% \| slowest rank 1$", lines[-1])
    silent = subprocess.run(command(tmp_path, seconds=0), capture_output=True, text=True, timeout=90)
    assert silent.stderr == ""


# The bottom row is taken; a line is shown; everything is as it was.
TAKE = rb"\x1bD\x1b7\x1b\[1;11r\x1b8\x1b\[1A"
SHOW = rb"\x1b7\x1b\[12;1H\x1b\[2K(step [^\x1b]*)\x1b8"
GIVE_BACK = rb"\x1b7\x1b\[r\x1b\[12;1H\x1b\[2K\x1b8"


class Terminal:
    """A process in a terminal of its own, 12 rows high, and what it has written there."""

    def __init__(self, arguments: list[str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(arguments[0], arguments)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 80, 0, 0))
        self.written = b""

    def read_until(self, pattern: bytes, seconds: float = 90) -> None:
        until = time.monotonic() + seconds
        while not re.search(pattern, self.written):
            assert time.monotonic() < until, self.written
            if not self._read():
                break
        assert re.search(pattern, self.written), self.written

    def read_to_the_end(self) -> int:
        while self._read():
            pass
        code = os.waitpid(self.pid, 0)[1]
        os.close(self._fd)
        return os.waitstatus_to_exitcode(code)

    def _read(self) -> bool:
        if not select.select([self._fd], [], [], 1)[0]:
            return True
        with contextlib.suppress(OSError):
            data = os.read(self._fd, 65536)
            self.written += data
            return bool(data)
        return False


def test_on_a_terminal_the_bottom_row_is_used_and_nothing_else_touched(tmp_path: Path) -> None:
    terminal = Terminal(command(tmp_path))
    assert terminal.read_to_the_end() == 0
    written = terminal.written
    assert len(re.findall(TAKE, written)) == len(re.findall(GIVE_BACK, written)) == 1
    assert re.search(rb"samples/s \| waiting \d+% \| slowest rank 1", written)
    assert len(re.findall(SHOW, written)) >= 2
    rest = re.sub(b"|".join([TAKE, SHOW, GIVE_BACK]), b"", written)
    assert rest == b"a line\r\n10%\r20%\rend\r\n"
    quiet = Terminal(command(tmp_path, "--no-status", seconds=1.2))
    assert quiet.read_to_the_end() == 0
    assert quiet.written == b"a line\r\n10%\r20%\rend\r\n"


def test_the_terminal_is_as_it_was_even_when_the_launcher_is_killed(tmp_path: Path) -> None:
    terminal = Terminal(command(tmp_path, seconds=60))
    terminal.read_until(SHOW)
    os.kill(terminal.pid, signal.SIGKILL)
    terminal.read_until(GIVE_BACK, 5)
    assert terminal.read_to_the_end() == -signal.SIGKILL
    assert len(re.findall(GIVE_BACK, terminal.written)) == 1
    assert not re.search(SHOW, re.split(GIVE_BACK, terminal.written)[1]), "written to after it was given back"
