"""Where the workers' output goes: the terminal, with the rank in front of each line, and log files."""

from __future__ import annotations

import contextlib
import os
import re
import select
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from string import Template

from disttorch_run.events import Loop

STDOUT, STDERR = 1, 2
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_LONGEST_LINE = 64 * 1024
_READ_BYTES, _READS = 64 * 1024, 16
# What waits for a reader of the launcher's output at most; then the workers wait, too.
_BACKLOG_BYTES = 1024 * 1024
_WRITE_BYTES = select.PIPE_BUF


@dataclass(frozen=True)
class Logs:
    """What is done with the output of the ranks.

    folder: where files are written (None: a new temporary folder when one is needed); tee,
    redirect: by rank, which streams (STDOUT + STDERR) go to a file and to the terminal, or to the
    file only; shown: the ranks that the terminal shows (None: all); prefix: in front of each line
    on the terminal, with ${role_name}, ${local_rank} and ${rank} ("": `[rank1] `, and nothing for
    rank 0, which writes to the terminal itself); role: the workers' role; filters: by stream,
    texts; lines with one of them are also written to filtered_stdout.log and filtered_stderr.log.
    """

    folder: Path | None = None
    tee: dict[int, int] = field(default_factory=dict)
    redirect: dict[int, int] = field(default_factory=dict)
    shown: frozenset[int] | None = None
    prefix: str = ""
    role: str = "default"
    filters: dict[int, Sequence[str]] = field(default_factory=dict)

    @property
    def writes_files(self) -> bool:
        """Whether any stream goes to a file."""
        return any(self.tee.values()) or any(self.redirect.values()) or any(self.filters.values())

    def create_folder(self, label: str) -> Path:
        """Make and return a folder for one run, of its own: nothing of an earlier run is overwritten."""
        name = re.sub(r"[^\w.-]", "_", label)[:100] + "_"
        try:
            if self.folder is None:
                return Path(tempfile.mkdtemp(prefix=f"disttorch_{name}"))
            self.folder.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=name, dir=self.folder))
        except OSError as error:
            where = self.folder or tempfile.gettempdir()
            raise OSError(f"cannot write logs in {where}: {error.strerror}; choose another --log-dir") from None

    def line_prefix(self, rank: int) -> str:
        """Return what stands in front of a rank's lines on the terminal."""
        if not self.prefix:
            return f"[rank{rank}] " if rank else ""
        return Template(self.prefix).safe_substitute(role_name=self.role, rank=rank, local_rank=rank)


class Outputs:
    """The output streams of the workers of one attempt; its files are in `folder` (None: there are none)."""

    def __init__(self, logs: Logs, folder: Path | None, terminals: Mapping[int, Terminal]) -> None:
        self._logs = logs
        self._terminals = terminals
        self._folder = folder
        self._filtered: dict[int, FileIO] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for which, texts in logs.filters.items():
                if texts:
                    self._filtered[which] = FileIO(folder / f"filtered_{_NAMES[which]}.log", "w")

    def stream(self, rank: int, which: int) -> Stream | int | None:
        """Return how a stream of a worker is read; None: the worker writes to the launcher's own; DEVNULL: nowhere."""
        logs = self._logs
        tee, redirect = (bool(m.get(rank, 0) & which) for m in (logs.tee, logs.redirect))
        shown = (tee or not redirect) and (logs.shown is None or rank in logs.shown)
        prefix = logs.line_prefix(rank)
        if not (tee or redirect or which in self._filtered):
            if not shown:
                return subprocess.DEVNULL
            if not prefix:
                return None
        file = self._file(rank, which) if tee or redirect else None
        filtered = (
            Filter(self._filtered[which], f"[rank{rank}] ", logs.filters[which]) if which in self._filtered else None
        )
        return Stream(prefix, self._terminals[which] if shown else None, file, filtered)

    def _file(self, rank: int, which: int) -> Path:
        assert self._folder is not None
        folder = self._folder / str(rank)
        folder.mkdir(exist_ok=True)
        return folder / f"{_NAMES[which]}.log"

    def close(self) -> None:
        """Close the files that several ranks share."""
        for file in self._filtered.values():
            file.close()
        self._filtered.clear()


