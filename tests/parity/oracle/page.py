"""docs/parity.md: what came of the comparison, name by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from oracle.differences import DIFFERENCES
from oracle.run import Report

_TITLES = {
    "": "`disttorch` and `disttorch.Tensor`", "fft": "`disttorch.fft`", "linalg": "`disttorch.linalg`",
    "masked": "`disttorch.masked`", "nn.functional": "`disttorch.nn.functional`",
    "signal.windows": "`disttorch.signal.windows`", "special": "`disttorch.special`",
}  # fmt: skip


def page(reports: Sequence[Report], version: str) -> str:
    """Return the page for the reports of all operators, made with PyTorch `version`."""
    good = [r for r in reports if not r.failures]
    raising = sum(r.error_inputs for r in reports)
    same = raising - sum(len(r.error_failures) for r in reports)
    lines = [
        "# Agreement with PyTorch",
        "",
        f"Made by `python tests/parity/report.py --write docs/parity.md`, with PyTorch {version}.",
        "",
        f"{len(good)} of {len(reports)} operators agree with PyTorch on all samples of its operator database, {_samples(reports)}",
        "in float32, float64, int64, bool and complex64 where PyTorch has them: values, types, shapes, the layout of views, first",
        "derivatives, second derivatives (float64, small samples), and on one sample the method, the in-place form and `out=`.",
        f"Of {raising} inputs that must raise, {same} raise the same type of exception ({100 * same / max(raising, 1):.0f} %).",
        "",
        "Tolerances: 2e-5 relative and absolute for float32, 4e-5 for complex64, 1e-7 for float64, five times as much for",
        "derivatives, equality for integers and bools. What is random is drawn from the same seed.",
        "",
        "## What differs",
        "",
    ]
    if DIFFERENCES:
        lines += ["| name | why |", "| --- | --- |"]
        lines += [f"| `{name}` | {why} |" for name, why in sorted(DIFFERENCES.items())]
    else:
        lines += ["Nothing."]
    for namespace, title in _TITLES.items():
        names = sorted(r.name.rpartition(".")[2] for r in good if r.name.rpartition(".")[0] == namespace)
        lines += ["", f"## What agrees: {title} ({len(names)})", "", " ".join(f"`{name}`" for name in names)]
    return "\n".join(lines) + "\n"


def _samples(reports: Sequence[Report]) -> str:
    return f"{sum(r.samples for r in reports):,} of them"


def names_on(text: str) -> tuple[set[str], set[str]]:
    """Return the names that a page says agree, and those that it says differ."""
    differing = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    agreeing = set()
    for namespace, title in _TITLES.items():
        found = re.search(rf"^## What agrees: {re.escape(title)} \(\d+\)\n\n(.*)$", text, re.MULTILINE)
        names = re.findall(r"`([^`]+)`", found[1]) if found else []
        agreeing |= {f"{namespace}.{name}".lstrip(".") for name in names}
    return agreeing, differing
