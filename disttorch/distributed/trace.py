"""A trace of what a rank does when: forward, backward, optimizer step, loading and every collective.

`disttorch-run --trace FILE` puts the traces of all ranks into one file in the Trace Event Format,
which ui.perfetto.dev and chrome://tracing open; `DISTTORCH_TRACE=FILE` does the same, also for a
script that runs alone. Without them nothing is recorded.

    with trace.span("augment", images=64):
        ...

Events go to a ring in memory that the agent can read (`ring`): the last 65,536 of each rank are
kept, also when a rank is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disttorch.core import observe
from disttorch.distributed.ring import Layout, Ring, clean

if TYPE_CHECKING:
    from disttorch.distributed.flight import Record

FILE_VARIABLE = "DISTTORCH_TRACE"
FD_VARIABLE = "DISTTORCH_TRACE_FD"
EVENTS = 64 * 1024
COMMUNICATION = "communication"

# Serial number, start, end, group, sequence, thread, length of the arguments, category, name, arguments as JSON.
_EVENT = struct.Struct("<QqqQqIH16s62s")
_ARGS_AT, _SERIAL_AT = 124, 312
_ARGS_BYTES = _SERIAL_AT - _ARGS_AT
_SERIAL = struct.Struct("<Q")
_decoder = json.JSONDecoder(parse_constant=str)

LAYOUT = Layout("trace", EVENTS, 320)


@dataclass(slots=True)
class Event:
    """Something that took time: `start` and `end` in nanoseconds of the monotonic clock, `thread` as the system counts.

    sequence: number of the collective in its group, -1 for anything else.
    """

    name: str
    category: str
    start: int
    end: int
    thread: int
    group: int
    sequence: int
    args: dict[str, Any]


@dataclass(slots=True)
class Part:
    """What one rank has recorded: events by time, names of its threads, how many older events were overwritten."""

    events: list[Event]
    threads: dict[int, str]
    dropped: int = 0


class Tracer:
    """Writes this process's events; safe in any thread."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring

    def write(
        self, name: str, category: str, start: int, end: int, args: dict[str, Any], group: int = 0, sequence: int = -1
    ) -> None:
        """Record one event of the calling thread."""
        text = _packed(args)
        serial, at = self.ring.claim()
        memory = self.ring.memory
        thread = self.ring.thread()
        _EVENT.pack_into(
            memory, at, serial, start, end, group, sequence, thread, len(text), category.encode(), name.encode()
        )
        memory[at + _ARGS_AT : at + _ARGS_AT + len(text)] = text
        _SERIAL.pack_into(memory, at + _SERIAL_AT, serial)


# None: nothing is traced. Hot paths look at this and do nothing else.
tracer: Tracer | None = None
_nothing: AbstractContextManager[None] = contextlib.nullcontext()


def enabled() -> bool:
    """Say whether a trace is being recorded."""
    return tracer is not None


def span(name: str, category: str = "user_annotation", **args: Any) -> AbstractContextManager[None]:
    """Record the time that a `with` block takes; `args` (numbers, strings, lists) are shown with it."""
    return _nothing if tracer is None else _span(name, category, args)


def record(name: str, start_ns: int, end_ns: int, category: str = "user_annotation", **args: Any) -> None:
    """Record something that the calling thread did between two times of `time.monotonic_ns()`."""
    if tracer is not None:
        tracer.write(name, category, start_ns, end_ns, args)


def collective(done: Record) -> None:
    """Record a collective that is over, in the thread that ran it."""
    if tracer is None:
        return
    shown: dict[str, Any] = {"bytes": done.nbytes, "dtype": done.dtype, "shape": list(done.shape)}
    if done.reduce_op != "none":
        shown["reduce_op"] = done.reduce_op
    if done.root >= 0:
        shown["root"] = done.root
    if done.op == "bucket":
        shown["bucket"] = done.bucket
    elif done.names:
        shown["names"] = done.names
    shown["queued_us"] = (done.started - done.created) // 1000
    if done.error:
        shown["error"] = done.error[:40]
    shown["at"] = f"{os.path.basename(done.file)}:{done.line}"
    tracer.write(f"zmq:{done.op}", COMMUNICATION, done.started, done.ended, shown, done.group, done.sequence)


def start(ring: Ring) -> None:
    """Record from now on; also what `disttorch.core.observe` watches."""
    global tracer
    tracer = Tracer(ring)
    observe.observer = record


def stop() -> None:
    """Record nothing more."""
    global tracer
    tracer = observe.observer = None


def parse(data: bytes) -> Part:
    """Return what a copy of a trace's memory holds, leaving out whatever makes no sense."""
    events, last = [], 0
    for serial, slot in LAYOUT.slots_of(data):
        last = max(last, serial)
        _, begun, ended, group, sequence, thread, length, category, name = _EVENT.unpack_from(slot)
        if not 0 <= begun <= ended or length > _ARGS_BYTES:
            continue
        args = _unpacked(bytes(slot[_ARGS_AT : _ARGS_AT + length]))
        events.append(Event(_text(name), _text(category), begun, ended, thread, group, sequence, args))
    events.sort(key=lambda event: (event.start, -event.end))
    return Part(events, LAYOUT.threads_of(data), max(0, last - EVENTS))


