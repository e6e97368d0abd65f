"""The flight recorder: what each rank's last 256 collectives were, when they began and ended, and how.

A rank writes into memory that its agent can read at any time, even when the rank was killed or is
stuck (`ring`). Writing costs one to two microseconds per collective; text is made by the reader.

    recorder = flight.recorder()
    slot = recorder.begin(call, sequence, group)   # asked for
    recorder.start(slot)                           # under way
    recorder.end(slot, error)                      # over; error: what it raised, or None
"""

from __future__ import annotations

import functools
import os
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from disttorch.distributed import trace
from disttorch.distributed.call import Call
from disttorch.distributed.ring import Layout, Ring, clean

FD_VARIABLE = "DISTTORCH_FLIGHT_FD"
RECORDS = 256
QUEUED, RUNNING, DONE, FAILED = 1, 2, 3, 4
# torch's flight recorder has the first three.
STATES = {QUEUED: "scheduled", RUNNING: "started", DONE: "completed", FAILED: "failed"}
POINT_TO_POINT = frozenset(("send", "recv"))
VERSION = "2.10"  # of the format of torch's flight recorder

_KNOWN_CALLS = 1024
_DIMENSIONS, _WAITING = 8, 6

# A slot: serial number, what changes from call to call, what a call looks like, the error, the serial number again.
_BEGIN = struct.Struct("<QqQqqqB")
_STARTED_AT, _ENDED_AT, _STATE_AT, _WAITING_AT, _LOOK_AT, _ERROR_AT = 32, 40, 48, 49, 64, 384
_WAITING_FOR = struct.Struct("<B6H")
_TIME = struct.Struct("<q")
_LOOK = struct.Struct("<24s12s12siIqIB3x8q120s64s")
_ERROR = struct.Struct("<120s")
_SERIAL_AT = 504
_SERIAL = struct.Struct("<Q")
# A group: one more than its number, how many ranks it has, how many of them are listed, name, ranks.
_GROUP = struct.Struct("<QHH52s")
_GROUPS, _GROUP_BYTES, _GROUP_RANKS = 64, 256, 96

LAYOUT = Layout("flight", RECORDS, 512, _GROUPS * _GROUP_BYTES)
_GROUPS_AT = LAYOUT.first - _GROUPS * _GROUP_BYTES


@dataclass(slots=True)
class Record:
    """One collective of one rank.

    sequence: its number in the group; group: a number, the same on all ranks; times: nanoseconds of the monotonic
    clock, 0 when that has not happened; state: QUEUED, RUNNING, DONE or FAILED; waiting: the ranks that it waited for
    when it last looked; nbytes: what this rank gives; the others as in `Call`.
    """

    serial: int
    sequence: int
    group: int
    created: int
    started: int
    ended: int
    state: int
    waiting: tuple[int, ...]
    op: str
    dtype: str
    reduce_op: str
    root: int
    bucket: int
    nbytes: int
    shape: tuple[int, ...]
    file: str
    line: int
    names: str
    error: str

    @property
    def is_p2p(self) -> bool:
        """Whether it is a message between two ranks, numbered among those of the two, rather than a collective."""
        return self.op in POINT_TO_POINT

    def describe(self) -> str:
        """Say what it is and where it was called: `all_reduce(float32[1024], SUM) at train.py:31`."""
        parts = [f"{self.dtype}{list(self.shape)}"] if self.dtype not in ("none", "") else []
        if self.reduce_op not in ("none", ""):
            parts.append(self.reduce_op)
        if self.root >= 0:
            parts.append(f"root {self.root}")
        if self.names:
            parts.append(f"gradients of {self.names}" if self.op == "bucket" else self.names)
        return f"{self.op}({', '.join(parts)}) at {self.file}:{self.line}"

    def as_dict(self, group: Group | None = None, clock: int = 0) -> dict[str, Any]:
        """Return it with the names of torch's flight recorder; `clock` is added to times."""
        p2p = self.is_p2p
        name = "default_pg" if group is None else group.name
        return {
            "record_id": self.serial - 1,
            "pg_id": self.group,
            "process_group": (str(self.group), name),
            "collective_seq_id": 0 if p2p else self.sequence,
            "p2p_seq_id": self.sequence if p2p else 0,
            "op_id": self.sequence,
            "profiling_name": f"zmq:{self.op}",
            "time_created_ns": self.created + clock,
            "time_discovered_started_ns": self.started + clock if self.started else None,
            "time_discovered_completed_ns": self.ended + clock if self.ended else None,
            "duration_ms": (self.ended - self.started) / 1e6 if self.ended and self.started else None,
            "state": STATES[self.state],
            "retired": self.state in (DONE, FAILED),
            "is_p2p": p2p,
            "input_sizes": [list(self.shape)],
            "input_dtypes": [self.dtype],
            "output_sizes": [list(self.shape)],
            "output_dtypes": [self.dtype],
            "frames": [{"name": "", "filename": self.file, "line": self.line}],
            "reduce_op": self.reduce_op,
            "root": self.root,
            "bucket": self.bucket,
            "nbytes": self.nbytes,
            "names": self.names,
            "waiting_for": list(self.waiting),
            "error": self.error,
        }


