"""All-reduce among the processes of one host: disttorch's ways beside Gloo, MPI and a plain copy."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from typing import Any, NamedTuple

from benchmarks.compare import KEYS, format_times, lines_of, summarise
from benchmarks.ranks import mpiexec, run_ranks

SIZES = (1 << 10, 1 << 16, 1 << 20, 25_000_000, 100_000_000)
OURS = ("bucket", "tensor", "messages")
LIMIT = "copy"
SYSTEMS = (LIMIT, *OURS, "gloo", "mpi")
MISSING = {
    "gloo": "PyTorch is not installed, so Gloo is left out.",
    "mpi": "mpi4py and the mpich wheel are not both installed, so MPI is left out.",
}
RATIOS = (("gloo", "bucket"), ("gloo", "tensor"), ("mpi", "bucket"), ("mpi", "tensor"))


class Plan(NamedTuple):
    """What to measure and how."""

    ranks: list[int]  # how many processes, one table for each
    sizes: list[int]  # bytes
    rounds: int  # processes per rank and system
    op: str  # "sum" or "avg"
    systems: list[str]  # of SYSTEMS


def installed_systems(wanted: list[str]) -> list[str]:
    """Return the systems of `wanted` that can be timed here, and the copy that is the limit for all, in order."""
    found = {"gloo": importlib.util.find_spec("torch") is not None, "mpi": mpiexec() is not None}
    return [system for system in SYSTEMS if system == LIMIT or (system in wanted and found.get(system, True))]


def run(plan: Plan) -> dict[str, Any]:
    """Time every system, in turn, for each number of ranks, and return the summary.

    It holds the plan, the versions and, for each number of ranks and each size, every system's median of the rounds'
    medians, the minimum of all readings and the spread of the medians; times are in µs.

    Raises:
        WorkerError: a benchmark process failed.
    """
    systems = installed_systems(plan.systems)
    summary: dict[str, Any] = {**plan._asdict(), "systems": systems, "versions": {}, "cases": {}}
    with tempfile.TemporaryDirectory() as bytecode:
        for ranks in plan.ranks:
            answers: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
            for number in range(plan.rounds):
                for system in systems if number % 2 == 0 else reversed(systems):
                    print(f"round {number + 1}/{plan.rounds}, {ranks} ranks: {system}", file=sys.stderr, flush=True)
                    answers[system].append(run_system(system, ranks, plan, bytecode))
            summary["versions"] = {system: answers[system][0]["version"] for system in systems}
            summary["cases"][str(ranks)] = {
                str(size): {
                    system: summarise([answer["cases"][str(size)] for answer in answers[system]]) for system in systems
                }
                for size in plan.sizes
            }
    return summary


def run_system(system: str, ranks: int, plan: Plan, bytecode: str) -> dict[str, Any]:
    """Time one system in processes of its own."""
    arguments = ["--system", system, "--op", plan.op, "--sizes", *map(str, plan.sizes)]
    shared = "0" if system == "messages" else "1"
    return run_ranks(
        "benchmarks.all_reduce_worker",
        arguments,
        ranks,
        f"all_reduce, {system},",
        bytecode,
        mpi=system == "mpi",
        DISTTORCH_SHM=shared,
    )


def format_tables(summary: dict[str, Any]) -> str:
    """Return the summary as text: a Markdown table for each number of ranks, and what was left out."""
    parts = [
        f"all_reduce: {summary['op']} of float32, {summary['rounds']} round(s): median (minimum), share of the limit",
        f"Versions: {', '.join(dict.fromkeys(summary['versions'].values()))}.",
    ]
    cores = len(os.sched_getaffinity(0))
    for ranks, cases in summary["cases"].items():
        shared = ", not pinned" if int(ranks) > cores else ""
        parts += [f"{ranks} ranks on {cores} cores{shared}:", format_table(summary["systems"], cases)]
    parts += [sentence for system, sentence in MISSING.items() if not installed_systems([system])[1:]]
    return "\n\n".join(parts)


def format_table(systems: list[str], cases: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return one number of ranks' times, the shares of the limit and the ratios as a Markdown table."""
    ratios = [(slower, faster) for slower, faster in RATIOS if slower in systems and faster in systems]
    header = ["bytes", *systems, *(f"{slower} / {faster}" for slower, faster in ratios)]
    rows = [header, ["---:"] * len(header)]
    for size, times in cases.items():
        row = [f"{int(size):,}"]
        for system in systems:
            share = f", {share_of_limit(times, system):.0%}" if system in OURS else ""
            row.append(format_times(times[system], spread=False) + share)
        for slower, faster in ratios:
            ratio, of_minima = (times[slower][key] / times[faster][key] for key in KEYS)
            row.append(f"{ratio:.2f} ({of_minima:.2f})")
        rows.append(row)
    return lines_of(rows)


def share_of_limit(times: dict[str, dict[str, float]], system: str) -> float:
    """Return how much of the copy's speed `system` reaches, from the medians: 1 is all of it."""
    return times[LIMIT]["median"] / times[system]["median"]