def trace_events(rank: int, part: Part, base: int) -> Iterator[dict[str, Any]]:
    """Yield the objects of the Trace Event Format for one rank: process `rank`, times in µs after `base` (ns)."""
    yield {"ph": "M", "name": "process_name", "pid": rank, "tid": 0, "ts": 0, "args": {"name": f"rank {rank}"}}
    yield {"ph": "M", "name": "process_sort_index", "pid": rank, "tid": 0, "ts": 0, "args": {"sort_index": rank}}
    for thread in sorted({event.thread for event in part.events}):
        name = part.threads.get(thread, f"thread {thread}")
        yield {"ph": "M", "name": "thread_name", "pid": rank, "tid": thread, "ts": 0, "args": {"name": name}}
    if part.dropped and part.events:
        note = f"{part.dropped} earlier events are not in this file: the last {EVENTS} of a rank are kept"
        first = part.events[0]
        yield {"ph": "i", "name": note, "pid": rank, "tid": first.thread, "ts": (first.start - base) / 1000, "s": "p"}
    open_until: dict[int, list[int]] = {}
    for number, event in enumerate(part.events):
        shown = {"name": event.name, "cat": event.category, "pid": rank, "tid": event.thread}
        begun, args = (event.start - base) / 1000, event.args
        if event.sequence >= 0:
            args = {"collective_seq_id": event.sequence, "pg_id": event.group, **args}
        if _nests(event, open_until.setdefault(event.thread, [])):
            yield {"ph": "X", **shown, "ts": begun, "dur": (event.end - event.start) / 1000, "args": args}
        else:
            pair = {**shown, "id": rank << 32 | number}
            yield {"ph": "b", **pair, "ts": begun, "args": args}
            yield {"ph": "e", **pair, "ts": (event.end - base) / 1000}


def _nests(event: Event, ends: list[int]) -> bool:
    """Say whether an event lies within the one around it in its thread; what does not cannot be drawn on one track.

    ends: when the events end that are around, outermost first; brought up to date.
    """
    while ends and ends[-1] <= event.start:
        ends.pop()
    if ends and event.end > ends[-1]:
        return False
    ends.append(event.end)
    return True


def write_file(path: Path, parts: Mapping[int, Part], more: Iterable[dict[str, Any]] = ()) -> None:
    """Write the parts of all ranks, and `more` trace events, as one file that appears when it is complete."""
    base = first_time(parts)
    head = {
        "schemaVersion": 1,
        "displayTimeUnit": "ms",
        "traceName": path.name,
        "baseTimeNanoseconds": base + time.time_ns() - time.monotonic_ns() if base else 0,
        "distributedInfo": {"backend": "zmq", "world_size": len(parts)},
    }
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w") as file:
            file.write(json.dumps(head)[:-1] + ', "traceEvents": [')
            listed = (event for rank in sorted(parts) for event in trace_events(rank, parts[rank], base))
            for index, event in enumerate(chain(listed, more)):
                file.write((",\n" if index else "\n") + json.dumps(event))
            file.write("\n]}\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def first_time(parts: Mapping[int, Part]) -> int:
    """Return when the first event of all began; 0 if there is none."""
    return min((part.events[0].start for part in parts.values() if part.events), default=0)


@contextlib.contextmanager
def _span(name: str, category: str, args: dict[str, Any]) -> Iterator[None]:
    begun = time.monotonic_ns()
    try:
        yield
    finally:
        record(name, begun, time.monotonic_ns(), category, **args)


_text = functools.lru_cache(maxsize=1024)(clean)


def _packed(args: dict[str, Any]) -> bytes:
    """Return arguments as JSON, without the last ones if it is too long."""
    if not args:
        return b""
    text = json.dumps(args, default=str).encode()
    while len(text) > _ARGS_BYTES:
        args = dict(list(args.items())[:-1])
        text = json.dumps({**args, "more": "left out"}, default=str).encode()
    return text


def _unpacked(text: bytes) -> dict[str, Any]:
    """Return the arguments from JSON; nothing for what is not a flat map. JSON has no NaN: it becomes a string."""
    try:
        args = _decoder.decode(text.decode()) if text else {}
    except (ValueError, RecursionError):
        return {}
    return args if isinstance(args, dict) else {}


def _start_as_asked() -> None:
    """Begin if the launcher or the user wants a trace; the variables are for this process, not for its children."""
    path = os.environ.pop(FILE_VARIABLE, "")
    if FD_VARIABLE in os.environ:
        start(Ring.open(LAYOUT, FD_VARIABLE))
    elif path and threading.current_thread() is threading.main_thread():
        start(Ring.open(LAYOUT, FD_VARIABLE))
        rank = os.environ.get("RANK", "0")
        atexit.register(_write_alone, Path(path).absolute(), int(rank) if rank.isdecimal() else 0, os.getpid())


def _write_alone(path: Path, rank: int, pid: int) -> None:
    """Write this process's part; ranks that no launcher has started write files of their own, FILE and FILE.rank1 ..."""
    if tracer is None or os.getpid() != pid:
        return
    if rank:
        path = path.with_name(f"{path.name}.rank{rank}")
    try:
        write_file(path, {rank: parse(tracer.ring.copy())})
    except OSError as error:
        print(f"disttorch: the trace could not be written to {path}: {error.strerror}", file=sys.stderr)


_start_as_asked()
# A forked process has its own count of slots and would write over its parent's.
os.register_at_fork(after_in_child=stop)
