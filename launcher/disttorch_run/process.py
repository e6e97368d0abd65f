"""One worker process as the agent sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from disttorch.backends import DEVICE_VARIABLE
from disttorch.distributed import flight, trace, wire
from disttorch.distributed.agent_link import FD_VARIABLE, send_descriptor
from disttorch.distributed.errors import ProtocolError
from disttorch_run import worker
from disttorch_run.options import Options
from disttorch_run.output import STDERR, STDOUT, Stream
from disttorch_run.placement import THREAD_VARIABLES


class Worker:
    """A worker: its process, its pidfd, the agent's end of its socket, its output streams.

    Attributes: `attached`, it has joined the process group; `unwinding`, its main thread has
    raised PeerFailed; `code`, its exit code once it has ended, else None; `flight` and `trace`, the descriptors of its
    flight recorder and of its trace (-1: none is recorded).
    """

    def __init__(self, rank: int, traced: bool = False) -> None:
        self.rank = rank
        self.attached = False
        self.unwinding = False
        self.reported = False
        self.code: int | None = None
        self.streams: list[Stream] = []
        self.socket, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self._stacks = os.memfd_create("disttorch-stacks", os.MFD_CLOEXEC)
        self.flight = flight.LAYOUT.create()
        self.trace = trace.LAYOUT.create() if traced else -1
        self.pid = -1
        self.pidfd = -1
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str], environment: dict[str, str], outputs: dict[int, Stream | int | None]) -> None:
        """Start the process; `outputs` maps STDOUT and STDERR to a stream, DEVNULL, or None for the launcher's own."""
        self.streams = [stream for stream in outputs.values() if isinstance(stream, Stream)]
        descriptors = {
            FD_VARIABLE: self._far.fileno(),
            worker.STACK_VARIABLE: self._stacks,
            flight.FD_VARIABLE: self.flight,
            **({trace.FD_VARIABLE: self.trace} if self.trace >= 0 else {}),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "disttorch_run.worker", *command],
            env={**environment, **{name: str(fd) for name, fd in descriptors.items()}},
            stdin=None if self.rank == 0 else subprocess.DEVNULL,
            stdout=_inlet(outputs[STDOUT]),
            stderr=_inlet(outputs[STDERR]),
            pass_fds=tuple(descriptors.values()),
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self._far.close()
        for stream in self.streams:
            stream.close_inlet()

    def send(self, kind: str, fd: int = -1, **fields: Any) -> None:
        """Send a control message; nothing happens when the worker does not listen any more."""
        with contextlib.suppress(OSError):
            send_descriptor(self.socket, wire.encode(kind, **fields), fd)

    def receive(self) -> dict[str, Any] | None:
        """Return the next message, or None if there is none; ProtocolError for a malformed one, EOFError at the end."""
        try:
            data, _, flags, _ = self.socket.recvmsg(wire.MAX_MESSAGE + 1)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            raise EOFError from None
        if not data:
            raise EOFError
        if flags & socket.MSG_TRUNC:
            raise ProtocolError("a message is too long")
        return wire.decode(data)

    def reap(self) -> int:
        """Collect the exit code of the process, which has ended: 128 + signal if a signal ended it."""
        assert self._process is not None
        code = self._process.wait()
        self.code = code if code >= 0 else 128 - code
        os.close(self.pidfd)
        return code

    def signal(self, number: int) -> None:
        """Send a signal to the worker itself."""
        if self.code is None and self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """Kill the worker and all processes that it has started."""
        if self.pid > 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def ask_for_stacks(self) -> bool:
        """Make the worker write its stacks; False if it is not prepared to."""
        if self.code is not None or os.fstat(self._stacks).st_size == 0:
            return False
        os.ftruncate(self._stacks, 0)
        os.lseek(self._stacks, 0, os.SEEK_SET)
        self.signal(worker.STACK_SIGNAL)
        return True

    def stacks(self) -> str:
        """Return the stacks that the worker has written, or "" if it has not."""
        return os.pread(self._stacks, 1 << 20, 0).decode(errors="replace").strip()

    def state(self) -> str:
        """Say what the process is doing: running, sleeping, stopped, ended."""
        if self.code is not None:
            return f"ended with exit code {self.code}"
        return state_of(self.pid)

    def close(self) -> None:
        """Close everything but the process."""
        for stream in self.streams:
            stream.close()
        self.streams = []
        self.socket.close()
        self._far.close()
        for fd in (self._stacks, self.flight, self.trace):
            if fd >= 0:
                os.close(fd)


def state_of(pid: int) -> str:
    """Say what a process is doing: running, sleeping, stopped, ended, gone."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"
    return {"R": "running", "T": "stopped", "t": "stopped by a debugger", "Z": "ended"}.get(letter, "sleeping")


def environment_for(options: Options, rank: int, port: int, restarts: int) -> dict[str, str]:
    """Return a worker's environment: torchrun's variables, thread counts unless the user has set them, its GPU."""
    place, size = options.placements[rank], str(len(options.placements))
    environment = {**dict.fromkeys(THREAD_VARIABLES, str(place.threads)), **options.environment}
    environment |= {
        "RANK": str(rank),
        "LOCAL_RANK": "0" if options.virtual_local_rank else str(rank),
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_NAME": options.role,
        "ROLE_RANK": str(rank),
        "ROLE_WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": options.label,
        "TORCHELASTIC_RESTART_COUNT": str(restarts),
        "TORCHELASTIC_MAX_RESTARTS": str(options.max_restarts),
        worker.LAUNCHER_VARIABLE: str(os.getpid()),
    }
    if place.cores:
        environment[worker.CORES_VARIABLE] = ",".join(map(str, place.cores))
    if place.gpu is not None and options.virtual_local_rank:
        environment["CUDA_VISIBLE_DEVICES"] = place.gpu
    elif place.gpu is not None:
        environment[DEVICE_VARIABLE] = str(rank)  # all are visible, as with torchrun: scripts choose by LOCAL_RANK
    return environment


def _inlet(stream: Stream | int | None) -> int | None:
    return stream.inlet if isinstance(stream, Stream) else stream
