"""The command line of `disttorch-run`: torchrun's options, for one host."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from disttorch_run.placement import PlacementError, plan

_LOOPBACK = ("localhost", "127.0.0.1")
_ONE_HOST = "several hosts are not supported yet"


class UsageError(Exception):
    """The command line asks for something that cannot be; the message says what and what to do."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see disttorch-run --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 0, the failed worker's, 128 + signal, or 2 for wrong usage."""
    trace = os.environ.pop("DISTTORCH_TRACE", "")
    try:
        asked = _parser().parse_args(arguments)
        _check_hosts(asked)
        _check_numbers(asked)
        port = _port(asked)
        command = _command(asked)
        placements = plan(asked.nproc_per_node, asked.oversubscribe)
        tee, redirect = _streams(asked, len(placements))
    except (UsageError, PlacementError) as error:
        print(f"disttorch-run: {error}", file=sys.stderr)
        return 2
    from disttorch_run.agent import Agent, Options

    options = Options(
        command=command,
        placements=placements,
        port=port,
        label=asked.rdzv_id or "",
        grace=asked.grace,
        timeout=asked.timeout,
        oversubscribed=not placements[0].cores,
        log_dir=asked.log_dir,
        tee=tee,
        redirect=redirect,
        trace=asked.trace or (Path(trace) if trace else None),
    )
    try:
        return Agent(options).run()
    except OSError as error:
        print(f"disttorch-run: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="disttorch-run",
        usage="disttorch-run [options] script.py [arguments]",
        description="Run a script data-parallel: one worker process per GPU or group of CPU cores.",
        allow_abbrev=False,
    )

    def add(name: str, **details: Any) -> None:
        names = dict.fromkeys([name, "--" + name[2:].replace("-", "_")])
        parser.add_argument(*names, **details)

    add(
        "--nproc-per-node",
        default="1",
        metavar="N",
        help="workers: a number, auto, cpu (one per core) or gpu",
    )
    add("--oversubscribe", action="store_true", help="allow more workers than cores")
    add("--nnodes", default="1", metavar="N", help="hosts; only 1 so far")
    add("--node-rank", default=0, type=int, metavar="R", help="this host's number; only 0 so far")
    add("--standalone", action="store_true", help="one host, any port (what happens without it too)")
    add(
        "--rdzv-endpoint",
        default="",
        metavar="HOST:PORT",
        help="where the store listens; on this host",
    )
    add("--rdzv-id", default="", metavar="ID", help="the run's name, in TORCHELASTIC_RUN_ID")
    add(
        "--master-addr",
        default="127.0.0.1",
        metavar="HOST",
        help="where the store listens; this host",
    )
    add(
        "--master-port",
        default=0,
        type=int,
        metavar="PORT",
        help="the store's port (default: a free one)",
    )
    add(
        "--max-restarts",
        default=0,
        type=int,
        metavar="N",
        help="restarts after a failure; only 0 so far",
    )
    add(
        "--grace",
        default=30.0,
        type=float,
        metavar="SECONDS",
        help="time for workers to end (default 30)",
    )
    add(
        "--timeout",
        default=600.0,
        type=float,
        metavar="SECONDS",
        help="time-out of a collective (default 600)",
    )
    add(
        "--log-dir",
        type=Path,
        metavar="DIR",
        help="also write each rank's output to DIR/rankR/{stdout,stderr}.log",
    )
    add(
        "--tee",
        default="",
        metavar="WHAT",
        help="to file and terminal: 1 stdout, 2 stderr, 3 both, or 0:3,1:2",
    )
    add("--redirects", default="", metavar="WHAT", help="to file only: as --tee")
    add(
        "--trace",
        type=Path,
        metavar="FILE",
        help="write a trace of compute and communication of all ranks, for ui.perfetto.dev",
    )
    parser.add_argument("-m", "--module", action="store_true", help="run a module, as python -m does")
    add("--no-python", action="store_true", help="run a command instead of a Python script")
    parser.add_argument("script", nargs="?", help="script, or module with -m, or command with --no-python")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script gets")
    return parser


def _check_hosts(asked: argparse.Namespace) -> None:
    if asked.nnodes not in ("1", "1:1"):
        raise UsageError(f"--nnodes {asked.nnodes}: {_ONE_HOST}, use --nnodes 1")
    if asked.node_rank != 0:
        raise UsageError(f"--node-rank {asked.node_rank}: {_ONE_HOST}, use --node-rank 0")
    host = asked.rdzv_endpoint.rpartition(":")[0] or asked.rdzv_endpoint or asked.master_addr
    for name in (host, asked.master_addr):
        if name not in _LOOPBACK:
            raise UsageError(f"host {name}: {_ONE_HOST}, use localhost")
    if asked.max_restarts != 0:
        raise UsageError(f"--max-restarts {asked.max_restarts}: restarts are not supported yet, use --max-restarts 0")


def _check_numbers(asked: argparse.Namespace) -> None:
    if not asked.grace >= 0 or math.isinf(asked.grace):
        raise UsageError(f"--grace {asked.grace:g}: expected a number of seconds from 0")
    if not asked.timeout > 0:
        raise UsageError(f"--timeout {asked.timeout:g}: expected a positive number of seconds")


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
        raise UsageError("no script given; usage: disttorch-run --nproc-per-node N script.py [arguments]")
    if asked.module and asked.no_python:
        raise UsageError("-m and --no-python exclude each other")
    if asked.no_python and shutil.which(target) is None:
        raise UsageError(f"--no-python: there is no command {target}")
    if not (asked.module or asked.no_python) and not Path(target).is_file():
        raise UsageError(f"there is no script {target}")
    kind = "module" if asked.module else "command" if asked.no_python else "script"
    return [kind, target, *asked.arguments]


def _streams(asked: argparse.Namespace, size: int) -> tuple[dict[int, int], dict[int, int]]:
    """Return which streams of each rank go to the terminal and a file, and which to a file only."""
    if (asked.tee or asked.redirects) and asked.log_dir is None:
        raise UsageError("--tee and --redirects write files: say where with --log-dir DIR")
    tee_text = asked.tee or ("3" if asked.log_dir is not None and not asked.redirects else "0")
    return _per_rank("--tee", tee_text, size), _per_rank("--redirects", asked.redirects or "0", size)


def _per_rank(option: str, text: str, size: int) -> dict[int, int]:
    try:
        if ":" not in text:
            return {rank: _which(text) for rank in range(size)}
        return {int(rank): _which(what) for rank, what in (part.split(":") for part in text.split(","))}
    except ValueError:
        raise UsageError(f"{option} {text}: expected 0, 1, 2 or 3, or a list such as 0:3,1:2") from None


def _which(text: str) -> int:
    if text not in ("0", "1", "2", "3"):
        raise ValueError(text)
    return int(text)
