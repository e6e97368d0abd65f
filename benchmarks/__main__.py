"""The command line of the benchmarks; `docs/benchmarks.md` explains it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.compare import Plan, WorkerError, format_table, run_rounds


def main() -> int:
    """Run a suite, print its table and return the exit code."""
    args = parse_arguments()
    try:
        summary = run_rounds(Plan(args.suite, args.rounds, args.threads, args.clock, args.only))
    except WorkerError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1
    if not summary["cases"]:
        print(f"benchmarks: error: no case of {args.suite} contains {args.only!r}", file=sys.stderr)
        return 1
    print(f"{args.suite}: {args.threads} thread(s), {args.rounds} round(s), {args.clock} time\n")
    print(format_table(summary))
    if "torch" not in summary["versions"]:
        print("\nPyTorch is not installed, so there is nothing to compare with.")
    if args.json:
        args.json.write_text(json.dumps(summary, indent=2) + "\n")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time disttorch and, where it is installed, PyTorch, in alternating processes.",
    )
    add = parser.add_argument
    add(
        "suite",
        choices=("overhead", "models"),
        help="overhead: single operators and import; models: training steps of the examples",
    )
    add("--rounds", type=count, default=5, metavar="N", help="processes per library (default: 5)")
    add("--threads", type=count, default=1, metavar="N", help="for both sides (default: 1)")
    add(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: time on the processor, for a busy machine and one thread (default: wall)",
    )
    add("--only", default="", metavar="TEXT", help="cases whose name contains this")
    add("--json", type=Path, metavar="FILE", help="write all figures there as well")
    return parser.parse_args()


def count(text: str) -> int:
    """Parse a whole number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
