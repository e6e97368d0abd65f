"""The `disttorch-run` command: from the command line to a run of the agent."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from disttorch_run.arguments import USAGE, UsageError, read
from disttorch_run.options import Options, say
from disttorch_run.output import STDERR, STDOUT, Logs
from disttorch_run.placement import PlacementError, capacity, plan

_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
_ONE_HOST = "several hosts are not supported yet"
_GRACE_VARIABLE = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
_PREFIX_VARIABLE = "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"
_GRACE_SECONDS = 30.0
# Longer than any run, and short enough for every clock that is asked to wait for it.
_MOST_SECONDS = 1e9


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 0, the failed worker's, 128 + signal, or 2 for wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["doctor"]:
            from disttorch_run import doctor

            return doctor.main(words[1:])
        options = options_from(words)
        from disttorch_run.agent import Agent

        return Agent(options).run()
    except (UsageError, PlacementError, OSError) as error:
        say(f"disttorch-run: {error}")
        return 2


def options_from(arguments: Sequence[str]) -> Options:
    """Return what a command line asks for; UsageError or PlacementError says in one sentence why it cannot be."""
    asked = read(arguments)
    _check_hosts(asked)
    _check_accepted(asked)
    command = _command(asked)
    placements = plan(
        asked.nproc_per_node,
        asked.oversubscribe,
        asked.numa_binding,
        pin=not asked.no_pin,
        own_gpus=asked.virtual_local_rank,
    )
    return Options(
        command=command,
        placements=placements,
        port=_port(asked),
        label=str(uuid.uuid4()) if asked.standalone or asked.rdzv_id in ("", "none") else asked.rdzv_id,
        role=asked.role,
        max_restarts=_restarts(asked),
        grace=_grace(asked),
        timeout=_timeout(asked),
        oversubscribed=len(placements) > capacity(),
        virtual_local_rank=asked.virtual_local_rank,
        signals=_signals(asked.signals_to_handle),
        logs=_logs(asked, len(placements)),
        status=_status(asked),
        status_seconds=asked.status_interval,
        dashboard=asked.dashboard,
        trace=_trace(asked),
    )


def _trace(asked: argparse.Namespace) -> Path | None:
    """Return the file for the trace; the variable is for this process, not for the workers."""
    file = os.environ.pop("DISTTORCH_TRACE", "")
    return Path(asked.trace or file) if asked.trace or file else None


def _check_hosts(asked: argparse.Namespace) -> None:
    """Refuse what needs a second host."""
    least, _, most = asked.nnodes.partition(":")
    if not least.isdecimal() or not (most or least).isdecimal() or not 1 <= int(least) <= int(most or least):
        raise UsageError(f"--nnodes {asked.nnodes}: expected a number from 1, or a range such as 1:1")
    if int(most or least) > 1:
        raise UsageError(f"--nnodes {asked.nnodes}: {_ONE_HOST}, use --nnodes 1")
    if asked.node_rank != 0:
        raise UsageError(f"--node-rank {asked.node_rank}: {_ONE_HOST}, use --node-rank 0")
    endpoint = "" if asked.standalone else asked.rdzv_endpoint
    host = endpoint.rpartition(":")[0] or endpoint
    for name in (host, asked.master_addr, asked.local_addr):
        if name and not _is_this_host(name):
            raise UsageError(f"host {name}: {_ONE_HOST}, use localhost")


def _is_this_host(name: str) -> bool:
    """Say whether a name or address belongs to this machine."""
    if name in _LOOPBACK or name == socket.gethostname():
        return True
    try:
        family, kind, _, _, address = socket.getaddrinfo(name.strip("[]"), 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except (OSError, UnicodeError):
        return False
    return True


def _check_accepted(asked: argparse.Namespace) -> None:
    """Refuse what torchrun has and this launcher has not; check what has no effect on one host."""
    if asked.event_log_handler != "null":
        raise UsageError(
            f"--event-log-handler {asked.event_log_handler}: PyTorch's plug-ins are not supported, use null"
        )
    if asked.logs_specs:
        raise UsageError(f"--logs-specs {asked.logs_specs}: PyTorch's plug-ins are not supported, leave it out")
    if asked.rdzv_backend not in ("static", "c10d"):
        raise UsageError(f"--rdzv-backend {asked.rdzv_backend}: expected static or c10d")
    if asked.run_path and asked.start_method != "spawn":
        raise UsageError(f"--start-method {asked.start_method}: workers are new processes, use spawn")
    if not 0 < asked.monitor_interval < math.inf:
        raise UsageError(f"--monitor-interval {asked.monitor_interval:g}: expected a positive number of seconds")
    for pair in filter(None, asked.rdzv_conf.split(",")):
        key, _, value = pair.partition("=")
        if not key.strip() or not value.strip():
            raise UsageError(f"--rdzv-conf {asked.rdzv_conf}: expected key=value,key=value")


def _port(asked: argparse.Namespace) -> int:
    if asked.standalone:
        return 0
    text = asked.rdzv_endpoint.rpartition(":")[2] if ":" in asked.rdzv_endpoint else str(asked.master_port)
    if not text.isdecimal() or int(text) > 65535:
        raise UsageError(f"port {text}: expected a number from 0 (any free port) to 65535")
    return int(text)


def _command(asked: argparse.Namespace) -> list[str]:
    """Return what `disttorch_run.worker` runs: its kind, the target, the arguments."""
    target = asked.script
    if target is None:
        raise UsageError(f"no script given; usage: {USAGE}")
    if asked.module and asked.no_python and not asked.run_path:
        raise UsageError("-m and --no-python exclude each other")
    if asked.run_path or not (asked.module or asked.no_python):
        _check_script(Path(target))
        return ["script", target, *asked.arguments]
    if asked.no_python and shutil.which(target) is None:
        raise UsageError(f"--no-python: there is no command {target}")
    return ["module" if asked.module else "command", target, *asked.arguments]


def _check_script(path: Path) -> None:
    if not path.exists():
        raise UsageError(f"there is no script {path}")
    if path.is_dir():
        if not (path / "__main__.py").is_file():
            raise UsageError(f"{path} is a folder without __main__.py; name a script")
    elif not path.is_file():
        raise UsageError(f"{path} is not a file; name a script")
    if not os.access(path, os.R_OK):
        raise UsageError(f"no permission to read {path}")


def _restarts(asked: argparse.Namespace) -> int:
    if asked.max_restarts < 0:
        raise UsageError(f"--max-restarts {asked.max_restarts}: expected a number from 0")
    return int(asked.max_restarts)


def _grace(asked: argparse.Namespace) -> float:
    option, text = "--grace", "" if asked.grace is None else f"{asked.grace:g}"
    if not text:
        option, text = _GRACE_VARIABLE, os.environ.get(_GRACE_VARIABLE) or str(_GRACE_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _MOST_SECONDS:
        raise UsageError(f"{option} {text}: expected a number of seconds from 0")
    return seconds


def _timeout(asked: argparse.Namespace) -> float:
    if not 0 < asked.timeout <= _MOST_SECONDS:
        raise UsageError(f"--timeout {asked.timeout:g}: expected a positive number of seconds")
    return float(asked.timeout)


def _signals(text: str) -> tuple[signal.Signals, ...]:
    numbers = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        number = getattr(signal.Signals, name, None)
        if number is None or number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
            raise UsageError(f"--signals-to-handle {name}: expected names of signals such as SIGTERM,SIGUSR1")
        numbers.append(number)
    return tuple(dict.fromkeys(numbers))


def _status(asked: argparse.Namespace) -> bool | None:
    if asked.status and asked.no_status:
        raise UsageError("--status and --no-status exclude each other")
    if not 0 < asked.status_interval < math.inf:
        raise UsageError(f"--status-interval {asked.status_interval:g}: expected a positive number of seconds")
    if asked.dashboard is not None and not 0 <= asked.dashboard <= 65535:
        raise UsageError(f"--dashboard {asked.dashboard}: expected a port from 0 (any free port) to 65535")
    return True if asked.status else False if asked.no_status else None


def _logs(asked: argparse.Namespace, size: int) -> Logs:
    """Return where the output goes; with --log-dir alone everything goes to files and to the terminal."""
    tee = asked.tee or ("3" if asked.log_dir and not asked.redirects else "0")
    return Logs(
        folder=Path(asked.log_dir) if asked.log_dir else None,
        tee=_per_rank("--tee", tee, size),
        redirect=_per_rank("--redirects", asked.redirects or "0", size),
        shown=_shown(asked.local_ranks_filter, size),
        prefix=asked.log_line_prefix_template or os.environ.get(_PREFIX_VARIABLE, ""),
        role=asked.role,
        filters={STDOUT: _texts(asked.duplicate_stdout_filters), STDERR: _texts(asked.duplicate_stderr_filters)},
    )


def _per_rank(option: str, text: str, size: int) -> dict[int, int]:
    try:
        if ":" not in text:
            return {rank: _which(text) for rank in range(size)}
        streams = {int(rank): _which(what) for rank, what in (part.split(":") for part in text.split(","))}
    except ValueError:
        raise UsageError(f"{option} {text}: expected 0, 1, 2 or 3, or a list such as 0:3,1:2") from None
    for rank in streams:
        if rank not in range(size):
            raise UsageError(f"{option} {text}: there is no rank {rank} among {size}")
    return streams


def _which(text: str) -> int:
    if text not in ("0", "1", "2", "3"):
        raise ValueError(text)
    return int(text)


def _shown(text: str, size: int) -> frozenset[int] | None:
    if not text:
        return None
    try:
        ranks = frozenset(int(part) for part in text.split(","))
    except ValueError:
        ranks = frozenset({-1})
    if not ranks <= set(range(size)):
        raise UsageError(f"--local-ranks-filter {text}: expected ranks from 0 to {size - 1}, such as 0,2")
    return ranks


def _texts(text: str) -> list[str]:
    """Cut a list at its commas; two commas are one in a text."""
    parts = (part.replace("\0", ",") for part in text.replace(",,", "\0").split(","))
    return [part for part in parts if part]
