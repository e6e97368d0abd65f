"""The benchmarks with real processes, as little of each as there is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]

Suite = Callable[[str], ModuleType]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def test_all_reduce(tmp_path: Path) -> None:
    options = ["--systems", "bucket", "--sizes", "4096", "65536", "--rounds", "1"]
    done = run("all_reduce", *options, "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    cases = json.loads((tmp_path / "figures.json").read_text())["cases"]
    assert {ranks: list(sizes) for ranks, sizes in cases.items()} == {"2": ["4096", "65536"]}
    for systems in cases["2"].values():
        assert list(systems) == ["copy", "bucket"]
        assert all(0 < times["min"] <= times["median"] for times in systems.values())
    assert "| 65,536 |" in done.stdout


def test_data_parallel(suite: Suite, tmp_path: Path) -> None:
    module = suite("data_parallel")
    answer = module.run_job("disttorch", "LeNet", module.Plan(2, 1, 1, "wall", "LeNet"), str(tmp_path))
    assert len(answer["cycles"]) == 1
    for cycle in answer["cycles"]:
        assert list(cycle) == list(module.TIMES)
        assert len({len(steps) for steps in cycle.values()}) == 1
        assert all(step > 0 for steps in cycle.values() for step in steps)
        assert all(mean <= slowest for mean, slowest in zip(cycle["mean alone"], cycle["alone"], strict=True))


def test_a_rank_that_fails_fails_the_benchmark(suite: Suite, tmp_path: Path) -> None:
    module = suite("data_parallel")
    with pytest.raises(Exception, match="disttorch, no network, on 2 ranks failed") as raised:
        module.run_job("disttorch", "no network", module.Plan(2, 1, 1, "wall", ""), str(tmp_path))
    assert type(raised.value).__name__ == "WorkerError"
    assert "KeyError: 'no network'" in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data_parallel", "--only", "no such network"], "no case of data_parallel contains 'no such network'"),
        (["all_reduce", "--sizes", "6"], "expected a multiple of 4 bytes"),
        (["all_reduce", "--ranks", "0"], "expected a whole number above 0, got '0'"),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
