"""What disttorch-run does when something dies: who is blamed, how fast, and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROLOGUE = """
import os, signal, subprocess, sys, time
import numpy as np
import disttorch.distributed as dist
rank = int(os.environ["RANK"])
def say(text):
    print(text, flush=True)
"""
MARK = "DISTTORCH_TEST_MARK"


class Run:
    """A run of disttorch-run in a folder of its own, and what it must not leave behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.mark = f"{folder}-{os.getpid()}"
        self.process: subprocess.Popen[str] | None = None

    def start(self, script: str, *options: str, n: int = 2, arguments: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        path = self.folder / "train.py"
        path.write_text(PROLOGUE + script)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "disttorch_run",
                "--nproc-per-node",
                str(n),
                "--oversubscribe",
                *options,
                path,
                *arguments,
            ],
            env={**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )
        return self.process

    def finish(self, timeout: float = 20) -> tuple[int, str, str]:
        assert self.process is not None
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err

    def survivors(self) -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    environment = (entry / "environ").read_bytes()
                    state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    continue
                if f"{MARK}={self.mark}".encode() in environment and state != "Z":
                    found.append(f"{entry.name}: {(entry / 'cmdline').read_bytes()!r}")
        return found

    def check_nothing_left(self, seconds: float = 2.0) -> None:
        until = time.monotonic() + seconds
        while self.survivors() and time.monotonic() < until:
            time.sleep(0.02)
        assert self.survivors() == []
        assert list(self.temporary.iterdir()) == []
        assert not [path for path in Path("/dev/shm").iterdir() if "disttorch" in path.name]

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
            time.sleep(0.01)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    if run.process is not None and run.process.poll() is None:
        run.process.kill()
        run.process.communicate()
    run.check_nothing_left()


WAITERS = {
    "in a collective": "dist.all_reduce(np.ones(3))",
    "asleep": "time.sleep(60)",
    "in a large collective": "dist.all_reduce(np.ones(5_000_000))",
}


@pytest.mark.parametrize(
    ("place", "shm"),
    [
        ("in a collective", "1"),
        ("in a collective", "0"),
        ("asleep", "1"),
        ("in a large collective", "1"),
    ],
)
def test_when_a_rank_raises_the_others_raise_peer_failed(
    run: Run, place: str, shm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTTORCH_SHM", shm)
    run.start(
        f"""
dist.init_process_group()
dist.barrier()
if rank == 1:
    time.sleep(0.2)
    failed_at = time.time()
    open("failed_at", "w").write(str(time.time()))
    raise ValueError("boom")
try:
    {WAITERS[place]}
except dist.PeerFailed as error:
    late = time.time() - float(open("failed_at").read())
    told = "train.py" in error.traceback
    say(f"rank {{rank}} caught {{error.rank}} {{error.reason}} {{told}} {{late < 1}}")
    raise
""",
        n=3,
    )
    code, out, err = run.finish()
    assert code == 1
    assert "rank 0 caught 1 raised ValueError: boom True True" in out
    assert "[rank2] rank 2 caught 1 raised ValueError: boom True True" in out
    assert err.count("Traceback (most recent call last)") == 1
    assert err.startswith("Traceback")
    assert 'raise ValueError("boom")' in err
    assert "worker.py" not in err
    assert "rank 1 (pid" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("death", "code", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "was killed by signal 9 (SIGKILL)"),
        ("signal.raise_signal(signal.SIGSEGV)", 139, "was killed by signal 11 (SIGSEGV)"),
        ("sys.exit(3)", 3, "exited with code 3"),
        ("os._exit(7)", 7, "exited with code 7"),
    ],
)
def test_a_rank_that_dies_is_named_and_its_code_passed_on(run: Run, death: str, code: int, reason: str) -> None:
    run.start(
        f"""
dist.init_process_group()
try:
    dist.barrier()  # rank 1 may be gone before rank 0 sees that all have come
    if rank == 1:
        open("died_at", "w").write(str(time.time()))
        {death}
    dist.all_reduce(np.ones(3))
except dist.PeerFailed as error:
    say(f"caught {{error}} {{time.time() - float(open('died_at').read()) < 1}}")
    raise
"""
    )
    got, out, err = run.finish()
    assert got == code
    assert f"caught rank 1 {reason} True" in out
    assert err.splitlines()[-1].endswith(f"{reason}; the other ranks are stopped")


def test_ranks_without_a_group_are_terminated(run: Run) -> None:
    run.start("time.sleep(0.3 if rank else 60)\nif rank: raise RuntimeError('early')\n")
    started = time.monotonic()
    code, _, err = run.finish()
    assert code == 1
    assert "rank 1" in err
    assert time.monotonic() - started < 8


