"""The benchmarks' summaries and tables, from figures made up here."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from types import ModuleType

import pytest

Suite = Callable[[str], ModuleType]


def times(median: float, minimum: float) -> dict[str, float]:
    return {"median": median, "min": minimum, "spread": 0.0}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_all_reduce_shows_shares_of_the_limit_and_ratios(suite: Suite) -> None:
    systems = ["copy", "bucket", "tensor", "gloo"]
    case = {"copy": times(50, 40), "bucket": times(100, 80), "tensor": times(200, 100), "gloo": times(4000, 1600)}
    table = suite("all_reduce").format_table(systems, {"1048576": case}).splitlines()
    assert cells(table[0]) == ["bytes", *systems, "gloo / bucket", "gloo / tensor"]
    assert cells(table[2]) == [
        "1,048,576",
        "50.0 µs (40.0)",
        "100 µs (80.0), 50%",
        "200 µs (100), 25%",
        "4.00 ms (1.60)",
        "40.00 (20.00)",
        "20.00 (16.00)",
    ]


def test_all_reduce_leaves_out_what_is_missing(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    module = suite("all_reduce")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "mpiexec", lambda: None)
    assert module.installed_systems(list(module.SYSTEMS)) == ["copy", "bucket", "tensor", "messages"]
    assert module.installed_systems(["tensor", "gloo"]) == ["copy", "tensor"]
    summary = {"op": "sum", "rounds": 1, "versions": {"copy": "disttorch 0"}, "systems": ["copy"], "cases": {}}
    text = module.format_tables(summary)
    assert all(sentence in text for sentence in module.MISSING.values())


def test_costs_are_differences_within_a_cycle(suite: Suite) -> None:
    calm = {"alone": [10.0] * 10, "mean alone": [9.0] * 10, "beside": [11.0] * 10, "together": [12.0] * 10}
    busy = {"alone": [50.0] * 10, "mean alone": [46.0] * 10, "beside": [52.0] * 10, "together": [53.0] * 10}
    summary = suite("data_parallel").summarise_cycles([calm, busy, busy])
    assert summary["alone"] == {"median": 50, "fast": 10}
    assert summary["cost"] == {"median": 3, "fast": 2}
    assert summary["cost over the mean"] == {"median": 7, "fast": 3}
    assert summary["cost over beside"] == {"median": 1, "fast": 1}


def test_steps_of_the_slowest_rank_and_of_the_mean(suite: Suite) -> None:
    of_each_step = suite("data_parallel_worker").of_each_step
    ranks = [{"alone": [1.0, 5.0], "beside": [0.0, 0.0]}, {"alone": [3.0, 2.0], "beside": [9.0, 9.0]}]
    assert of_each_step(max, ranks, "alone") == [3, 5]
    assert of_each_step(statistics.fmean, ranks, "alone") == [2, 3.5]


def test_cost_tables(suite: Suite) -> None:
    module = suite("data_parallel")
    kinds = {kind: {"median": 2000.0, "fast": 1000.0} for kind in module.TIMES}
    ours = kinds | {
        "cost": {"median": 500.0, "fast": -20.0},
        "cost over the mean": {"median": 900.0, "fast": 30.0},
        "cost over beside": {"median": 100.0, "fast": 50.0},
    }
    theirs = kinds | {
        "cost": {"median": 2000.0, "fast": 400.0},
        "cost over the mean": {"median": 3000.0, "fast": 300.0},
        "cost over beside": {"median": 1000.0, "fast": -1.0},
    }
    titles = {"disttorch": "disttorch 0", "torch": "torch 0"}
    both = module.cost_table({"MLP": {"disttorch": ours, "torch": theirs}}, titles).splitlines()
    assert cells(both[2]) == [
        *("MLP", "0.50 (-0.02)", "2.00 (0.40)", "0.25 (-0.05)"),
        *("0.90 (0.03)", "3.00 (0.30)", "0.30 (0.10)"),
        *("0.10 (0.05)", "1.00 (-0.00)", "0.10 (–)"),
    ]
    one = module.cost_table({"MLP": {"disttorch": ours}}, {"disttorch": "disttorch 0"}).splitlines()
    assert cells(one[2]) == ["MLP", "0.50 (-0.02)", "0.90 (0.03)", "0.10 (0.05)"]
    assert len(cells(module.step_table({"MLP": {"disttorch": ours, "torch": theirs}}, titles).splitlines()[2])) == 9
