"""Starting the ranks of a group from a script, as `torch.multiprocessing.spawn` does."""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

ENV_VAR_PARALLEL_START = "TORCH_MP_PARALLEL_START"
_TERM_SECONDS = 30.0
# How long the rank that failed first may take to end, when one that failed because of it has ended already.
_CULPRIT_SECONDS = 2.0
_LONGEST_TRACEBACK = 12_000  # characters: the report fits into a pipe
_PR_SET_PDEATHSIG = 1
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# What a launcher has told this process about its own place, which is not its children's.
_PLACE_VARIABLES = ("DISTTORCH_AGENT_FD",)


class ProcessException(Exception):  # noqa: N818 - PyTorch's name
    """A process of `spawn` failed. Attributes: `msg`, `error_index` (its number), `error_pid`."""

    def __init__(self, msg: str, error_index: int, error_pid: int) -> None:
        super().__init__(msg)
        self.msg = msg
        self.error_index = error_index
        self.error_pid = error_pid

    def __reduce__(self) -> Any:
        return type(self), (self.msg, self.error_index, self.error_pid)


class ProcessRaisedException(ProcessException):
    """A process raised an exception; its traceback is in the message."""


class ProcessExitedException(ProcessException):
    """A process exited with a code other than 0 (`exit_code`) or by a signal (`signal_name`)."""

    def __init__(
        self, msg: str, error_index: int, error_pid: int, exit_code: int, signal_name: str | None = None
    ) -> None:
        super().__init__(msg, error_index, error_pid)
        self.exit_code = exit_code
        self.signal_name = signal_name

    def __reduce__(self) -> Any:
        return type(self), (self.msg, self.error_index, self.error_pid, self.exit_code, self.signal_name)


class ProcessContext:
    """The processes of `spawn`, in `processes`."""

    def __init__(self, processes: Sequence[Any], reports: Sequence[Any]) -> None:
        self.processes = list(processes)
        self._reports = list(reports)
        self._told: dict[int, dict[str, Any]] = {}
        self.sentinels = {process.sentinel: index for index, process in enumerate(processes)}

    def pids(self) -> list[int]:
        """Return the processes' numbers."""
        return [process.pid for process in self.processes]

    def join(self, timeout: float | None = None, grace_period: float | None = None) -> bool:
        """Wait until a process ends, at most `timeout` seconds, and say whether all have ended.

        When one has failed the others are ended: they get `grace_period` seconds to end by themselves, then SIGTERM, and
        SIGKILL after as long again (default: no time, then 30 s). Then ProcessRaisedException, with the traceback, or
        ProcessExitedException tells about the one that failed first.
        """
        if not self.sentinels:
            return True
        failed = None
        for sentinel in multiprocessing.connection.wait(list(self.sentinels), timeout):
            index = self.sentinels.pop(sentinel)
            self.processes[index].join()
            if self.processes[index].exitcode != 0:
                failed = index
                break
        if failed is None:
            return not self.sentinels
        culprit = self._first_failure(failed)
        self._end_all(grace_period)
        self._raise(culprit)
        return False

    def _first_failure(self, index: int) -> int:
        """Return the process that failed first: not one that failed because another rank had."""
        until = time.monotonic() + _CULPRIT_SECONDS
        while self._report(index).get("because", False) and time.monotonic() < until:
            for other, process in enumerate(self.processes):
                if process.exitcode not in (0, None) and not self._report(other).get("because", False):
                    return other
            time.sleep(0.01)
        return index

    def _report(self, index: int) -> dict[str, Any]:
        """Return what a process that has ended has said about its end; {} if nothing."""
        if index not in self._told:
            with contextlib.suppress(EOFError, OSError):
                if self._reports[index].poll():  # what it has started may hold the other end open
                    self._told[index] = json.loads(self._reports[index].recv_bytes())
        return self._told.setdefault(index, {})

    def _end_all(self, grace: float | None) -> None:
        if grace is not None:
            self._wait_for_all(grace)
        for process in self.processes:
            if process.is_alive():
                process.terminate()
        self._wait_for_all(_TERM_SECONDS if grace is None else grace)
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()
        self.sentinels.clear()

    def _wait_for_all(self, limit: float) -> None:
        deadline = time.monotonic() + limit
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))

    def _raise(self, index: int) -> None:
        process = self.processes[index]
        trace = self._report(index).get("traceback")
        if trace is not None:
            text = f"\n\n-- Process {index} terminated with the following error:\n{trace}"
            raise ProcessRaisedException(text, index, process.pid)
        code = process.exitcode
        if code >= 0:
            text = f"process {index} terminated with exit code {code}"
            raise ProcessExitedException(text, index, process.pid, code)
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"<Unknown signal {-code}>"
        text = f"process {index} terminated with signal {name}"
        raise ProcessExitedException(text, index, process.pid, code, name)


