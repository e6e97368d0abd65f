"""Every fault in every state of a run: who is blamed, how fast the others stop, and that nothing is left.

The runs take place side by side, a few at a time; a run that was not in time may show alone that it can be.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

MARK = "DISTTORCH_TEST_MARK"
SCRIPT = Path(__file__).with_name("struck.py")
CORES = len(os.sched_getaffinity(0))
# As it is now: pytest changes it with every test, in the middle of which a thread may read it.
ENVIRONMENT = dict(os.environ)
# Between the fault and the end of the launcher, which comes after all workers'.
STOP_SECONDS = 2.0
TIMEOUT = 1.0
# After a time-out: the stacks of all ranks, and a second to unwind before who cannot is killed.
AFTER_TIMEOUT = 3.0

STATES = [
    "start",
    "joining",
    "before publishing",
    "before the first step",
    "between steps",
    "at the end of a collective",
    "between collectives",
    "asynchronous",
    "backward",
    "loading",
    "loading in a process",
    "saving",
    "exit",
]
SAME_FOR_SIGNALS = ["before publishing", "before the first step", "at the end of a collective", "backward"]
IN_MESSAGES = ["before publishing", "between steps", "asynchronous"]
EXIT_CODES = {
    "kill": {137},
    "stop": {1, 137},
    "close": {1, 137},
    "cut": {1, 134},
    "INT": {130},
    "TERM": {143},
    "launcher": {-9},
}
SIGNALS = {"INT": signal.SIGINT, "TERM": signal.SIGTERM, "launcher": signal.SIGKILL}


@dataclass(frozen=True)
class Case:
    """A fault in a state, over a transport. Faults: raise, kill, stop (SIGSTOP), close (the socket to the launcher), cut
    (all other sockets) in rank 1; INT, TERM, launcher (SIGKILL): sent to the launcher."""

    fault: str
    state: str
    transport: str = "shm"

    def __str__(self) -> str:
        return f"{self.fault}-{self.state}-{self.transport}".replace(" ", "_")

    @property
    def codes(self) -> set[int]:
        """The exit codes that the launcher may have."""
        if self.fault == "raise":
            # Python only prints what an exit handler raises.
            return {0} if self.state == "exit" else {1}
        # The loader's process dies, and its rank raises.
        return {1} if (self.fault, self.state) == ("kill", "loading in a process") else EXIT_CODES[self.fault]

    @property
    def seconds(self) -> float:
        """How long the run may go on after the fault."""
        late = self.fault in ("stop", "cut")
        return TIMEOUT + AFTER_TIMEOUT if late else STOP_SECONDS

    @property
    def named(self) -> bool:
        """Whether rank 1 must be named."""
        return self.fault in ("raise", "kill", "stop", "close") and self.codes != {0}


def cases_to_run() -> list[Case]:
    """Return all cases with DISTTORCH_MATRIX=all, else every fault in the states that differ most, and every state."""
    cases = all_cases()
    if os.environ.get("DISTTORCH_MATRIX") == "all":
        return cases
    telling = ("start", "between steps", "between collectives", "saving")
    return [case for case in cases if case.state in telling or case.fault == "kill"]


def all_cases() -> list[Case]:
    cases = [Case(fault, state) for state in STATES for fault in ("raise", "kill", "stop", "close")]
    cases.remove(Case("close", "loading in a process"))  # the loader's process has no use for that socket
    cases += [Case(fault, state) for state in STATES if state not in SAME_FOR_SIGNALS for fault in ("INT", "launcher")]
    cases += [Case("TERM", state) for state in ("start", "between steps", "saving")]
    cases += [Case(fault, state, "ipc") for state in IN_MESSAGES for fault in ("raise", "kill", "cut")]
    cases += [Case(fault, "between steps", "tcp") for fault in ("kill", "cut")]
    return cases + [Case(fault, "between steps", "hierarchical") for fault in ("raise", "kill", "stop")]


@dataclass
class Outcome:
    """How a run went: the launcher's exit code and output, seconds from the fault to its end, what is left of it."""

    code: int
    said: str
    seconds: float
    caught: set[str]
    left: list[str]


