"""`disttorch-run doctor`: what the machine has, what is missing, and whether workers reach each other."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import textwrap
from collections.abc import Sequence

from disttorch_run import machine, selftest
from disttorch_run.machine import FAILED, OK, WARNING, Check

_MIN_WIDTH, _MAX_WIDTH = 60, 110


def main(arguments: Sequence[str]) -> int:
    """Print the findings; return 0, 1 if something does not work, or 2 for wrong usage."""
    parser = argparse.ArgumentParser(
        prog="disttorch-run doctor",
        description="Print what this machine has for training on several processes, then let workers try it "
        "for about ten seconds. The exit code is 1 if something does not work.",
        allow_abbrev=False,
    )
    parser.add_argument("--no-self-test", action="store_true", help="only look, start no workers")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the self-test may take (default 10)")
    try:
        asked = parser.parse_args(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    if not 0 < asked.seconds <= 600:
        print(f"disttorch-run: --seconds {asked.seconds:g}: expected a number from 0 to 600", file=sys.stderr)
        return 2
    try:
        return _examine(None if asked.no_self_test else asked.seconds)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _examine(seconds: float | None) -> int:
    """Look at everything and, if `seconds` are given, let workers try it; return the exit code."""
    verdicts = []
    for title, checks in machine.sections():
        _print_section(title, checks)
        verdicts += [check.verdict for check in checks]
    if seconds is not None:
        verdicts += _self_test(seconds)
    return _conclude(verdicts)


def _print_section(title: str, checks: Sequence[Check]) -> None:
    print(title)
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        _print_check(check, width)
    print(flush=True)


def _print_check(check: Check, width: int) -> None:
    """Print one line, and what to do below it; long texts are wrapped."""
    columns = min(_MAX_WIDTH, max(_MIN_WIDTH, shutil.get_terminal_size().columns))
    head = f"  {check.verdict:8}{check.name:{width}}  "
    indent = " " * len(head)
    lines = check.found.splitlines() or [""]
    print(textwrap.fill(head + lines[0], columns, subsequent_indent=indent, break_long_words=False))
    for line in lines[1:]:
        print(indent + line)
    if check.advice:
        print(textwrap.fill(f"{indent}-> {check.advice}", columns, subsequent_indent=indent + "   "))


def _self_test(seconds: float) -> list[str]:
    """Let workers try it, print each result as it comes, and return the verdicts."""
    names = [_size(size) for size in selftest.SIZES]
    print("Self-test: all-reduce of float32, time of one and bytes reduced per second")
    print(_row("", "", names), flush=True)
    verdicts = []
    for result in selftest.run_all(seconds):
        verdict = FAILED if result.error else OK
        verdicts.append(verdict)
        if result.error:
            _print_check(Check(result.name, result.error, verdict), 24)
        elif len(result.milliseconds) == len(names):
            print(_row(verdict, result.name, [_time(ms) for ms in result.milliseconds]))
            rates = [_rate(size, ms) for size, ms in zip(selftest.SIZES, result.milliseconds)]
            print(_row("", "", rates), flush=True)
        else:
            text = f"a rank that fails stops the others after {_time(result.milliseconds[0])}"
            print(_row(verdict, result.name, [text]), flush=True)
    print()
    return verdicts


def _row(verdict: str, name: str, cells: Sequence[str]) -> str:
    return f"  {verdict:8}{name:24}" + "".join(f"{cell:>12}" for cell in cells)


def _conclude(verdicts: Sequence[str]) -> int:
    failed, warned = verdicts.count(FAILED), verdicts.count(WARNING)
    if failed:
        print(f"{failed} of {len(verdicts)} checks failed" + (f", {warned} warned" if warned else ""))
        return 1
    print("everything works" + (f"; warnings: {warned}" if warned else ""))
    return 0


def _size(nbytes: int) -> str:
    if nbytes % (1 << 20) == 0:
        return f"{nbytes >> 20} MiB"
    return f"{nbytes >> 10} KiB" if nbytes % 1024 == 0 else f"{nbytes / 1e6:g} MB"


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"


def _rate(nbytes: int, milliseconds: float) -> str:
    rate = nbytes / milliseconds * 1000
    return f"{rate / 1e9:.2f} GB/s" if rate >= 1e8 else f"{rate / 1e6:.3g} MB/s"