class SpawnContext(ProcessContext):
    """The former name of ProcessContext."""

    def __init__(self, processes: Sequence[Any], reports: Sequence[Any]) -> None:
        warnings.warn("SpawnContext is renamed to ProcessContext since 1.4 release.", stacklevel=2)
        super().__init__(processes, reports)


def spawn(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """Run `fn(i, *args)` in `nprocs` new processes, i = 0, 1, ...; the usual way to start ranks from a script.

    In them `init_process_group("gloo", rank=i, world_size=nprocs)` connects the ranks, with MASTER_ADDR and MASTER_PORT
    set. fn: at the top level of a module. join: whether to wait; if not, a ProcessContext is returned. daemon: whether
    the processes end with this one. When one fails the others are ended, and ProcessRaisedException or
    ProcessExitedException tells about it.
    """
    if start_method != "spawn":
        warnings.warn(
            f"This method only supports start_method=spawn (got: {start_method}).\n"
            "To use a different start_method use:\n\t\t torch.multiprocessing.start_processes(...)",
            FutureWarning,
            stacklevel=2,
        )
    return start_processes(fn, args, nprocs, join, daemon, "spawn")


def start_processes(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """As `spawn`, with any start method of `multiprocessing`: "spawn", "fork" or "forkserver"."""
    context: Any = multiprocessing.get_context(start_method)
    processes, reports = [], []
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, nprocs))
    with _environment(threads):
        for index in range(nprocs):
            report, told = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(fn, index, args, told, threads), daemon=daemon)
            process.start()
            told.close()
            processes.append(process)
            reports.append(report)
    running = ProcessContext(processes, reports)
    if not join:
        return running
    while not running.join():
        pass
    return None


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Have the processes that are started meanwhile share the cores, unless the user has said how many threads to use."""
    added = {name: str(threads) for name in _THREAD_VARIABLES if name not in os.environ}
    kept = {name: os.environ.pop(name) for name in _PLACE_VARIABLES if name in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        os.environ.update(kept)


def _run(fn: Callable[..., Any], index: int, args: tuple[Any, ...], told: Any, threads: int) -> None:
    """Be one of the processes."""
    _end_with_parent()
    if multiprocessing.get_start_method(allow_none=True) == "fork":
        import disttorch

        disttorch.set_num_threads(threads)
    try:
        fn(index, *args)
    except KeyboardInterrupt:
        pass
    except Exception as error:
        _tell(error, told)
        sys.exit(1)


def _end_with_parent() -> None:
    """Let the kernel end this process when the one that started it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)


def _tell(error: Exception, told: Any) -> None:
    """Tell the process that started this one, and the other ranks, what went wrong."""
    from disttorch.distributed import meeting
    from disttorch.distributed.errors import PeerFailed

    text = traceback.format_exc()
    if len(text) > _LONGEST_TRACEBACK:
        text = f"{text[: _LONGEST_TRACEBACK // 2]}\n...\n{text[-_LONGEST_TRACEBACK // 2 :]}"
    meeting.leave(error)
    report = {"traceback": text, "because": isinstance(error, PeerFailed)}
    told.send_bytes(json.dumps(report, ensure_ascii=False).encode(errors="replace"))
