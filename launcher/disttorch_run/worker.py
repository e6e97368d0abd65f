"""What a worker process runs first: `python -m disttorch_run.worker KIND TARGET ARGS...`.

Ties the process to the launcher, pins it to its cores, then runs the user's script (KIND
`script`), module (`module`) or command (`command`). An exception that nobody catches is told to
the launcher, which prints it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import os
import runpy
import signal
import sys
import traceback
from types import ModuleType

LAUNCHER_VARIABLE = "DISTTORCH_LAUNCHER_PID"
CORES_VARIABLE = "DISTTORCH_CORES"
STACK_VARIABLE = "DISTTORCH_STACK_FD"
# Makes a worker write the Python stacks of its threads, even while it is stuck in C code.
STACK_SIGNAL = signal.SIGRTMIN + 5
INTERRUPTED = 128 + signal.SIGINT
_PR_SET_PDEATHSIG = 1


_process = os.getpid()


def main(kind: str, target: str, *arguments: str) -> None:
    """Be a worker."""
    _tie_to_launcher()
    cores = os.environ.pop(CORES_VARIABLE, "")
    if cores:
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    stacks = int(os.environ.pop(STACK_VARIABLE))
    os.set_inheritable(stacks, False)
    if kind == "command":
        _run_command(target, arguments)
    _register_stacks(stacks)
    sys.argv = [target, *arguments]
    try:
        if kind == "module":
            _run_module(target)
        else:
            _run_script(target)
    except SystemExit as error:
        if error.code not in (None, 0):
            _abandon(f"exited with code {error.code}")
        raise
    except KeyboardInterrupt:
        _abandon("was interrupted")
        _end(INTERRUPTED)
    except BaseException as error:
        _end(_report(error))


def _tie_to_launcher() -> None:
    """Let the kernel kill this process when the launcher dies."""
    launcher = int(os.environ.pop(LAUNCHER_VARIABLE))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != launcher:
        os._exit(1)


def _register_stacks(fd: int) -> None:
    """Prepare for the launcher's request for stacks; the first byte tells it that this worker is prepared."""
    faulthandler.register(STACK_SIGNAL, file=fd, all_threads=True)
    os.write(fd, b"\n")


def _run_command(target: str, arguments: tuple[str, ...]) -> None:
    try:
        os.execvp(target, [target, *arguments])
    except OSError as error:
        print(f"disttorch-run: cannot run {target}: {error.strerror}", file=sys.stderr)
        os._exit(127)


def _run_script(path: str) -> None:
    """Run a file, folder or zip file as `python path` would: as `__main__`, with its folder first on the search path."""
    source = b"\0"
    if not os.path.isdir(path):
        with open(path, "rb") as file:
            source = file.read()
    if b"\0" in source:  # no source text: the import system knows what to do with it
        del sys.path[0]
        runpy.run_path(path, run_name="__main__")
        return
    main_module = ModuleType("__main__")
    main_module.__file__ = path
    main_module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main_module
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    exec(compile(source, path, "exec"), main_module.__dict__)


def _run_module(name: str) -> None:
    sys.path[0] = os.getcwd()
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _report(error: BaseException) -> int:
    """Tell the launcher about an exception and return the exit code."""
    _abandon("raised an exception")  # from here on no other rank's failure is raised
    reason = _in_words(error)

    from disttorch.distributed import agent_link
    from disttorch.distributed.errors import DistError, PeerFailed

    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(error), error, error.__traceback__)
    cause = error.rank if isinstance(error, PeerFailed) else -1
    if os.getpid() != _process:  # a child made by fork, which is no rank
        traceback.print_exception(error)
        return 1
    try:
        agent_link.connect().send(
            "failed",
            reason=_clip(f"raised {reason}", 4000),
            traceback=_clip(_format(error), 40000),
            cause=cause,
        )
    except (OSError, DistError):
        traceback.print_exception(error)
    return 1


def _in_words(error: BaseException) -> str:
    """Return the error as the last line of its traceback; of a SyntaxError that is not the place but what is wrong."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception_only(error)).strip()


def _abandon(reason: str) -> None:
    """Let collectives that are under way fail: this rank is on its way out and nobody will come to them."""
    agent_link = sys.modules.get("disttorch.distributed.agent_link")
    if agent_link is not None:
        agent_link.abandon(reason)


def _format(error: BaseException) -> str:
    """Return the traceback without the frames of this module, of runpy and of `python -m disttorch`."""
    outer = {
        __file__,
        runpy.run_module.__code__.co_filename,
        *getattr(sys.modules.get("disttorch._script"), "FILES", ()),
    }
    inner = error.__traceback__
    while inner is not None and inner.tb_frame.f_code.co_filename in outer:
        inner = inner.tb_next
    return "".join(traceback.format_exception(type(error), error, inner))


def _clip(text: str, limit: int) -> str:
    """Shorten a text to about `limit` bytes in the middle: its beginning and its end say most."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= limit:
        return data.decode()
    half = limit // 2
    return f"{data[:half].decode(errors='ignore')}\n...\n{data[-half:].decode(errors='ignore')}"


def _end(code: int) -> None:
    """Exit without waiting for threads, which may wait for ranks that are gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
