"""The options of `disttorch-run`, and how its command line is read.

They are torchrun's, with torchrun's environment variables (`PET_NPROC_PER_NODE` ...), and a few
of our own.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

USAGE = "disttorch-run [options] script.py [arguments]"


class UsageError(Exception):
    """The command line asks for something that cannot be; the message says what and what to do."""


@dataclass(frozen=True)
class _Option:
    """An option: its name, its type ("flag": it takes no value; "optional": it may take a number), its default, what it means, a short name."""

    name: str
    kind: Any
    default: Any
    help: str
    short: str = ""
    metavar: str = ""
    choices: tuple[str, ...] | None = None
    also: str = ""

    @property
    def names(self) -> list[str]:
        """Everything that it may be called, with hyphens and with underscores."""
        long = [name for name in (self.name, self.also) if name]
        spelled = [spelling for name in long for spelling in (name, "--" + name[2:].replace("-", "_"))]
        return list(dict.fromkeys([self.short, *spelled] if self.short else spelled))

    @property
    def key(self) -> str:
        """The name of its value."""
        return self.name[2:].replace("-", "_")


_GROUPS: dict[str, list[_Option]] = {
    "workers": [
        _Option("--nproc-per-node", str, "1", "a number, auto, cpu (one per core) or gpu", metavar="N"),
        _Option("--oversubscribe", "flag", False, "allow more workers than cores"),
        _Option(
            "--numa-binding",
            str,
            "exclusive",
            "cores of a worker: exclusive (its own, near its GPU; the default), node, socket or core-complex (shared)",
            metavar="HOW",
            choices=("exclusive", "node", "socket", "core-complex"),
        ),
        _Option("--no-pin", "flag", False, "let workers run on every core"),
        _Option("--role", str, "default", "name of the workers' role, in ROLE_NAME"),
        _Option("--virtual-local-rank", "flag", False, "LOCAL_RANK is 0 in every worker, whose GPU is device 0"),
        _Option("--start-method", str, "spawn", "accepted", choices=("spawn", "fork", "forkserver"), metavar="HOW"),
    ],
    "what to run": [
        _Option("--module", "flag", False, "run a module, as python -m does", short="-m"),
        _Option("--no-python", "flag", False, "run a command instead of a Python script"),
        _Option("--run-path", "flag", False, "accepted: a script always runs in the worker's interpreter"),
    ],
    "failures": [
        _Option("--max-restarts", int, 0, "restarts of all workers after a failure (default 0)", metavar="N"),
        _Option(
            "--grace",
            float,
            None,
            "time for workers to end after a signal or a failure (default 30)",
            metavar="SECONDS",
            also="--shutdown-timeout",
        ),
        _Option("--timeout", float, 600.0, "time-out of a collective (default 600)", metavar="SECONDS"),
        _Option(
            "--monitor-interval", float, 0.1, "accepted: the end of a worker is noticed at once", metavar="SECONDS"
        ),
        _Option(
            "--signals-to-handle",
            str,
            "SIGTERM,SIGINT,SIGHUP,SIGQUIT",
            "signals that are passed on to the workers",
            metavar="NAMES",
        ),
    ],
    "output": [
        _Option(
            "--log-dir",
            str,
            "",
            "also write each rank's output, to DIR/ID_xxxx/attempt_N/RANK/{stdout,stderr}.log",
            metavar="DIR",
        ),
        _Option(
            "--tee", str, "", "to file and terminal: 1 stdout, 2 stderr, 3 both, or 0:3,1:2", short="-t", metavar="WHAT"
        ),
        _Option("--redirects", str, "", "to file only: as --tee", short="-r", metavar="WHAT"),
        _Option(
            "--trace",
            str,
            "",
            "write a trace of compute and communication of all ranks, for ui.perfetto.dev (default: DISTTORCH_TRACE)",
            metavar="FILE",
        ),
        _Option("--local-ranks-filter", str, "", "ranks whose output the terminal shows, such as 0,2", metavar="RANKS"),
        _Option(
            "--log-line-prefix-template",
            str,
            "",
            "in front of every rank's lines: ${role_name}, ${local_rank} and ${rank} are replaced "
            "(default: TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE)",
            metavar="TEXT",
        ),
        _Option(
            "--duplicate-stdout-filters",
            str,
            "",
            "also write lines with one of these texts (a,b; a comma is ,,) to attempt_N/filtered_stdout.log",
            metavar="TEXTS",
        ),
        _Option("--duplicate-stderr-filters", str, "", "the same for stderr, to filtered_stderr.log", metavar="TEXTS"),
    ],
    "status": [
        _Option("--status", "flag", False, "show how far the ranks are, even where there is no terminal"),
        _Option("--no-status", "flag", False, "do not show it (on a terminal it is shown without being asked for)"),
        _Option("--status-interval", float, 10.0, "how often, without a terminal (default 10)", metavar="SECONDS"),
        _Option(
            "--dashboard",
            "optional",
            None,
            "show it in a browser, on this host; the address is printed (default port: a free one)",
            metavar="PORT",
        ),
    ],
    "host (one, so far)": [
        _Option("--nnodes", str, "1", "hosts; only 1 so far", metavar="N"),
        _Option("--node-rank", int, 0, "this host's number; only 0 so far", metavar="R"),
        _Option("--standalone", "flag", False, "one host, any port, a run id of its own"),
        _Option("--rdzv-backend", str, "static", "static or c10d, which mean the same on one host", metavar="NAME"),
        _Option("--rdzv-endpoint", str, "", "where the store listens; on this host", metavar="HOST:PORT"),
        _Option("--rdzv-id", str, "none", "the run's name, in TORCHELASTIC_RUN_ID", metavar="ID"),
        _Option("--rdzv-conf", str, "", "accepted: how long to wait for other hosts", metavar="KEY=VALUE,..."),
        _Option("--master-addr", str, "127.0.0.1", "where the store listens; this host", metavar="HOST"),
        _Option("--master-port", int, 0, "the store's port (default: a free one)", metavar="PORT"),
        _Option("--local-addr", str, "", "an address of this host", metavar="HOST"),
    ],
    "PyTorch's plug-ins, which are refused": [
        _Option("--event-log-handler", str, "null", "only null", metavar="NAME"),
        _Option("--logs-specs", str, "", "none", metavar="NAME"),
    ],
}
_OPTIONS = [option for group in _GROUPS.values() for option in group]
_BY_NAME = {name: option for option in _OPTIONS for name in option.names}
_HELP = ("-h", "--help")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see disttorch-run --help")


def read(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> argparse.Namespace:
    """Return the options by name, the `script` (None: there is none) and its `arguments`.

    Raises UsageError for an option that does not exist or a value that is not of its type.
    """
    options, rest = _split(arguments)
    parser = _parser()
    try:
        asked = parser.parse_args(_from_environment(environment))
    except UsageError as error:
        raise UsageError(f"environment variable PET_...: {error}") from None
    parser.parse_args(options, asked)
    asked.script, asked.arguments = (rest[0], list(rest[1:])) if rest else (None, [])
    return asked


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return our options, and what comes after them: the script and whatever belongs to it."""
    at = 0
    while at < len(arguments):
        word = arguments[at]
        if word == "--":
            return list(arguments[:at]), list(arguments[at + 1 :])
        if not word.startswith("-") or word == "-":
            break
        at += 1 + _takes_next(_BY_NAME.get(word), arguments[at + 1 : at + 2])
    return list(arguments[:at]), list(arguments[at:])


