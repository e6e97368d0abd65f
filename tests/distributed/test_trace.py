"""Traces: what is recorded, what can be read from any memory, and the file in the Trace Event Format."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import disttorch as torch
from disttorch.core import observe
from disttorch.distributed import flight, trace
from disttorch.distributed.call import Call
from disttorch.distributed.ring import Ring
from disttorch.utils.data import DataLoader


@pytest.fixture
def tracer() -> Iterator[trace.Tracer]:
    trace.start(Ring(trace.LAYOUT, mmap.mmap(-1, trace.LAYOUT.total)))
    assert trace.tracer is not None
    yield trace.tracer
    trace.stop()


def recorded(tracer: trace.Tracer) -> trace.Part:
    return trace.parse(tracer.ring.copy())


def check_format(events: list[dict[str, Any]]) -> None:
    """Check what viewers of the Trace Event Format rely on."""
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in events:
        assert event["ph"] in "XMibesf"
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["ts"], int | float)
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert isinstance(event["args"], dict)
            begun = round(event["ts"] * 1000)
            tracks.setdefault((event["pid"], event["tid"]), []).append((begun, begun + round(event["dur"] * 1000)))
        if event["ph"] in "besf":
            assert isinstance(event["id"], int)
            assert event["cat"]
    for spans in tracks.values():
        ends: list[int] = []
        for begun, ended in sorted(spans, key=lambda span: (span[0], -span[1])):
            while ends and ends[-1] <= begun:
                ends.pop()
            assert not ends or ended <= ends[-1], "two spans of a thread overlap and neither is within the other"
            ends.append(ended)
    named = {event["pid"] for event in events if event["name"] == "process_name"}
    assert named == {event["pid"] for event in events}
    threads = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert tracks.keys() <= threads


def test_without_a_trace_nothing_is_recorded() -> None:
    assert not trace.enabled()
    assert observe.observer is None
    assert trace.span("a", images=1) is trace.span("b")
    trace.record("a", 0, 1)


def test_spans_nest_and_keep_their_arguments(tracer: trace.Tracer) -> None:
    assert trace.enabled()
    with trace.span("outer", category="mine", images=64), trace.span("inner"):
        time.sleep(0.002)
    with pytest.raises(ValueError, match="in a span"), trace.span("raises"):
        raise ValueError("in a span")
    outer, inner, raises = recorded(tracer).events
    assert (outer.name, outer.category, outer.args) == ("outer", "mine", {"images": 64})
    assert outer.start <= inner.start <= inner.end - 2_000_000 <= outer.end <= raises.start
    assert (inner.thread, raises.name) == (threading.get_native_id(), "raises")


def test_every_thread_has_a_track_with_its_name(tracer: trace.Tracer) -> None:
    thread = threading.Thread(target=trace.record, args=("work", 10, 20), name="helper")
    thread.start()
    thread.join()
    trace.record("work", 15, 25)
    part = recorded(tracer)
    assert sorted(part.threads[event.thread] for event in part.events) == ["MainThread", "helper"]
    check_format(list(trace.trace_events(3, part, 10)))


def test_what_does_not_nest_is_shown_beside_the_track(tracer: trace.Tracer) -> None:
    for name, begun, ended in (("a", 100, 300), ("b", 200, 400), ("c", 200, 300), ("d", 300, 500)):
        trace.record(name, begun, ended)
    events = list(trace.trace_events(0, recorded(tracer), 100))
    check_format(events)
    assert [(e["ph"], e["name"], e["ts"]) for e in events if e["ph"] != "M"] == [
        ("X", "a", 0.0),
        ("b", "b", 0.1),
        ("e", "b", 0.3),
        ("X", "c", 0.1),
        ("X", "d", 0.2),
    ]


def test_the_latest_events_are_kept_and_the_others_counted(tracer: trace.Tracer, tmp_path: Path) -> None:
    for number in range(trace.EVENTS + 10):
        trace.record("e", number, number + 1)
    part = recorded(tracer)
    assert (len(part.events), part.dropped, part.events[0].start) == (trace.EVENTS, 10, 10)
    part.events = part.events[:5]
    trace.write_file(tmp_path / "trace.json", {0: part})
    (note,) = [e["name"] for e in json.loads((tmp_path / "trace.json").read_text())["traceEvents"] if e["ph"] == "i"]
    assert note.startswith("10 earlier events are not in this file")


def test_arguments_of_any_kind_and_length_give_valid_json(tracer: trace.Tracer, tmp_path: Path) -> None:
    trace.record("odd", 1, 2, nan=float("nan"), path=tmp_path, text='"\x1b\n', big=list(range(1000)))
    trace.record("n" * 100, 1, 2, one=np.float32(1))
    trace.write_file(tmp_path / "trace.json", {0: recorded(tracer)})
    text = (tmp_path / "trace.json").read_text()
    loaded = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    odd, long = [event for event in loaded["traceEvents"] if event["ph"] == "X"]
    assert odd["args"]["nan"] == "NaN"
    assert odd["args"]["more"] == "left out"
    assert (long["name"], long["args"]) == ("n" * 62, {"one": "1.0"})


def test_a_collective_is_a_span_of_the_thread_that_ran_it(tracer: trace.Tracer) -> None:
    recorder = flight.Recorder(Ring(flight.LAYOUT, mmap.mmap(-1, flight.LAYOUT.total)))
    slot = recorder.begin(Call("all_reduce", "float32", (4,), "SUM", length=16, site=("/a/train.py", 8)), 3, 1)
    recorder.start(slot)
    recorder.end(slot, ValueError("no"))
    recorder.end(recorder.begin(Call("barrier"), 4, 1), ValueError("never ran"))
    (event,) = recorded(tracer).events
    (record, _) = recorder.recording().records
    assert (event.name, event.category) == ("zmq:all_reduce", "communication")
    assert (event.start, event.end, event.group, event.sequence) == (record.started, record.ended, 1, 3)
    shown = {"bytes": 16, "dtype": "float32", "shape": [4], "reduce_op": "SUM", "at": "train.py:8"}
    assert event.args == {**shown, "queued_us": event.args["queued_us"], "error": "ValueError: no"}


def test_training_is_seen(tracer: trace.Tracer) -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for batch in DataLoader([torch.ones(3), torch.ones(3)]):
        (weight * batch).sum().backward()
        optimizer.step()
    load, backward, step, *_ = events = recorded(tracer).events
    loading = "enumerate(DataLoader)#SingleProcessIterator.__next__"
    assert [e.name for e in events] == [loading, "backward", "Optimizer.step#SGD.step"] * 2
    assert (load.category, backward.category, step.category) == ("data", "compute", "compute")
    assert load.end <= backward.start <= backward.end <= step.start


def test_any_memory_can_be_read(tracer: trace.Tracer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(200):
        trace.record(f"event {number}", number * 10, number * 10 + 7, "fuzz", number=number)
    sound = tracer.ring.copy()
    used = trace.LAYOUT.first + 201 * trace.LAYOUT.slot_bytes
    kept = 0
    for round_number in range(12):
        spoiled = np.frombuffer(sound, np.uint8).copy()
        where = rng.integers(64, used, 10 ** (1 + round_number % 4))
        spoiled[where] = rng.integers(0, 256, len(where))
        part = trace.parse(spoiled.tobytes())
        kept += len(part.events)
        trace.write_file(tmp_path / "trace.json", {0: part})
        json.loads((tmp_path / "trace.json").read_text(), parse_constant=pytest.fail)
    assert kept > 200
    for data in (b"", b"x", bytes(trace.LAYOUT.total), rng.bytes(trace.LAYOUT.total), sound[:-1]):
        assert trace.parse(data) == trace.Part([], {})


def test_a_forked_process_does_not_write_into_its_parents_trace(tracer: trace.Tracer) -> None:
    pid = os.fork()
    if pid == 0:
        trace.record("child", 1, 2)
        os._exit(trace.enabled())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert recorded(tracer).events == []


def test_a_script_alone_writes_its_trace_also_when_it_fails(tmp_path: Path) -> None:
    script = """
