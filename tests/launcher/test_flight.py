"""What disttorch-run says about the ranks' collectives when something has gone wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import disttorch.distributed as dist
from disttorch.distributed import flight
from disttorch.distributed.call import Call
from disttorch.distributed.ring import Ring
from disttorch.testing.distributed import launch
from disttorch_run.flight import FlightReport, read, summary


class Ranks:
    """Recorders of some ranks, in memory that the agent's side reads."""

    def __init__(self, size: int) -> None:
        self.descriptors = {rank: flight.LAYOUT.create() for rank in range(size)}
        self.recorders = []
        for fd in self.descriptors.values():
            os.environ[flight.FD_VARIABLE] = str(os.dup(fd))
            self.recorders.append(flight.Recorder(Ring.open(flight.LAYOUT, flight.FD_VARIABLE)))

    def call(self, rank: int, sequence: int, *, op: str = "barrier", group: int = 0, line: int = 3, **details) -> int:
        call = Call(op, site=("train.py", line), **details)
        slot = self.recorders[rank].begin(call, sequence, group)
        self.recorders[rank].start(slot)
        return slot

    def finish(self, rank: int, sequence: int, error: BaseException | None = None, **details) -> None:
        self.recorders[rank].end(self.call(rank, sequence, **details), error)

    def summary(self) -> list[str]:
        lines = summary(read(self.descriptors), time.monotonic_ns())
        return [re.sub(r"\d+\.\d s", "T", line.strip()) for line in lines]


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    made = Ranks(3)
    yield made
    for fd in made.descriptors.values():
        os.close(fd)


def test_the_summary_says_who_waits_for_whom_where(ranks: Ranks) -> None:
    for rank in range(3):
        ranks.finish(rank, 11)
    for rank in (0, 2):
        ranks.call(rank, 12, op="all_reduce", dtype="float32", shape=(1024,), reduce_op="SUM", line=31)
    assert ranks.summary() == [
        "all ranks have finished #11, barrier() at train.py:3",
        "ranks 0, 2: waiting for rank 1 in #12, all_reduce(float32[1024], SUM) at train.py:31, for T",
        "rank 1: in no collective since the end of #11, barrier() at train.py:3, T ago",
    ]


def test_the_time_is_that_of_the_longest_wait(ranks: Ranks) -> None:
    ranks.call(0, 0)
    begun = time.monotonic_ns()
    time.sleep(0.02)
    ranks.call(2, 0)
    (line, _) = summary(read(ranks.descriptors), begun + 2_000_000_000)
    assert line == "  ranks 0, 2: waiting for rank 1 in #0, barrier() at train.py:3, for 2.0 s"


def test_the_summary_tells_different_calls_and_errors_apart(ranks: Ranks) -> None:
    for rank, size in ((0, 3), (1, 4)):
        ranks.call(rank, 0, op="all_reduce", dtype="int64", shape=(size,), reduce_op="MAX")
    ranks.finish(2, 0, ValueError("broken"), op="broadcast", dtype="bool", shape=(2,), root=1)
    assert ranks.summary() == [
        "rank 0: in #0, all_reduce(int64[3], MAX) at train.py:3, for T",
        "rank 1: in #0, all_reduce(int64[4], MAX) at train.py:3, for T",
        "rank 2: failed in #0, broadcast(bool[2], root 1) at train.py:3: ValueError: broken",
    ]


def test_the_summary_knows_groups_and_messages_between_two_ranks(ranks: Ranks) -> None:
    for recorder in ranks.recorders:
        recorder.add_group(0, "default_pg", range(3))
        recorder.add_group(5, "pair", [0, 2])
        recorder.add_group(6, "world/0-1-0", [0, 1])
    for rank in (0, 2):
        ranks.finish(rank, 0, group=5)
    ranks.call(0, 1, group=5)
    ranks.call(1, 0, op="send", dtype="float32", shape=(2,), names=("rank 0 to rank 1",), group=6)
    assert ranks.summary() == [
        "ranks 0, 2 have finished #0 of pair, barrier() at train.py:3",
        "rank 0: waiting for rank 2 in #1 of pair, barrier() at train.py:3, for T",
        "rank 1: waiting for rank 0 in #0 of world/0-1-0, send(float32[2], rank 0 to rank 1) at train.py:3, for T",
        "rank 2: in no collective since the end of #0 of pair, barrier() at train.py:3, T ago",
    ]


def test_the_transport_knows_best_who_is_missing(ranks: Ranks) -> None:
    slots = [ranks.call(rank, 0) for rank in range(3)]
    ranks.recorders[0].waiting(slots[0], [2])
    assert ranks.summary() == [
        "rank 0: waiting for rank 2 in #0, barrier() at train.py:3, for T",
        "ranks 1, 2: in #0, barrier() at train.py:3, for T",
    ]


def test_queued_collectives_are_counted(ranks: Ranks) -> None:
    for rank in range(3):
        ranks.call(rank, 0)
        for sequence in (1, 2):
            ranks.recorders[rank].begin(Call("barrier"), sequence, 0)
    assert ranks.summary() == ["ranks 0, 1, 2: in #0, barrier() at train.py:3, for T, 2 more under way or queued"]


