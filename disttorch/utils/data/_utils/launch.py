"""Starting worker processes.

A fork of this process is quick and takes any dataset along, but is safe only while no other thread can hold a lock:
the child would wait for it for ever. Where there are threads, workers are forks of a small server process instead
(`disttorch.utils.data._utils.server`), and the dataset travels to them as a pickle. What the script itself defines is
pickled by value, so the script is not run again in a worker and needs no `if __name__ == "__main__"`.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType
from typing import Any, Protocol

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.utils.data._utils import worker
from disttorch.utils.data._utils.server import WorkerServer
from disttorch.utils.data._utils.slots import ALIGNMENT, create_segment, round_up
from disttorch.utils.data._utils.worker import Job


class Process(Protocol):
    """What the loader needs of a worker process, as `multiprocessing.Process` has it."""

    @property
    def pid(self) -> int | None: ...
    @property
    def sentinel(self) -> int: ...
    @property
    def exitcode(self) -> int | None: ...
    def join(self, timeout: float | None = None) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


Start = Callable[[socket.socket, int], Process]  # starts the worker of a number on the worker's end of a channel


class CannotSendError(RuntimeError):
    """The dataset cannot be sent to worker processes."""


def why_not_fork() -> str:
    """Return what makes a fork of this process unsafe, an empty string if nothing does."""
    others = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    if others or threading.current_thread() is not threading.main_thread():
        return f"the process has other threads ({', '.join(others)})"
    names = {_thread_name(task) for task in Path("/proc/self/task").iterdir()}
    # The threads of BLAS have no name of their own and survive a fork; those of ZeroMQ or CUDA do not.
    names -= {_thread_name(Path("/proc/self/task") / str(os.getpid())), ""}
    return f"libraries run threads in it ({', '.join(sorted(names))})" if names else ""


def _thread_name(task: Path) -> str:
    try:
        return (task / "comm").read_text().strip()
    except OSError:  # the thread has ended in the meantime
        return ""


def choose_start(job: Job, context: Any, use_server: Callable[[], WorkerServer]) -> Start:
    """Return how to start the workers of `job`: by a `multiprocessing` context, a fork, or a server from `use_server`.

    Raises CannotSendError if the job must be pickled and cannot be.
    """
    import threadpoolctl  # noqa: F401  a worker needs it: imported here once, not in each fork

    if context is not None and context.get_start_method() != "fork":
        return _start_by(context, ship(job, f"the start method is {context.get_start_method()!r}"))
    reason = "" if context is not None else why_not_fork()
    if not reason:
        import multiprocessing

        return _start_by(context or multiprocessing.get_context("fork"), lambda: job)
    shipment = ship(job, f"{reason}, so that forking is unsafe (multiprocessing_context='fork' does it anyway)")
    return use_server().starter(shipment)


def _start_by(context: Any, make_job: Callable[[], Job]) -> Start:
    in_main_thread = threading.current_thread() is threading.main_thread()
    # The kernel's signal follows the thread that forks, which must not end before the process does.
    parent = os.getpid() if in_main_thread and context.get_start_method() != "forkserver" else None

    def start(sock: socket.socket, worker_id: int) -> Process:
        process = context.Process(
            target=_run,
            args=(sock, worker_id, make_job, parent),
            daemon=True,
            name=f"DataLoader-{worker_id}",
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return process

    return start


def _run(sock: socket.socket, worker_id: int, make_job: Callable[[], Job], parent: int | None) -> None:
    from disttorch.utils.data._utils.pool import close_inherited

    close_inherited()
    worker.start(sock, worker_id, make_job, parent)


class Shipment:
    """A job as a pickle in a shared segment, which each worker maps for itself, copy on write.

    `ranges` say where in the segment the arrays are and, last, where the pickle is. Calling it makes the job.
    """

    def __init__(self, segment: Segment, ranges: list[tuple[int, int]]) -> None:
        self.segment = segment
        self.ranges = ranges

    def __call__(self) -> Job:
        memory = self.segment.map()
        *buffers, payload = [memory[start:stop] for start, stop in self.ranges]
        return pickle.loads(payload, buffers=buffers)


def ship(job: Job, reason: str) -> Shipment:
    """Return `job` for workers that are no forks; `reason` is why they are not, for the error."""
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    try:
        _job_pickler()(file, protocol=5, buffer_callback=buffers.append).dump(job)
    except Exception as error:
        raise CannotSendError(
            f"the dataset, collate_fn or worker_init_fn cannot be sent to worker processes: {error}. They are pickled "
            f"because {reason}. Open files, locks and the like in worker_init_fn or at first use, or use num_workers=0"
        ) from error
    parts = [*(buffer.raw() for buffer in buffers), file.getbuffer()]
    ranges, size = _lay_out(parts)
    segment = Segment(create_segment("dataset", size), size)
    segment.fill(ranges, parts)
    return Shipment(segment, ranges)


def _job_pickler() -> type[Any]:
    import cloudpickle

    class JobPickler(cloudpickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if type(obj) is Tensor and type(obj._a) is np.ndarray and obj.grad_fn is None and not obj.__dict__:
                return _rebuild, (obj._a, obj._requires_grad)
            if isinstance(obj, CodeType):  # cloudpickle leaves out the file, which tracebacks show
                make, arguments = self.dispatch_table[CodeType](obj)
                return _code_of_file, (obj.co_filename, make, *arguments)
            return super().reducer_override(obj)

    return JobPickler


def _code_of_file(file_name: str, make: Callable[..., CodeType], *arguments: Any) -> CodeType:
    return make(*arguments).replace(co_filename=file_name)


def _rebuild(array: np.ndarray, requires_grad: bool) -> Tensor:
    return wrap(array).requires_grad_(requires_grad)


def _lay_out(parts: Sequence[memoryview]) -> tuple[list[tuple[int, int]], int]:
    ranges, end = [], 0
    for part in parts:
        ranges.append((end, end + part.nbytes))
        end = round_up(end + part.nbytes, ALIGNMENT)
    return ranges, end


class Segment:
    """A descriptor of shared memory, closed with this object, that finds its way through `multiprocessing`."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

    def fill(self, ranges: Sequence[tuple[int, int]], parts: Sequence[memoryview]) -> None:
        """Copy each part to its range."""
        for (start, _), part in zip(ranges, parts):
            done = 0
            while done < part.nbytes:
                done += os.pwrite(self.fd, part[done:], start + done)

    def map(self) -> memoryview:
        """Return the memory; what is written to it stays in this process."""
        return memoryview(mmap.mmap(self.fd, self.size, flags=mmap.MAP_PRIVATE))

    def __getstate__(self) -> Any:
        from multiprocessing.reduction import DupFd

        return DupFd(self.fd), self.size

    def __setstate__(self, state: Any) -> None:
        duplicate, self.size = state
        self.fd = duplicate.detach()

    def __del__(self) -> None:
        os.close(self.fd)