def _takes_next(option: _Option | None, following: Sequence[str]) -> bool:
    """Say whether the word after an option is its value; an optional value is a number, or it is the script."""
    if option is None or option.kind == "flag":
        return False
    return option.kind != "optional" or (bool(following) and following[0].isdecimal())


def _from_environment(environment: Mapping[str, str]) -> list[str]:
    """Return the options that PET_ variables stand for."""
    words = []
    for option in _OPTIONS:
        for key in dict.fromkeys(name[2:].upper().replace("-", "_") for name in (option.also, option.name) if name):
            value = environment.get(f"PET_{key}")
            if value is None:
                continue
            if option.kind != "flag":
                words.append(f"{option.name}={value}")
            elif not value.strip().isdecimal():
                raise UsageError(f"environment variable PET_{key}={value}: expected 0 or 1")
            elif int(value):
                words.append(option.name)
    return words


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="disttorch-run",
        usage=f"{USAGE}\n       disttorch-run doctor [--help]",
        description="Run a script data-parallel: one worker process per GPU or group of CPU cores. "
        "Options are torchrun's; every one may also be set in the environment, --nproc-per-node as PET_NPROC_PER_NODE.",
        allow_abbrev=False,
    )
    for title, options in _GROUPS.items():
        group = parser.add_argument_group(title)
        for option in options:
            details: dict[str, Any] = {"dest": option.key, "help": option.help, "default": option.default}
            if option.kind == "flag":
                details["action"] = "store_true"
            elif option.kind == "optional":
                details |= {"type": int, "nargs": "?", "const": 0, "metavar": option.metavar}
            else:
                details |= {"type": option.kind, "metavar": option.metavar or "NAME", "choices": option.choices}
            group.add_argument(*option.names, **details)
    return parser