def test_a_report_is_given_once_and_written_to_files(ranks: Ranks, tmp_path: Path) -> None:
    report = FlightReport(tmp_path / "logs")
    assert report.text(ranks.descriptors) == ""
    ranks.call(1, 4)
    assert report.text(ranks.descriptors, waited=5.0) == ""
    text = report.text(ranks.descriptors)
    assert text.splitlines()[0] == "disttorch-run: where the ranks were in their collectives:"
    assert text.splitlines()[-1].endswith(f"{tmp_path}/logs/flight.rank*.json")
    assert report.text(ranks.descriptors) == ""
    dumps = [json.loads((tmp_path / "logs" / f"flight.rank{rank}.json").read_text()) for rank in range(3)]
    assert [len(dump["entries"]) for dump in dumps] == [0, 1, 0]
    assert [dump["rank"] for dump in dumps] == [0, 1, 2]
    assert (dumps[1]["entries"][0]["collective_seq_id"], dumps[1]["entries"][0]["state"]) == (4, "started")


def test_files_that_cannot_be_written_are_no_further_failure(ranks: Ranks, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ranks.call(0, 0)
    text = FlightReport(tmp_path / "file").text(ranks.descriptors)
    assert text.splitlines()[-1].startswith(f"  the records could not be written to {tmp_path}/file: ")


def test_summaries_of_spoiled_memory(ranks: Ranks) -> None:
    rng = np.random.default_rng(1)
    for rank in range(3):
        for sequence in range(256):
            ranks.call(rank, sequence, group=sequence % 3)
    for round_number in range(30):
        for fd in ranks.descriptors.values():
            for at in rng.integers(64, flight.LAYOUT.total - 8, 3 ** (1 + round_number % 6)):
                os.pwrite(fd, rng.bytes(8), at)
        assert all(line.isprintable() for line in summary(read(ranks.descriptors), time.monotonic_ns()))


def raise_after_an_all_reduce() -> None:
    for _ in range(3):
        dist.all_reduce(np.ones(8, np.float32))
    if dist.get_rank() == 1:
        time.sleep(0.8)
        raise ValueError("no more data")
    dist.broadcast(np.ones(2), 0)


def test_a_failure_is_followed_by_where_the_ranks_were() -> None:
    said = launch(raise_after_an_all_reduce, 2).said
    assert said.index("no more data") < said.index("where the ranks were")
    reduced = r"all_reduce\(float32\[8\], SUM\) at \S*test_flight.py:\d+"
    assert re.search(rf"  all ranks have finished #2, {reduced}\n", said)
    assert re.search(
        r"  rank 0: waiting for rank 1 in #3, broadcast\(float64\[2\], root 0\) at \S+, for \d+.\d s\n", said
    )
    assert re.search(rf"  rank 1: in no collective since the end of #2, {reduced}, \d+.\d s ago\n", said)
    assert said.splitlines()[-1].endswith("raised ValueError: no more data; the other ranks are stopped")


def killed_while_waiting() -> None:
    dist.barrier()
    if dist.get_rank() == 0:
        time.sleep(0.8)
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(np.ones(3))


def test_a_killed_rank_leaves_its_records() -> None:
    outcome = launch(killed_while_waiting, 3)
    assert outcome.failed_rank == 0
    assert "rank 0: in no collective since the end of #0, barrier()" in outcome.said
    assert "ranks 1, 2: waiting for rank 0 in #1, all_reduce(float64[3], SUM)" in outcome.said


def stopped_while_another_waits_and_ends() -> None:
    dist.all_reduce(np.ones(3))
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    threading.Timer(0.7, os._exit, [3]).start()
    dist.barrier()


def test_a_stopped_rank_and_one_that_is_in_a_collective_can_be_read() -> None:
    outcome = launch(stopped_while_another_waits_and_ends, 2)
    assert (outcome.code, outcome.said.count("where the ranks were")) == (3, 1)
    assert "rank 0: waiting for rank 1 in #1, barrier()" in outcome.said
    assert "rank 1: in no collective since the end of #0, all_reduce(float64[3], SUM)" in outcome.said


SCRIPT = """
import disttorch.distributed as dist
from disttorch.distributed import flight
dist.init_process_group()
dist.barrier()
if dist.get_rank() == 0:
    memory = flight.recorder()._memory
    memory[64:] = (b"\\x1b[31m" * len(memory))[: len(memory) - 64]
    raise ValueError("scribbled")
dist.barrier()
"""


def test_a_rank_may_write_anything_into_its_recorder(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "disttorch_run", "--nproc-per-node", "2", "--oversubscribe", "--log-dir", "logs"]
    done = subprocess.run([*command, "train.py"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "raised ValueError: scribbled" in done.stderr
    assert "\x1b" not in done.stderr
    assert "rank 0: no collective yet" in done.stderr
    assert "rank 1: " in done.stderr
    written = {path.name: json.loads(path.read_text()) for path in (tmp_path / "logs").rglob("flight.*.json")}
    assert written["flight.rank0.json"]["entries"] == []
    (first, *_) = written["flight.rank1.json"]["entries"]
    assert (first["profiling_name"], first["collective_seq_id"]) == ("zmq:barrier", 0)
