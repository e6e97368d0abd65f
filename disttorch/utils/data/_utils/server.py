"""The process whose forks are workers: it has no threads, so its forks are safe.

The loader's side is `WorkerServer`; `main` is the server itself. A request is a pickle and two descriptors: the
worker's end of its channel, and a pipe on which the server writes the worker's process id and later its exit status.
"""

from __future__ import annotations

import array
import contextlib
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from typing import Any

from disttorch._as_torch import install, installed

_LENGTH = struct.Struct("<Q")
_NUMBER = struct.Struct("<q")
START_SECONDS = 60.0
_START = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    "from disttorch.utils.data._utils.server import main; main(int(sys.argv[1]), sys.argv[2] == 'True')"
)
# Threads of a library that the server imports would make its forks unsafe.
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL", "NUMBA")}


class WorkerServer:
    """A running server. It ends when nothing refers to this object any more, or with this process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        path = [entry for entry in sys.path if isinstance(entry, str)]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), str(installed()), *path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self._socket = ours
        self._owner = os.getpid()
        weakref.finalize(self, _end_server, ours, self._process, self._owner)

    @property
    def alive(self) -> bool:
        """Whether the server runs and belongs to this process."""
        return self._owner == os.getpid() and self._process.poll() is None

    def starter(self, shipment: Any) -> Any:
        """Return a function that starts the worker of a number on its end of a channel."""
        path = [entry for entry in sys.path if isinstance(entry, str)]
        request = pickle.dumps((shipment.ranges, shipment.segment.size, path, os.getcwd()))

        def start(sock: socket.socket, worker_id: int) -> ServedProcess:
            status, status_end = os.pipe()
            try:
                body = _NUMBER.pack(worker_id) + request
                rights = array.array("i", [sock.fileno(), status_end, shipment.segment.fd])
                self._socket.sendmsg([_LENGTH.pack(len(body))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                self._socket.sendall(body)
            except OSError:
                os.close(status)
                raise RuntimeError("the process that starts DataLoader workers has ended") from None
            finally:
                os.close(status_end)
            return ServedProcess(status)

        return start


def _end_server(sock: socket.socket, process: subprocess.Popen[bytes], owner: int) -> None:
    if owner != os.getpid():
        return
    sock.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


_current: weakref.ref[WorkerServer] | None = None


def running_server() -> WorkerServer:
    """Return this process's server, started if need be."""
    global _current
    server = None if _current is None else _current()
    if server is None or not server.alive:
        server = WorkerServer()
        _current = weakref.ref(server)
    return server


class ServedProcess:
    """A worker that the server started, with the interface of `multiprocessing.Process`."""

    def __init__(self, status: int) -> None:
        self.sentinel = status
        self.exitcode: int | None = None
        self._open = True
        try:
            self.pid = self._read(time.monotonic() + START_SECONDS)
        except (EOFError, TimeoutError) as error:
            self.close()
            what = "has ended" if isinstance(error, EOFError) else f"has not answered for {START_SECONDS:g} s"
            raise RuntimeError(f"the process that starts DataLoader workers {what}") from None

    def _read(self, deadline: float) -> int:
        if not select.select([self.sentinel], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        number = os.read(self.sentinel, _NUMBER.size)
        if len(number) < _NUMBER.size:
            raise EOFError
        return int(_NUMBER.unpack(number)[0])

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the process, at most `timeout` seconds."""
        if self.exitcode is not None or not self._open:
            return
        deadline = time.monotonic() + (1e9 if timeout is None else timeout)
        with contextlib.suppress(TimeoutError):
            try:
                self.exitcode = self._read(deadline)
            except EOFError:  # the server is gone, and the kernel has killed its workers
                self.exitcode = -signal.SIGKILL

    def _signal(self, number: int) -> None:
        self.join(0)
        if self.exitcode is None and self._open:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Forget the process."""
        if self._open:
            self._open = False
            os.close(self.sentinel)


# The server's own side ------------------------------------------------------------------------------------------------


def main(control: int, as_torch: bool = False) -> None:
    """Be the server on the socket `control` until the other end closes it; its workers may import disttorch as torch."""
    if as_torch:
        install()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    import threadpoolctl  # noqa: F401  what every worker needs is imported once, here

    from disttorch.utils.data._utils import launch, worker  # noqa: F401

    Server(socket.socket(fileno=control)).serve()


class Server:
    """Forks a worker per request and reports when it ends."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.statuses: dict[int, int] = {}
        self.wakeup, write_end = os.pipe()
        os.set_blocking(write_end, False)
        os.set_blocking(self.wakeup, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Serve until the loader's side is closed; the kernel then kills the workers."""
        while True:
            ready, _, _ = select.select([self.control.fileno(), self.wakeup], [], [])
            if self.wakeup in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wakeup, 4096)
            self.reap()
            if self.control.fileno() in ready and not self.answer():
                return

    def reap(self) -> None:
        """Report the exit status of every worker that has ended."""
        for pid in list(self.statuses):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                report = self.statuses.pop(pid)
                with contextlib.suppress(BrokenPipeError):
                    os.write(report, _NUMBER.pack(os.waitstatus_to_exitcode(status)))
                os.close(report)

    def answer(self) -> bool:
        """Start one worker; False when there are no more requests."""
        room = socket.CMSG_SPACE(3 * 4)
        header, control, _, _ = self.control.recvmsg(_LENGTH.size, room, socket.MSG_WAITALL | socket.MSG_CMSG_CLOEXEC)
        if len(header) < _LENGTH.size:
            return False
        descriptors = array.array("i", control[0][2])
        body = bytearray(_LENGTH.unpack(header)[0])
        view = memoryview(body)
        while view:
            count = self.control.recv_into(view)
            if not count:
                return False
            view = view[count:]
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            self.become_worker(bytes(body), descriptors, parent)
        channel, report, segment = descriptors
        os.close(channel)
        os.close(segment)
        os.write(report, _NUMBER.pack(pid))
        self.statuses[pid] = report
        return True

    def become_worker(self, body: bytes, descriptors: array.array[int], parent: int) -> None:
        """Run a worker in this process, which ends with it."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            channel, report, segment = descriptors
            for fd in (self.control.detach(), self.wakeup, report, *self.statuses.values()):
                os.close(fd)
            _work(channel, segment, body, parent)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _work(channel: int, segment: int, body: bytes, parent: int) -> None:
    from disttorch.utils.data._utils import launch, worker

    (worker_id,) = _NUMBER.unpack_from(body)
    ranges, size, sys.path[:], folder = pickle.loads(body[_NUMBER.size :])
    with contextlib.suppress(OSError):
        os.chdir(folder)
    shipment = launch.Shipment(launch.Segment(segment, size), ranges)
    worker.start(socket.socket(fileno=channel), worker_id, shipment, parent)
