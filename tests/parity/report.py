"""Compare operators with PyTorch's operator database, by name, and print what differs.

python tests/parity/report.py add nn.functional.relu      two operators
python tests/parity/report.py --prefix linalg. --errors   all of a namespace, error inputs too
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from oracle.names import entries
from oracle.page import page
from oracle.run import Report, run, run_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="operators as the database calls them; all if there are none")
    parser.add_argument("--prefix", default=None, help="all operators whose names begin so")
    parser.add_argument("--errors", action="store_true", help="run the inputs that must raise as well")
    parser.add_argument("--most", type=int, default=4, help="differences to show for each operator")
    parser.add_argument("--quiet", action="store_true", help="name the operators that differ, no more")
    parser.add_argument("--write", metavar="FILE", type=Path, help="run everything and write docs/parity.md")
    given = parser.parse_args()
    if given.write and (given.names or given.prefix):
        parser.error("--write runs all operators: give no names and no --prefix")
    given.errors = given.errors or given.write is not None
    names = given.names or [n for n in entries() if given.prefix is None or n.startswith(given.prefix)]
    begin = time.perf_counter()
    reports = [_one(name, given) for name in names]
    good = [r for r in reports if not r.failures]
    raising, bad = sum(r.error_inputs for r in reports), sum(len(r.error_failures) for r in reports)
    print(
        f"{len(good)} of {len(reports)} operators agree on all of {sum(r.samples for r in reports)} samples; "
        f"{raising - bad} of {raising} error inputs raise the same; {time.perf_counter() - begin:.0f} s"
    )
    if given.write:
        given.write.write_text(page(reports, torch.__version__.partition("+")[0]), encoding="utf-8")


def _one(name: str, given: argparse.Namespace) -> Report:
    report = run(name)
    if given.errors:
        errors = run_errors(name)
        report.error_inputs, report.error_failures = errors.error_inputs, errors.error_failures
    if report.failures or report.error_failures:
        print(f"{name}: {len(report.failures)} of {report.samples} samples differ", flush=True)
        if not given.quiet:
            for line in (*report.failures[: given.most], *report.error_failures[: given.most]):
                print("    " + line)
    return report


if __name__ == "__main__":
    main()