@dataclass(slots=True)
class Group:
    """A process group: its name and its ranks as numbers of the run, as far as they are known."""

    name: str
    ranks: tuple[int, ...] = ()


@dataclass(slots=True)
class Recording:
    """What one rank's recorder holds: the records, oldest first, and the groups by their numbers."""

    records: list[Record] = field(default_factory=list)
    groups: Mapping[int, Group] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as torch's flight recorder is dumped: `version`, `pg_config`, `entries`. Times are those of day."""
        clock = time.time_ns() - time.monotonic_ns()
        return {
            "version": VERSION,
            "pg_config": {
                str(number): {"name": str(number), "desc": group.name, "ranks": str(list(group.ranks))}
                for number, group in self.groups.items()
            },
            "entries": [record.as_dict(self.groups.get(record.group), clock) for record in self.records],
        }


class Recorder:
    """Writes this rank's records; safe in any thread. What `begin` returns is for `start`, `waiting` and `end`."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._memory = ring.memory
        self._serials = [0] * RECORDS
        self._groups = 0
        self._looks: dict[tuple[Any, ...], bytes] = {}

    def add_group(self, number: int, name: str, ranks: Sequence[int]) -> None:
        """Note a process group: its number as given to `begin`, its name, its ranks as numbers of the run."""
        listed = tuple(ranks)[:_GROUP_RANKS]
        entry = 0
        if number:  # the group of all ranks keeps the first entry, the latest of the others have the rest
            entry = 1 + self._groups % (_GROUPS - 1)
            self._groups += 1
        at = _GROUPS_AT + entry * _GROUP_BYTES
        _GROUP.pack_into(self._memory, at, number + 1, len(ranks), len(listed), name.encode())
        struct.pack_into(f"<{len(listed)}H", self._memory, at + _GROUP.size, *listed)

    def begin(self, call: Call, sequence: int, group: int = 0) -> int:
        """Note that a collective was asked for, number `sequence` of a group; its number must be the same on all ranks."""
        names = call.names
        key = (
            call.op, call.dtype, call.shape, call.reduce_op, call.root, call.site, call.bucket, call.length,
            names[0] if names else "",
        )  # fmt: skip
        look = self._looks.get(key)
        if look is None:
            look = self._new_look(key, call)
        serial, at = self._ring.claim()
        memory = self._memory
        self._serials[serial % RECORDS] = serial
        _BEGIN.pack_into(memory, at, serial, sequence, group, time.monotonic_ns(), 0, 0, QUEUED)
        memory[at + _WAITING_AT] = 0
        memory[at + _LOOK_AT : at + _ERROR_AT] = look
        _SERIAL.pack_into(memory, at + _SERIAL_AT, serial)
        return serial

    def start(self, slot: int) -> None:
        """Note that a collective is under way."""
        if self._serials[slot % RECORDS] == slot:
            at = LAYOUT.first + slot % RECORDS * LAYOUT.slot_bytes
            _TIME.pack_into(self._memory, at + _STARTED_AT, time.monotonic_ns())
            self._memory[at + _STATE_AT] = RUNNING

    def waiting(self, slot: int, ranks: Sequence[int]) -> None:
        """Note which ranks (numbers of the run) a collective waits for; an empty list: for none."""
        if self._serials[slot % RECORDS] == slot:
            at = LAYOUT.first + slot % RECORDS * LAYOUT.slot_bytes
            first = [*ranks[:_WAITING], *[0] * (_WAITING - len(ranks))]
            _WAITING_FOR.pack_into(self._memory, at + _WAITING_AT, min(len(ranks), _WAITING), *first)

    def end(self, slot: int, error: BaseException | None = None) -> None:
        """Note that a collective is over, and what it raised."""
        if self._serials[slot % RECORDS] != slot:
            return
        at = LAYOUT.first + slot % RECORDS * LAYOUT.slot_bytes
        if error is not None:
            text = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(":")
            _ERROR.pack_into(self._memory, at + _ERROR_AT, text.encode(errors="replace"))
        _TIME.pack_into(self._memory, at + _ENDED_AT, time.monotonic_ns())
        self._memory[at + _STATE_AT] = DONE if error is None else FAILED
        if trace.tracer is not None:
            self._trace(slot, at)

    def recording(self) -> Recording:
        """Return what has been recorded."""
        return parse(self._ring.copy())

    def _trace(self, serial: int, at: int) -> None:
        record = _record(serial, self._memory[at : at + LAYOUT.slot_bytes])
        if record is not None and record.started:
            trace.collective(record)

    def _new_look(self, key: tuple[Any, ...], call: Call) -> bytes:
        """Return the part of a record that all calls alike share, and keep it for the next one."""
        if len(self._looks) >= _KNOWN_CALLS:
            self._looks.clear()
        shape = call.shape[:_DIMENSIONS]
        file, line = call.site
        look = self._looks[key] = _LOOK.pack(
            call.op.encode(),
            call.dtype.encode(),
            call.reduce_op.encode(),
            call.root,
            call.bucket & 0xFFFFFFFF,
            call.length,
            line,
            len(shape),
            *shape,
            *[0] * (_DIMENSIONS - len(shape)),
            _tail(file, 120),
            ", ".join([*call.names[:2], *["..."] * (len(call.names) > 2)]).encode(errors="replace"),
        )
        return look


_recorder: Recorder | None = None


def recorder() -> Recorder:
    """Return this process's recorder; a forked process has one of its own, which no agent sees."""
    global _recorder
    if _recorder is None:
        _recorder = Recorder(Ring.open(LAYOUT, FD_VARIABLE))
    return _recorder