class Terminal:
    """The launcher's standard output or error, written without ever waiting for who reads it.

    A pager that nobody scrolls must not keep the launcher from noticing a failure or a Ctrl-C.
    """

    def __init__(self, fd: int, loop: Loop) -> None:
        self._loop = loop
        self._fd = _reopened(fd)
        self._rest = bytearray()
        self._paused: list[Callable[[], None]] = []

    @property
    def pending(self) -> bool:
        """Whether something is still to be written."""
        return bool(self._rest)

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing should be added."""
        return len(self._rest) > _BACKLOG_BYTES

    def write(self, data: bytes) -> None:
        """Write now what can be written, and the rest when somebody reads."""
        self._rest += data
        self._flush()

    def when_room(self, action: Callable[[], None]) -> None:
        """Call `action` once everything has been written."""
        self._paused.append(action)

    def close(self) -> None:
        """Let go of it; what is pending is dropped."""
        self._loop.forget(self._fd)
        os.close(self._fd)

    def _flush(self) -> None:
        try:
            while self._rest and select.select([], [self._fd], [], 0)[1]:
                del self._rest[: os.write(self._fd, self._piece())]
        except BlockingIOError:
            pass
        except OSError:  # nobody reads the launcher's output any more
            self._rest.clear()
        if self._rest:
            self._loop.watch(self._fd, self._flush, writable=True)
            return
        self._loop.forget(self._fd)
        paused, self._paused = self._paused, []
        for action in paused:
            action()

    def _piece(self) -> bytes:
        """Return what to write at once: no more than a pipe takes as a whole, whole lines if possible."""
        end = self._rest.rfind(b"\n", 0, _WRITE_BYTES) + 1
        return bytes(self._rest[: end or _WRITE_BYTES])


def _reopened(fd: int) -> int:
    """Return a descriptor of the same terminal or pipe that does not block; the workers have `fd` itself, which does."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:  # started without standard output
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return os.dup(fd)


class Lines:
    """Cuts what a stream brings into lines and puts `prefix` in front of each."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes; of one that a progress bar has overwritten, its last state."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        return [self._prefix + _last_version(line) + b"\n" for line in lines]

    def end(self) -> list[bytes]:
        """Return the line that was not ended, if there is one."""
        return self.feed(b"\n") if self._rest else []


class Filter:
    """Copies the lines that hold one of `texts` to a file, which several ranks share."""

    def __init__(self, file: FileIO, prefix: str, texts: Sequence[str]) -> None:
        self._file = file
        self._lines = Lines(prefix)
        self._texts = [text.encode() for text in texts]

    def feed(self, data: bytes) -> None:
        """Look at more of the stream."""
        self._write(self._lines.feed(data))

    def end(self) -> None:
        """Look at the line that was not ended."""
        self._write(self._lines.end())

    def _write(self, lines: list[bytes]) -> None:
        found = b"".join(line for line in lines if any(text in line for text in self._texts))
        if found:
            with contextlib.suppress(OSError):  # the whole log complains about a full disk
                _write_all(self._file.fileno(), found)


class Stream:
    """One output stream of one worker, read from a pipe.

    prefix: written before each line; "" passes everything on as it comes, so that progress bars
    work. terminal: where to write, or None; log: file to copy to, or None; filtered: what
    copies some lines, or None.
    """

    def __init__(
        self, prefix: str, terminal: Terminal | None, log: Path | None, filtered: Filter | None = None
    ) -> None:
        self._log = log.open("wb", buffering=0) if log is not None else None
        self.fd, self.inlet = os.pipe()
        os.set_blocking(self.fd, False)
        self._lines = Lines(prefix) if prefix else None
        self._terminal = terminal
        self._filtered = filtered
        self.closed = False

    @property
    def blocked(self) -> bool:
        """Whether to wait until somebody reads what has been passed on."""
        return self._terminal is not None and self._terminal.full

    def when_unblocked(self, action: Callable[[], None]) -> None:
        """Call `action` when it is no longer blocked, unless it has been closed."""
        assert self._terminal is not None
        self._terminal.when_room(lambda: None if self.closed else action())

    def pump(self) -> bool:
        """Pass on what is there, at most 1 MiB of it; False at the end of the stream."""
        for _ in range(_READS):
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._write(data)
        return True

    def close_inlet(self) -> None:
        """Close the writing end, once the worker has it."""
        if self.inlet >= 0:
            os.close(self.inlet)
            self.inlet = -1

    def close(self) -> None:
        """Pass on the rest and close."""
        self.pump()
        if self._lines is not None:
            self._show(b"".join(self._lines.end()))
        if self._filtered is not None:
            self._filtered.end()
        self.close_inlet()
        self.closed = True
        os.close(self.fd)
        if self._log is not None:
            self._log.close()

    def _write(self, data: bytes) -> None:
        if self._log is not None:
            self._copy(self._log, data)
        if self._filtered is not None:
            self._filtered.feed(data)
        self._show(data if self._lines is None else b"".join(self._lines.feed(data)))

    def _copy(self, log: FileIO, data: bytes) -> None:
        """Add to the log; a full disk ends the log, not the training."""
        try:
            _write_all(log.fileno(), data)
        except OSError as error:
            with contextlib.suppress(OSError):
                print(f"disttorch-run: {log.name} ends here: {error.strerror}", file=sys.stderr, flush=True)
            log.close()
            self._log = None

    def _show(self, data: bytes) -> None:
        if self._terminal is not None and data:
            self._terminal.write(data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _last_version(line: bytes) -> bytes:
    """Return what a line that a progress bar has overwritten shows at last."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]
