"""Runs both libraries in turn, each round in a fresh process, and sets their times side by side."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# The first two, set to an older core type, halve the speed of NumPy's matrix product; the third
# would have every import compile its modules anew. Neither side gets them.
CLEARED_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE")
KEYS = ("median", "min")
LIMIT_SECONDS = 1800


class Plan(NamedTuple):
    """What to measure and how."""

    suite: str  # "overhead" or "models"
    rounds: int  # processes per library
    threads: int  # for each library
    clock: str  # "wall" or "cpu"
    only: str  # a part of the names of the cases to run; "" for all


class WorkerError(RuntimeError):
    """A benchmark process failed; the message carries what it wrote."""


def installed_libraries() -> list[str]:
    """Return the libraries that can be timed here, ours first."""
    return ["disttorch"] + (["torch"] if importlib.util.find_spec("torch") else [])


def run_rounds(plan: Plan) -> dict[str, Any]:
    """Time a suite with every installed library, in turn, and return the summary.

    It holds the plan, the versions, and for each case and library the median of the rounds'
    medians, the minimum of all readings and the spread of the medians; times are in µs.

    Raises:
        WorkerError: a benchmark process failed.
    """
    libraries = installed_libraries()
    answers: dict[str, list[dict[str, Any]]] = {library: [] for library in libraries}
    with tempfile.TemporaryDirectory() as bytecode:
        variables = environment(plan.threads, bytecode)
        for library in libraries:
            run_python(["-c", f"import {library}"], library, variables)
        for number in range(plan.rounds):
            # Who goes first changes, so that a machine that slows down favours nobody.
            for library in libraries if number % 2 == 0 else reversed(libraries):
                print(f"round {number + 1}/{plan.rounds}: {library}", file=sys.stderr, flush=True)
                answers[library].append(run_worker(library, plan, variables))
    return {
        **plan._asdict(),
        "versions": {library: answers[library][0]["version"] for library in libraries},
        "cases": {
            name: {library: summarise([answer["cases"][name] for answer in answers[library]]) for library in libraries}
            for name in answers["disttorch"][0]["cases"]
        },
    }


def run_worker(library: str, plan: Plan, variables: dict[str, str]) -> dict[str, Any]:
    """Time one library in a process of its own."""
    command = ["-m", "benchmarks.worker", "--library", library, "--suite", plan.suite]
    command += ["--threads", str(plan.threads), "--clock", plan.clock, "--only", plan.only]
    return json.loads(run_python(command, library, variables))


def run_python(command: list[str], library: str, variables: dict[str, str]) -> str:
    """Run Python with these arguments and return what it printed."""
    return run_command([sys.executable, *command], library, variables)


def run_command(command: list[str], what: str, variables: dict[str, str]) -> str:
    """Run a command from the root of the repository and return what it printed.

    Raises:
        WorkerError: it failed, or took longer than `LIMIT_SECONDS`.
    """
    try:
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkerError(f"the benchmark of {what} had not ended after {LIMIT_SECONDS} s") from error
    if result.returncode != 0:
        raise WorkerError(f"the benchmark of {what} failed:\n{result.stderr.strip()}")
    return result.stdout


def environment(threads: int, bytecode: str) -> dict[str, str]:
    """Return this process's environment with the settings that both sides get.

    Args:
        threads: for the array libraries.
        bytecode: a folder for compiled modules. An installed package has its own, a checkout may
            not; with this folder, filled before the first round, both sides import alike.
    """
    variables = {name: value for name, value in os.environ.items() if name not in CLEARED_VARIABLES}
    variables["PYTHONPYCACHEPREFIX"] = bytecode
    return variables | dict.fromkeys(THREAD_VARIABLES, str(threads))


def summarise(readings: list[dict[str, float]]) -> dict[str, float]:
    """Reduce the rounds of one case to median, minimum and spread (largest - smallest median)."""
    medians = [reading["median"] for reading in readings]
    median = statistics.median(medians)
    return {
        "median": median,
        "min": min(reading["min"] for reading in readings),
        "spread": (max(medians) - min(medians)) / median,
    }


def format_table(summary: dict[str, Any]) -> str:
    """Return the summary as a Markdown table, one line per case."""
    libraries = list(summary["versions"])
    titles = [f"{library} {summary['versions'][library]}" for library in libraries]
    header = ["median (min, spread)", *titles]
    if len(libraries) == 2:
        header.append("torch / disttorch (of the minima)")
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for name, times in summary["cases"].items():
        row = [name, *(format_times(times[library]) for library in libraries)]
        if len(libraries) == 2:
            ratio, of_minima = (times["torch"][key] / times["disttorch"][key] for key in KEYS)
            row.append(f"{ratio:.2f} ({of_minima:.2f})")
        rows.append(row)
    return lines_of(rows)


def lines_of(rows: list[list[str]]) -> str:
    """Return rows of cells as the lines of a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def format_times(times: dict[str, float], spread: bool = True) -> str:
    """Return `median unit (min, spread in per cent)` in a unit that suits the median."""
    unit, scale = ("ms", 1e-3) if times["median"] >= 1000 else ("µs", 1.0)
    median, minimum = (three_digits(scale * times[key]) for key in KEYS)
    return f"{median} {unit} ({minimum}, {times['spread']:.0%})" if spread else f"{median} {unit} ({minimum})"


def three_digits(value: float) -> str:
    """Format a positive number with three significant digits and no exponent."""
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f}"
