"""The flight recorder: what a rank writes down about its collectives, and what can be read from any memory."""

from __future__ import annotations

import json
import mmap
import os
import time

import numpy as np
import pytest

import disttorch.distributed as dist
from disttorch.distributed import flight
from disttorch.distributed.call import Call
from disttorch.distributed.ring import Ring
from disttorch.testing.distributed import distributed


@pytest.fixture
def recorder() -> flight.Recorder:
    return flight.Recorder(Ring(flight.LAYOUT, mmap.mmap(-1, flight.LAYOUT.total)))


def memory_of(recorder: flight.Recorder) -> mmap.mmap:
    return recorder._memory


def test_a_record_says_what_when_and_where(recorder: flight.Recorder) -> None:
    before = time.monotonic_ns()
    call = Call("all_reduce", "float32", (4, 256), "SUM", length=4096, site=("/home/me/train.py", 31))
    slot = recorder.begin(call, 12, 0)
    recorder.start(slot)
    recorder.end(slot, None)
    (record,) = recorder.recording().records
    assert before <= record.created <= record.started <= record.ended <= time.monotonic_ns()
    assert record.describe() == "all_reduce(float32[4, 256], SUM) at /home/me/train.py:31"
    shown = record.as_dict(clock=10**18)
    assert shown["time_created_ns"] == record.created + 10**18
    assert shown["duration_ms"] == (record.ended - record.started) / 1e6
    expected = {
        "profiling_name": "zmq:all_reduce",
        "collective_seq_id": 12,
        "p2p_seq_id": 0,
        "state": "completed",
        "input_sizes": [[4, 256]],
        "input_dtypes": ["float32"],
        "nbytes": 4096,
        "reduce_op": "SUM",
        "frames": [{"name": "", "filename": "/home/me/train.py", "line": 31}],
        "is_p2p": False,
        "error": "",
    }
    assert {name: shown[name] for name in expected} == expected


def test_states_follow_each_other(recorder: flight.Recorder) -> None:
    slot = recorder.begin(Call("barrier"), 0, 0)
    assert [r.state for r in recorder.recording().records] == [flight.QUEUED]
    recorder.start(slot)
    recorder.waiting(slot, [3, 1])
    (record,) = recorder.recording().records
    assert (record.state, record.waiting, record.ended) == (flight.RUNNING, (3, 1), 0)
    recorder.end(slot, ValueError("no\nsecond line"))
    (record,) = recorder.recording().records
    assert (record.state, record.waiting, record.error) == (flight.FAILED, (), "ValueError: no")


def test_the_last_256_are_kept_and_an_overwritten_one_is_left_alone(recorder: flight.Recorder) -> None:
    first = recorder.begin(Call("barrier"), 0, 0)
    for sequence in range(1, 300):
        recorder.end(recorder.begin(Call("barrier"), sequence, 0), None)
    recorder.start(first)
    recorder.end(first, ValueError("not its slot any more"))
    recorder.waiting(first, [1])
    records = recorder.recording().records
    assert [r.sequence for r in records] == list(range(44, 300))
    assert {r.state for r in records} == {flight.DONE}


def test_a_slot_that_is_being_written_is_left_out(recorder: flight.Recorder) -> None:
    for sequence in range(3):
        recorder.begin(Call("barrier"), sequence, 0)
    at = flight.LAYOUT.first + 2 * flight.LAYOUT.slot_bytes
    memory_of(recorder)[at : at + 8] = (258).to_bytes(8, "little")  # the first word is written first, the last one last
    assert [r.sequence for r in recorder.recording().records] == [0, 2]


def test_what_is_too_long_is_shortened(recorder: flight.Recorder) -> None:
    path = "/" + "long/" * 50 + "train.py"
    names = tuple(f"layer{i}.weight" * 5 for i in range(9))
    recorder.begin(Call("bucket", "float32", (1,) * 30, "AVG", names=names, site=(path, 7)), 0, 0)
    (record,) = recorder.recording().records
    assert record.file == "..." + path[-117:]
    assert record.shape == (1,) * 8
    assert record.names == ", ".join(names)[:64]