def test_a_rank_that_no_exception_can_reach_is_killed(run: Run) -> None:
    run.start(
        """
import ctypes
dist.init_process_group()
dist.barrier()
if rank == 0:
    open("stuck", "w").close()
    ctypes.PyDLL(None).sleep(60)  # holds the GIL
while not os.path.exists("stuck"):
    time.sleep(0.01)
time.sleep(0.2)
raise RuntimeError("boom")
"""
    )
    run.wait_for((run.folder / "stuck").exists, "the start")
    started = time.monotonic()
    code, _, err = run.finish()
    assert code == 1
    assert "boom" in err
    assert time.monotonic() - started < 5


def test_a_rank_may_save_its_work_before_it_ends(run: Run) -> None:
    run.start(
        """
dist.init_process_group()
dist.barrier()
if rank == 1:
    raise RuntimeError("boom")
try:
    dist.barrier()
except dist.PeerFailed:
    time.sleep(1.5)
    open("checkpoint", "w").write("saved")
""",
        "--grace",
        "10",
    )
    assert run.finish()[0] == 1
    assert (run.folder / "checkpoint").read_text() == "saved"


def test_a_rank_that_finishes_early_is_named(run: Run) -> None:
    run.start("dist.init_process_group()\ndist.barrier()\nif rank == 0: dist.all_reduce(np.ones(2))\n")
    code, _, err = run.finish()
    assert code == 1
    assert "rank 1 finished while rank 0 waits for it in all_reduce(float64[2], SUM)" in err


def test_at_the_time_out_the_missing_rank_and_all_stacks_are_shown(run: Run) -> None:
    run.start(
        """
dist.init_process_group()
dist.barrier()
def lost():
    time.sleep(60)
if rank == 1:
    lost()
dist.all_reduce(np.ones(3))
""",
        "--timeout",
        "1",
    )
    code, _, err = run.finish()
    assert code == 1
    assert "rank 0 has waited 1 s in all_reduce(float64[3], SUM)" in err
    assert "for rank 1 (pid" in err
    assert "in lost" in err
    assert "in _wait_for" in err
    assert "CollectiveTimeout: rank 0 waited 1 s for rank 1" in err


def test_a_stopped_rank_is_said_to_be_stopped_and_does_not_survive(run: Run) -> None:
    run.start(
        """
dist.init_process_group()
dist.barrier()
if rank == 1:
    os.kill(os.getpid(), signal.SIGSTOP)
dist.barrier()
""",
        "--timeout",
        "1",
    )
    code, _, err = run.finish()
    assert code == 1
    assert "stopped)" in err
    assert "rank 1 (pid" in err


LONG = """
if "child" in sys.argv:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
dist.init_process_group()
dist.barrier()
open(f"ready{rank}", "w").close()
try:
    time.sleep(60)
except KeyboardInterrupt:
    open(f"interrupted{rank}", "w").close()
    if "stubborn" in sys.argv:
        time.sleep(60)
    raise
"""


def both_ready(run: Run) -> bool:
    return all((run.folder / f"ready{rank}").exists() for rank in range(2))


def test_ctrl_c_interrupts_the_workers_in_their_own_way(run: Run) -> None:
    process = run.start(LONG, arguments=("child",))
    run.wait_for(lambda: both_ready(run), "the start")
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    code, _, err = run.finish()
    assert code == 130
    assert (run.folder / "interrupted0").exists()
    assert (run.folder / "interrupted1").exists()
    assert "Traceback" not in err
    assert time.monotonic() - started < 5


def test_a_second_ctrl_c_kills(run: Run) -> None:
    process = run.start(LONG, arguments=("stubborn",))
    run.wait_for(lambda: both_ready(run), "the start")
    process.send_signal(signal.SIGINT)
    run.wait_for(lambda: (run.folder / "interrupted1").exists(), "the interrupt")
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert run.finish()[0] == 130
    assert time.monotonic() - started < 5


def test_after_the_grace_period_workers_are_killed(run: Run) -> None:
    process = run.start(LONG, "--grace", "0.5", arguments=("stubborn",))
    run.wait_for(lambda: both_ready(run), "the start")
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert run.finish()[0] == 130
    assert time.monotonic() - started < 5


def test_sigterm_leaves_time_for_a_checkpoint(run: Run) -> None:
    process = run.start(
        """
def save(*_):
    time.sleep(0.3)
    open(f"saved{rank}", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
open(f"ready{rank}", "w").close()
time.sleep(60)
"""
    )
    run.wait_for(lambda: both_ready(run), "the start")
    process.terminate()
    assert run.finish()[0] == 143
    assert (run.folder / "saved0").exists()
    assert (run.folder / "saved1").exists()


def test_when_the_launcher_is_killed_nothing_survives(run: Run) -> None:
    process = run.start(LONG, arguments=("child",))
    run.wait_for(lambda: both_ready(run), "the start")
    assert len(run.survivors()) >= 5
    process.kill()
    run.finish()
    run.check_nothing_left(seconds=2)
