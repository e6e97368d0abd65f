"""The command line of the benchmarks; `docs/benchmarks.md` explains it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import all_reduce, data_parallel
from benchmarks.compare import Plan, WorkerError, format_table, run_rounds


def main() -> int:
    """Run a suite, print its table and return the exit code."""
    args = parse_arguments()
    run = {"all_reduce": run_all_reduce, "data_parallel": run_data_parallel}.get(args.suite, run_one_process)
    try:
        summary = run(args)
    except WorkerError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1
    if not summary["cases"]:
        print(f"benchmarks: error: no case of {args.suite} contains {args.only!r}", file=sys.stderr)
        return 1
    print(summary.pop("text"))
    if args.json:
        args.json.write_text(json.dumps(summary, indent=2) + "\n")
    return 0


def run_one_process(args: argparse.Namespace) -> dict[str, Any]:
    """Run `overhead` or `models` and return the summary, with what to print as `text`."""
    summary = run_rounds(Plan(args.suite, args.rounds, args.threads, args.clock, args.only))
    text = (
        f"{args.suite}: {args.threads} thread(s), {args.rounds} round(s), {args.clock} time\n\n{format_table(summary)}"
    )
    if "torch" not in summary["versions"]:
        text += "\n\nPyTorch is not installed, so there is nothing to compare with."
    return summary | {"text": text}


def run_all_reduce(args: argparse.Namespace) -> dict[str, Any]:
    """Run `all_reduce` and return the summary, with what to print as `text`."""
    summary = all_reduce.run(all_reduce.Plan(args.ranks, args.sizes, args.rounds, args.op, args.systems))
    return summary | {"text": all_reduce.format_tables(summary)}


def run_data_parallel(args: argparse.Namespace) -> dict[str, Any]:
    """Run `data_parallel` and return the summary, with what to print as `text`."""
    summary = data_parallel.run(data_parallel.Plan(args.ranks, args.rounds, args.cycles, args.clock, args.only))
    return summary | {"text": data_parallel.format_tables(summary)}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time disttorch and, where they are installed, others, in alternating processes.",
    )
    suites = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    for name, rounds, title in (
        ("overhead", 5, "single operators and import"),
        ("models", 5, "training steps of the networks, in one process"),
        ("all_reduce", 5, "all-reduce on one host, beside Gloo, MPI and a plain copy"),
        ("data_parallel", 3, "what data-parallelism adds to a training step"),
    ):
        suite = suites.add_parser(name, help=title, description=f"Time {title}.")
        suite.add_argument(
            "--rounds", type=count, default=rounds, metavar="N", help=f"processes per library (default: {rounds})"
        )
        suite.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
        OPTIONS[name](suite)
    return parser.parse_args()


def add_one_process(suite: argparse.ArgumentParser) -> None:
    """Add the options of `overhead` and `models`."""
    suite.add_argument("--threads", type=count, default=1, metavar="N", help="for both sides (default: 1)")
    add_clock(suite)
    add_only(suite)


def add_all_reduce(suite: argparse.ArgumentParser) -> None:
    """Add the options of `all_reduce`."""
    add = suite.add_argument
    add("--ranks", type=count, nargs="+", default=[2], metavar="N", help="numbers of processes (default: 2)")
    add("--sizes", type=size, nargs="+", default=list(all_reduce.SIZES), metavar="BYTES", help="of each process")
    add("--op", choices=("sum", "avg"), default="sum", help="what to compute; Gloo and MPI divide after summing")
    add(
        "--systems",
        nargs="+",
        choices=all_reduce.SYSTEMS,
        default=list(all_reduce.SYSTEMS),
        metavar="NAME",
        help=f"of {', '.join(all_reduce.SYSTEMS)} (default: all)",
    )


def add_data_parallel(suite: argparse.ArgumentParser) -> None:
    """Add the options of `data_parallel`."""
    suite.add_argument("--ranks", type=count, default=2, metavar="N", help="processes (default: 2)")
    suite.add_argument(
        "--cycles", type=count, default=30, metavar="N", help="turns of each kind in a process (default: 30)"
    )
    add_clock(suite)
    add_only(suite)


def add_clock(suite: argparse.ArgumentParser) -> None:
    """Add the option that chooses what is measured."""
    suite.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: time of all threads on the processor, for a busy machine (default: wall)",
    )


def add_only(suite: argparse.ArgumentParser) -> None:
    """Add the option that chooses cases."""
    suite.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains this")


OPTIONS = {
    "overhead": add_one_process,
    "models": add_one_process,
    "all_reduce": add_all_reduce,
    "data_parallel": add_data_parallel,
}


def count(text: str) -> int:
    """Parse a whole number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def size(text: str) -> int:
    """Parse the number of bytes of some float32 values."""
    if count(text) % 4:
        raise argparse.ArgumentTypeError(f"expected a multiple of 4 bytes, the size of a float32, got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
