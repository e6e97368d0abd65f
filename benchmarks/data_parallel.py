"""What data-parallelism adds to a training step: disttorch's DistributedDataParallel beside PyTorch's over Gloo."""

from __future__ import annotations

import statistics
import sys
import tempfile
from typing import Any, NamedTuple

from benchmarks.compare import installed_libraries, lines_of, three_digits
from benchmarks.ranks import run_ranks

NETWORKS = ("LeNet", "CNN", "MLP", "LSTM", "ResNet-20", "GPT")
TIMES = ("alone", "mean alone", "beside", "together")
KEYS = ("median", "fast")
COSTS = {"cost": "alone", "cost over the mean": "mean alone", "cost over beside": "beside"}


class Plan(NamedTuple):
    """What to measure and how."""

    ranks: int
    rounds: int  # jobs per network and library
    cycles: int  # readings of each kind in a job
    clock: str  # "wall" or "cpu"
    only: str  # a part of the names of the networks; "" for all


def run(plan: Plan) -> dict[str, Any]:
    """Time every network with every installed library, in turn, and return the summary.

    It holds the plan, the versions and, for each network and library, the times of a step in µs (`TIMES`) and the
    differences (`COSTS`), each as `summarise_cycles` gives them.

    Raises:
        WorkerError: a benchmark process failed.
    """
    libraries = installed_libraries()
    cases: dict[str, Any] = {}
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as bytecode:
        for network in NETWORKS:
            if plan.only not in network:
                continue
            cycles: dict[str, list[dict[str, list[float]]]] = {library: [] for library in libraries}
            for number in range(plan.rounds):
                for library in libraries if number % 2 == 0 else reversed(libraries):
                    print(f"{network}, round {number + 1}/{plan.rounds}: {library}", file=sys.stderr, flush=True)
                    answer = run_job(library, network, plan, bytecode)
                    versions[library] = answer["version"]
                    cycles[library] += answer["cycles"]
            cases[network] = {library: summarise_cycles(cycles[library]) for library in libraries}
    return {**plan._asdict(), "versions": versions, "cases": cases}


def run_job(library: str, network: str, plan: Plan, bytecode: str) -> dict[str, Any]:
    """Time one network with one library in processes of its own."""
    arguments = ["--library", library, "--network", network, "--cycles", str(plan.cycles), "--clock", plan.clock]
    return run_ranks(
        "benchmarks.data_parallel_worker", arguments, plan.ranks, f"data_parallel, {library}, {network},", bytecode
    )


def summarise_cycles(cycles: list[dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Reduce the steps of all cycles to `median` and `fast`, the time that a tenth of the steps is below.

    A cost's median is that of the cycles' differences: the steps of a cycle were taken shortly after one another, so
    what slows down a whole cycle cancels out. Its `fast` is the difference of the steps' `fast`.
    """
    summary = {}
    for kind in TIMES:
        steps = [step for cycle in cycles for step in cycle[kind]]
        summary[kind] = {"median": statistics.median(steps), "fast": statistics.quantiles(steps, n=10)[0]}
    for cost, less in COSTS.items():
        differences = [statistics.median(cycle["together"]) - statistics.median(cycle[less]) for cycle in cycles]
        summary[cost] = {
            "median": statistics.median(differences),
            "fast": summary["together"]["fast"] - summary[less]["fast"],
        }
    return summary


def format_tables(summary: dict[str, Any]) -> str:
    """Return the summary as text: two Markdown tables, the steps and the costs."""
    libraries = list(summary["cases"][next(iter(summary["cases"]))]) if summary["cases"] else []
    titles = {library: f"{library} {summary['versions'][library]}" for library in libraries}
    parts = [
        f"data_parallel: {summary['ranks']} ranks, {summary['rounds']} round(s) of {summary['cycles']} cycles, "
        f"{summary['clock']} time; "
        "milliseconds, median (a tenth of the steps is faster)",
        step_table(summary["cases"], titles),
        cost_table(summary["cases"], titles),
    ]
    if "torch" not in libraries:
        parts.append("PyTorch is not installed, so there is nothing to compare with.")
    return "\n\n".join(parts)


def step_table(cases: dict[str, Any], titles: dict[str, str]) -> str:
    """Return the times of the steps as a Markdown table."""
    header = ["step", *(f"{title}, {kind}" for title in titles.values() for kind in TIMES)]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for network, sides in cases.items():
        rows.append([network, *(in_ms(sides[library][kind]) for library in titles for kind in TIMES)])
    return lines_of(rows)


def cost_table(cases: dict[str, Any], titles: dict[str, str]) -> str:
    """Return the costs and their ratios as a Markdown table."""
    both = "torch" in titles
    header = ["added to a step"]
    for cost in COSTS:
        header += [f"{title}, {cost}" for title in titles.values()]
        header += ["disttorch / torch"] if both else []
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for network, sides in cases.items():
        row = [network]
        for cost in COSTS:
            row += [in_ms(sides[library][cost]) for library in titles]
            row += [ratio(sides["disttorch"][cost], sides["torch"][cost])] if both else []
        rows.append(row)
    return lines_of(rows)


def ratio(ours: dict[str, float], theirs: dict[str, float]) -> str:
    """Return the ratio of two costs as `median (fast)`; a dash where theirs is not above 0."""
    return "{} ({})".format(*(f"{ours[key] / theirs[key]:.2f}" if theirs[key] > 0 else "–" for key in KEYS))


def in_ms(times: dict[str, float]) -> str:
    """Return µs as `median (fast)` in milliseconds; differences may be below 0."""
    return "{} ({})".format(*("-" * (times[key] < 0) + three_digits(abs(times[key]) / 1000) for key in KEYS))
