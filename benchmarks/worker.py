"""One process of a benchmark: times one library and prints the result as JSON.

`python -m benchmarks` starts it; nothing but the standard library is imported before the library
under test, because the time of that import is one of the results.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from types import ModuleType

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    """Time the cases of one suite and print {"version": ..., "cases": {name: times in µs}}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=("torch", "disttorch"), required=True)
    parser.add_argument("--suite", choices=("overhead", "models"), required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--clock", choices=CLOCKS, required=True)
    parser.add_argument("--only", default="")
    args = parser.parse_args()

    clock = CLOCKS[args.clock]
    start = clock()
    library = importlib.import_module(args.library)
    import_time = 1e6 * (clock() - start)
    if args.library == "torch":
        stand_in_for_disttorch(library)
    library.set_num_threads(args.threads)

    from benchmarks.timing import measure

    suite = importlib.import_module(f"benchmarks.{args.suite}")
    times = {
        name: measure(case, suite.READING_SECONDS, clock)
        for name, case in suite.cases(library).items()
        if args.only in name
    }
    if args.suite == "overhead" and args.only in "import":
        times["import"] = {"median": import_time, "min": import_time}
    print(json.dumps({"version": library.__version__, "cases": times}))


def stand_in_for_disttorch(torch: ModuleType) -> None:
    """Let `import disttorch` mean torch in this process, so that both sides build one model."""
    sys.modules["disttorch"] = torch
    for name, module in list(sys.modules.items()):
        if name.startswith("torch."):
            sys.modules[f"dist{name}"] = module


if __name__ == "__main__":
    main()