import os, subprocess, sys
import disttorch.distributed as dist
with dist.trace.span("work", step=1):
    pass
subprocess.run([sys.executable, "-c", "import disttorch"], check=True)
os.chdir("/")
raise SystemExit(3)
"""
    environment = {**os.environ, "DISTTORCH_TRACE": "trace.json"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, timeout=60)
    assert done.returncode == 3
    loaded = json.loads((tmp_path / "trace.json").read_text())
    check_format(loaded["traceEvents"])
    assert [event["name"] for event in loaded["traceEvents"] if event["ph"] == "X"] == ["work"]
    assert abs(loaded["baseTimeNanoseconds"] - time.time_ns()) < 120e9
    assert list(tmp_path.iterdir()) == [tmp_path / "trace.json"]


def test_ranks_without_a_launcher_write_files_of_their_own(tracer: trace.Tracer, tmp_path: Path) -> None:
    for rank in range(2):
        trace._write_alone(tmp_path / "trace.json", rank, os.getpid())
    names = ["trace.json", "trace.json.rank1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    events = [json.loads((tmp_path / name).read_text())["traceEvents"] for name in names]
    assert [{event["pid"] for event in found} for found in events] == [{0}, {1}]


def test_a_trace_that_cannot_be_written_is_one_sentence(
    tracer: trace.Tracer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace._write_alone(tmp_path / "missing" / "trace.json", 0, os.getpid())
    assert capsys.readouterr().err.startswith(
        f"disttorch: the trace could not be written to {tmp_path}/missing/trace.json: "
    )
