"""What a signal raises in the main thread arrives, also where Python drops exceptions."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

import disttorch.distributed as dist
from disttorch.distributed import agent_link
from disttorch.testing.distributed import launch


class Thing:
    """Something with a finalizer that takes its time."""

    def __init__(self, finalizer: Callable[[], None] = lambda: None) -> None:
        self.finalizer = finalizer

    def __del__(self) -> None:
        self.finalizer()


def in_a_finalizer(work: Callable[[], None]) -> None:
    Thing(work)


def in_a_callback_of_a_weak_reference(work: Callable[[], None]) -> None:
    thing = Thing()
    reference = weakref.ref(thing, lambda _: work())
    del thing
    assert reference() is None


def in_a_callback_from_c(work: Callable[[], None]) -> None:
    ctypes.CFUNCTYPE(None)(work)()


PLACES = {place.__name__: place for place in (in_a_finalizer, in_a_callback_of_a_weak_reference, in_a_callback_from_c)}


def until_a_rank_has_failed() -> None:
    """Work until the news is there, and long enough after it to be interrupted."""
    link = agent_link.current()
    assert link is not None
    while link.failure is None:
        time.sleep(0.001)
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        pass


def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)


def wait() -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        time.sleep(0.001)


def see_a_failure(place: str) -> None:
    dist.barrier()
    if dist.get_rank() == 1:
        raise ValueError("struck")
    try:
        PLACES[place](until_a_rank_has_failed)
        wait()
    except dist.PeerFailed as error:
        print(f"caught: rank {error.rank}", flush=True)
        raise


class Logger:
    """Something whose finalizer calls a collective."""

    def __del__(self) -> None:
        dist.barrier()


def save_after_a_failure() -> None:
    dist.barrier()
    if dist.get_rank() == 1:
        raise ValueError("struck")
    try:
        wait()
    except dist.PeerFailed:
        logger = Logger()
        del logger
        time.sleep(0.1)
        print("saved", flush=True)
        raise


def be_interrupted_while_an_error_is_reported() -> str:
    """Ctrl-C comes while `sys.unraisablehook` prints what a finalizer has raised."""

    class Slow:
        def write(self, text: str) -> None:
            if "IndexError" in text:
                interrupted()

        def flush(self) -> None: ...

    usual, sys.stderr = sys.stderr, Slow()  # type: ignore[assignment]
    try:
        in_a_finalizer(lambda: [][0])  # type: ignore[misc]
        wait()
    except KeyboardInterrupt:
        return "interrupted"
    finally:
        sys.stderr = usual
    return "not interrupted"


def be_interrupted(place: str) -> str:
    try:
        PLACES[place](interrupted)
        wait()
    except KeyboardInterrupt:
        return "interrupted"
    return "not interrupted"


def drop_an_error(place: str) -> None:
    PLACES[place](lambda: [][0])  # type: ignore[misc]


@pytest.mark.parametrize("place", PLACES)
def test_the_news_of_a_failure_is_not_dropped(place: str, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = launch(see_a_failure, 2, place=place)
    said = "".join([*capfd.readouterr(), outcome.said])
    assert "caught: rank 1" in said
    assert "Exception ignored" not in said
    assert outcome.failed_rank == 1


def test_the_news_is_raised_only_once(capfd: pytest.CaptureFixture[str]) -> None:
    outcome = launch(save_after_a_failure, 2)
    said = "".join([*capfd.readouterr(), outcome.said])
    assert "saved" in said
    assert said.count("Exception ignored") == 1  # what the finalizer raised


def test_ctrl_c_is_not_dropped_while_an_error_is_reported() -> None:
    assert launch(be_interrupted_while_an_error_is_reported, 1).results == {0: "interrupted"}


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_is_not_dropped(place: str, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = launch(be_interrupted, 1, place=place)
    assert outcome.results == {0: "interrupted"}
    assert "Exception ignored" not in "".join([*capfd.readouterr(), outcome.said])


@pytest.mark.parametrize("place", PLACES)
def test_other_errors_are_reported_as_python_does(place: str, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = launch(drop_an_error, 1, place=place)
    said = "".join([*capfd.readouterr(), outcome.said])
    assert outcome.code == 0
    assert "Exception ignored" in said
    assert "IndexError" in said


def fail_together() -> None:
    """Raise on both ranks; rank 1 is slow to report it, and hears of rank 0's failure meanwhile."""
    times = 0

    def excepthook(*error: object) -> None:
        nonlocal times
        times += 1
        if times > 1:
            sys.__excepthook__(*error)  # type: ignore[arg-type]
        time.sleep(0.3)

    if dist.get_rank() == 1:
        sys.excepthook = excepthook
    dist.barrier()
    time.sleep(0.0 if dist.get_rank() == 1 else 0.1)
    raise ValueError("struck")


def test_a_rank_that_reports_its_own_failure_raises_no_other(capfd: pytest.CaptureFixture[str]) -> None:
    outcome = launch(fail_together, 2)
    said = "".join([*capfd.readouterr(), outcome.said])
    assert said.count("Traceback (most recent call last)") == 1
    assert "PeerFailed" not in said


MEET = """
import sys
import disttorch.distributed as dist
before = sys.unraisablehook
for turn in range(2):
    dist.init_process_group(init_method=f"file://{sys.argv[1]}/{turn}", rank=int(sys.argv[2]), world_size=2)
    assert sys.unraisablehook != before
    dist.destroy_process_group()
    assert sys.unraisablehook is before
"""


def test_a_rank_that_leaves_takes_its_hook_along(tmp_path: Path) -> None:
    ranks = [subprocess.Popen([sys.executable, "-c", MEET, str(tmp_path), rank]) for rank in "01"]
    assert [rank.wait(30) for rank in ranks] == [0, 0]
