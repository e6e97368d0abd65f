"""Every operator in scope against PyTorch's operator database: its samples, and the inputs that must raise."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

from oracle.differences import DIFFERENCES  # noqa: E402
from oracle.names import entries  # noqa: E402
from oracle.page import names_on  # noqa: E402
from oracle.run import run, run_errors  # noqa: E402

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parity.md"
NAMES = list(entries())


@pytest.mark.parametrize("name", NAMES)
def test_samples(name: str) -> None:
    report = run(name, first_failure_only=name in DIFFERENCES)
    if name in DIFFERENCES:
        assert report.failures, f"{name} agrees on every sample now: take it out of oracle/differences.py"
        return
    assert report.samples, "PyTorch has no sample for this name"
    shown = "\n".join(report.failures[:5])
    assert not report.failures, f"{len(report.failures)} of {report.samples} samples differ:\n{shown}"


def test_at_least_97_percent_of_the_names_agree() -> None:
    assert sorted(DIFFERENCES.keys() - set(NAMES)) == []
    assert len(DIFFERENCES) <= 0.03 * len(NAMES)


@cache
def _errors() -> list[Any]:
    return [run_errors(name) for name in NAMES]


def test_at_least_90_percent_of_the_error_inputs_raise_the_same_type() -> None:
    given = sum(report.error_inputs for report in _errors())
    wrong = [line for report in _errors() for line in report.error_failures]
    assert given > 500
    assert len(wrong) <= 0.1 * given, "\n".join(wrong)


def test_the_page_lists_every_name() -> None:
    agreeing, differing = names_on(PAGE.read_text(encoding="utf-8"))
    assert agreeing == set(NAMES) - DIFFERENCES.keys(), "run python tests/parity/report.py --write docs/parity.md"
    assert differing == set(DIFFERENCES)