def _forget() -> None:
    global _recorder
    _recorder = None


os.register_at_fork(after_in_child=_forget)


def flight_records() -> list[dict[str, Any]]:
    """Return this rank's last 256 collectives, oldest first, with the names of torch's flight recorder.

    Among them: `profiling_name` ("zmq:all_reduce"), `collective_seq_id`, `process_group` (number, name), `state`
    ("scheduled", "started", "completed" or "failed"), `time_created_ns` and `time_discovered_started_ns` (since 1970),
    `duration_ms`, `input_sizes`, `input_dtypes`, `nbytes`, `frames` (where it was called), `error`.
    """
    return recorder().recording().as_dict()["entries"]


def parse(data: bytes) -> Recording:
    """Return what a copy of a recorder's memory holds, leaving out whatever makes no sense."""
    found = [_record(serial, slot) for serial, slot in LAYOUT.slots_of(data)]
    return Recording([record for record in found if record is not None], _groups(data))


def _tail(path: str, limit: int) -> bytes:
    """Return the end of a path, which says most."""
    data = path.encode(errors="replace")
    return data if len(data) <= limit else b"..." + data[3 - limit :]


def _record(serial: int, slot: bytes | memoryview) -> Record | None:
    """Parse a slot; None if what it holds cannot be a record."""
    _, sequence, group, created, started, ended, state = _BEGIN.unpack_from(slot)
    op, dtype, reduce_op, root, bucket, nbytes, line, dimensions, *rest = _LOOK.unpack_from(slot, _LOOK_AT)
    count, *ranks = _WAITING_FOR.unpack_from(slot, _WAITING_AT)
    sizes, (file, names) = rest[:_DIMENSIONS], rest[_DIMENSIONS:]
    numbers = (sequence, created, started, ended, nbytes, *sizes)
    if state not in STATES or dimensions > _DIMENSIONS or count > _WAITING or min(numbers) < 0:
        return None
    return Record(
        serial,
        sequence,
        group,
        created,
        started,
        ended,
        state,
        tuple(ranks[:count]) if state == RUNNING else (),
        _text(op),
        _text(dtype),
        _text(reduce_op),
        root,
        bucket,
        nbytes,
        tuple(sizes[:dimensions]),
        _text(file),
        line,
        _text(names),
        _text(_ERROR.unpack_from(slot, _ERROR_AT)[0]) if state == FAILED else "",
    )


def _groups(data: bytes) -> dict[int, Group]:
    groups: dict[int, Group] = {}
    if len(data) != LAYOUT.total:
        return groups
    for at in range(_GROUPS_AT, LAYOUT.first, _GROUP_BYTES):
        number, size, listed, name = _GROUP.unpack_from(data, at)
        if number and listed <= min(size, _GROUP_RANKS):
            ranks = struct.unpack_from(f"<{listed}H", data, at + _GROUP.size)
            groups[number - 1] = Group(_text(name), ranks if listed == size else ())
    return groups


_text = functools.lru_cache(maxsize=1024)(clean)