def perform(case: Case, folder: Path) -> Outcome:
    """Run a case in a folder of its own."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    mark = f"{folder}-{os.getpid()}"
    environment = {**ENVIRONMENT, MARK: mark, "TMPDIR": str(temporary), "DISTTORCH_TRANSPORT": case.transport}
    environment.pop("DISTTORCH_SHM", None)
    if case.transport == "hierarchical":
        environment["DISTTORCH_HOSTS"] = "2"
    ranks = 3 if case.transport == "hierarchical" else 2
    timeout = TIMEOUT if case.fault in ("stop", "cut") else 60
    options = ["--nproc-per-node", str(ranks), "--oversubscribe", "--timeout", str(timeout), "--grace", "10"]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "disttorch_run", *options, SCRIPT, case.state, case.fault],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        try:
            if case.fault in SIGNALS:
                wait_for(lambda: (folder / "struck").exists() or process.poll() is not None, 60)
                struck = time.monotonic()
                process.send_signal(SIGNALS[case.fault])
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            code = 999
        finally:
            process.kill()
            process.wait()
    if case.fault == "launcher":
        wait_for(lambda: not survivors(mark), case.seconds)
    ended = time.monotonic()
    if case.fault not in SIGNALS:
        struck = float((folder / "struck").read_text()) if (folder / "struck").exists() else ended
    wait_for(lambda: not survivors(mark), 1)
    left = survivors(mark)
    kill_all(left)
    left += [str(path) for path in temporary.iterdir()]
    left += [str(path) for path in folder.iterdir() if path.is_socket()]
    left += [str(path) for path in Path("/dev/shm").iterdir() if "disttorch" in path.name]
    if case.fault in ("raise", "INT"):
        left += [str(path) for path in folder.glob(".*.tmp")]
    caught = {path.read_text() for path in folder.glob("caught?")}
    return Outcome(code, (folder / "said").read_text(errors="replace"), ended - struck, caught, left)


def wait_for(condition: object, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:  # type: ignore[operator]
        time.sleep(0.02)


def survivors(mark: str) -> list[str]:
    """Return the processes of a run that are still there."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and f"{MARK}={mark}\0".encode() in (entry / "environ").read_bytes():
                    found.append(f"{entry.name}: {(entry / 'cmdline').read_bytes()!r}")
    return found


def kill_all(left: list[str]) -> None:
    for text in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(text.partition(":")[0]), signal.SIGKILL)


def load() -> float:
    """Return how many times longer than on a quiet machine things take."""
    return max(1.0, os.getloadavg()[0] / CORES)


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Case, Future]]:
    """Start the runs of all cases that were asked for, some at a time."""
    items = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    wanted = [item.callspec.params["case"] for item in items if "case" in item.callspec.params]
    folder = tmp_path_factory.mktemp("matrix")
    with ThreadPoolExecutor(CORES + 2) as pool:
        yield {case: pool.submit(perform, case, folder / str(case)) for case in wanted}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", cases_to_run(), ids=str)
def test_fault(case: Case, outcomes: dict[Case, Future], tmp_path: Path) -> None:
    outcome: Outcome = outcomes[case].result()
    if outcome.seconds > case.seconds:
        outcome = perform(case, tmp_path / "alone")
    said = f"code {outcome.code} after {outcome.seconds:.2f} s, caught {outcome.caught}:\n{outcome.said}"
    assert outcome.left == [], said
    assert outcome.code in case.codes, said
    assert outcome.seconds <= case.seconds * load(), said
    if case.named:
        assert re.search(r"rank 1 \(pid \d+", outcome.said), said
    if case.fault in ("raise", "kill"):
        assert outcome.caught <= {"1"}, said
        assert outcome.caught or case.state in ("start", "joining", "exit"), said
    assert outcome.said.count("Traceback (most recent call last)") <= 3, said


@pytest.mark.parametrize("fault", ["raise", "kill", "stop"])
def test_the_launcher_keeps_no_descriptor_and_no_memory(fault: str) -> None:
    from disttorch.testing.distributed import launch

    launch(fail, 2, timeout=30, fault="none")
    gc.collect()
    before = descriptors(), segments()
    outcome = launch(fail, 2, timeout=30, fault=fault)
    gc.collect()
    assert outcome.failed_rank in ((0, 1) if fault == "stop" else (1,)), outcome.said
    assert (descriptors(), segments()) == before


def fail(fault: str) -> None:
    import numpy as np

    import disttorch.distributed as dist

    dist.destroy_process_group()
    dist.init_process_group(timeout=1)
    dist.all_reduce(np.ones(3))
    if dist.get_rank() == 1:
        if fault == "raise":
            raise ValueError("struck")
        if fault in ("kill", "stop"):
            os.kill(os.getpid(), signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
    dist.barrier()


def descriptors() -> list[str]:
    """Return what this process has open."""
    found = []
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(re.sub(r"\d+", "N", os.readlink(f"/proc/self/fd/{entry}")))
    return sorted(name for name in found if not name.startswith("/proc"))


def segments() -> int:
    """Return how many shared segments this process maps."""
    return sum("memfd:disttorch" in line for line in Path("/proc/self/maps").read_text().splitlines())