def test_groups_have_names_and_ranks(recorder: flight.Recorder) -> None:
    recorder.add_group(0, "default_pg", range(200))
    for number in range(1, 200):
        recorder.add_group(number + 100, "another", [0])
    recorder.add_group(7, "tensor parallel", [1, 3])
    recorder.begin(Call("barrier"), 0, 7)
    recording = recorder.recording()
    assert len(recording.groups) == 64
    assert recording.groups[0] == flight.Group("default_pg")  # more ranks than are listed
    assert recording.groups[7] == flight.Group("tensor parallel", (1, 3))
    dump = recording.as_dict()
    assert dump["entries"][0]["process_group"] == ("7", "tensor parallel")
    assert dump["pg_config"]["7"] == {"name": "7", "desc": "tensor parallel", "ranks": "[1, 3]"}


def test_text_cannot_steer_the_terminal(recorder: flight.Recorder) -> None:
    recorder.begin(Call("barrier", site=("\x1b[2Jtrain.py\n", 1)), 0, 0)
    (record,) = recorder.recording().records
    assert record.file == "?[2Jtrain.py?"


def test_any_memory_can_be_read(recorder: flight.Recorder) -> None:
    rng = np.random.default_rng(0)
    call = Call("all_reduce", "float32", (4,), "SUM", length=16)
    recorder.add_group(1, "some", [0, 1])
    for sequence in range(256):
        recorder.start(recorder.begin(call, sequence, 1))
    sound = np.frombuffer(recorder._ring.copy(), np.uint8)
    kept = 0
    for round_number in range(60):
        spoiled = sound.copy()
        where = rng.integers(64, len(spoiled), 10 ** (1 + round_number % 5))
        spoiled[where] = rng.integers(0, 256, len(where))
        recording = flight.parse(spoiled.tobytes())
        kept += len(recording.records)
        json.dumps(recording.as_dict(), allow_nan=False)
        assert all(record.describe().isprintable() for record in recording.records)
    assert kept > 256
    for data in (b"", b"x", b"\0" * flight.LAYOUT.total, rng.bytes(flight.LAYOUT.total), sound.tobytes()[:-1]):
        assert flight.parse(data) == flight.Recording()


def test_an_inherited_descriptor_that_is_something_else_is_not_used(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "data").open("w+b") as file:
        file.truncate(flight.LAYOUT.total)
        monkeypatch.setenv(flight.FD_VARIABLE, str(file.fileno()))
        ring = Ring.open(flight.LAYOUT, flight.FD_VARIABLE)
        recorder = flight.Recorder(ring)
        recorder.begin(Call("barrier"), 0, 0)
        assert len(recorder.recording().records) == 1
        assert not any((tmp_path / "data").read_bytes())
    assert flight.FD_VARIABLE not in os.environ


def test_what_is_written_behind_the_descriptor_can_be_read_by_its_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = flight.LAYOUT.create()
    monkeypatch.setenv(flight.FD_VARIABLE, str(os.dup(fd)))
    flight.Recorder(Ring.open(flight.LAYOUT, flight.FD_VARIABLE)).begin(Call("barrier"), 5, 0)
    assert [r.sequence for r in flight.parse(flight.LAYOUT.read(fd)).records] == [5]
    os.close(fd)
    assert flight.LAYOUT.read(fd) == b""


@distributed(n=2)
def test_every_collective_is_recorded() -> None:
    begun = len(flight.flight_records())
    dist.all_reduce(np.ones(6, np.float32))
    work = dist.broadcast(np.ones((2, 3)), 1, async_op=True)
    assert work is not None
    work.wait()
    dist.barrier()
    reduced, spread, met = flight.flight_records()[begun:]
    assert (reduced["profiling_name"], spread["profiling_name"]) == ("zmq:all_reduce", "zmq:broadcast")
    assert (reduced["nbytes"], spread["nbytes"]) == (24, 48)
    assert (reduced["reduce_op"], spread["root"]) == ("SUM", 1)
    assert [r["collective_seq_id"] for r in (reduced, spread, met)] == list(range(begun, begun + 3))
    assert {r["state"] for r in (reduced, spread, met)} == {"completed"}
    assert os.path.basename(reduced["frames"][0]["filename"]) == "test_flight.py"
    assert abs(reduced["time_created_ns"] - time.time_ns()) < 60e9


def test_a_forked_process_has_a_recorder_of_its_own() -> None:
    flight.recorder().begin(Call("barrier"), 0, 0)
    count = len(flight.flight_records())
    pid = os.fork()
    if pid == 0:
        os._exit(len(flight.flight_records()))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(flight.flight_records()) == count
