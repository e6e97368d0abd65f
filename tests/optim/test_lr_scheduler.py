"""Learning rates epoch by epoch against closed forms, warnings, and state dicts."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import disttorch
from disttorch import optim
from disttorch.optim import lr_scheduler as schedules


def optimizer_of(*rates: Any) -> optim.SGD:
    groups = [{"params": [disttorch.ones(1).requires_grad_()], "lr": rate} for rate in rates or (0.5,)]
    return optim.SGD(groups, lr=9.0)


def run(optimizer: optim.Optimizer, schedule: Any, epochs: int, *metrics: float) -> list[float]:
    """Return the rates of the first group from before the first epoch on."""
    rates = [optimizer.param_groups[0]["lr"]]
    for epoch in range(epochs):
        optimizer.step()
        schedule.step(*metrics[epoch : epoch + 1])
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


CASES: list[tuple[str, dict[str, Any], Callable[[int], float]]] = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}, lambda t: 0.5 ** (t // 3)),
    ("MultiStepLR", {"milestones": [2, 5, 5, 9], "gamma": 0.3}, lambda t: 0.3 ** sum(t >= m for m in (2, 5, 5, 9))),
    ("ExponentialLR", {"gamma": 0.9}, lambda t: 0.9**t),
    ("CosineAnnealingLR", {"T_max": 5}, lambda t: (1 + math.cos(math.pi * t / 5)) / 2),
    ("CosineAnnealingLR", {"T_max": 12, "eta_min": 0.05}, lambda t: 0.1 + 0.9 * (1 + math.cos(math.pi * t / 12)) / 2),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}, lambda t: 1 / (1 + t)),
    ("LinearLR", {"start_factor": 0.2, "end_factor": 0.8, "total_iters": 6}, lambda t: 0.2 + 0.1 * min(t, 6)),
    ("LinearLR", {}, lambda t: 1 / 3 + 2 / 15 * min(t, 5)),
    ("ConstantLR", {"factor": 0.25, "total_iters": 4}, lambda t: 0.25 if t < 4 else 1.0),
]


@pytest.mark.parametrize(("name", "options", "factor"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_rates_follow_the_closed_form(name: str, options: dict[str, Any], factor: Callable[[int], float]) -> None:
    optimizer = optimizer_of(0.5)
    rates = run(optimizer, getattr(schedules, name)(optimizer, **options), 20)
    assert rates == pytest.approx([0.5 * factor(t) for t in range(21)], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("name", "options", "factor"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_continued_from_its_state(name: str, options: dict[str, Any], factor: Callable[[int], float]) -> None:
    first, second = optimizer_of(0.5), optimizer_of(0.5)
    schedule = getattr(schedules, name)(first, **options)
    run(first, schedule, 7)
    continued = getattr(schedules, name)(second, **options)
    second.load_state_dict(first.state_dict())
    continued.load_state_dict(schedule.state_dict())
    assert continued.last_epoch == 7
    assert run(second, continued, 8) == run(first, schedule, 8)


def test_groups_keep_their_proportions() -> None:
    optimizer = optimizer_of(0.5, 2.0)
    schedule = schedules.StepLR(optimizer, step_size=1, gamma=0.5)
    assert schedule.base_lrs == [0.5, 2.0]
    run(optimizer, schedule, 2)
    assert schedule.get_last_lr() == [0.125, 0.5]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.5, 2.0]


def test_functions_of_each_group() -> None:
    optimizer = optimizer_of(1.0, 1.0)
    schedule = schedules.LambdaLR(optimizer, [lambda t: 0.5**t, lambda t: 1.0 - 0.1 * t])
    run(optimizer, schedule, 2)
    assert schedule.get_last_lr() == pytest.approx([0.25, 0.8])


def test_schedules_combine() -> None:
    optimizer = optimizer_of(1.0)
    warm, decay = schedules.ConstantLR(optimizer, 0.5, 2), schedules.ExponentialLR(optimizer, 0.9)
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(3):
        optimizer.step()
        warm.step()
        decay.step()
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx([0.5, 0.45, 0.81, 0.729])


def test_rate_that_is_a_tensor_is_changed_in_place() -> None:
    rate = disttorch.tensor(1.0)
    optimizer = optimizer_of(rate)
    schedule = schedules.StepLR(optimizer, step_size=1, gamma=0.5)
    run(optimizer, schedule, 1)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.5
    assert schedule.get_last_lr()[0] is not rate
    assert schedule.base_lrs[0].item() == 1.0


def test_resumed_at_an_epoch() -> None:
    optimizer = optimizer_of(0.5)
    with pytest.raises(KeyError, match=r"'initial_lr' is not specified in param_groups\[0\]"):
        schedules.StepLR(optimizer, 2, last_epoch=3)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    schedule = schedules.CosineAnnealingLR(optimizer, T_max=10, last_epoch=3)
    assert schedule.last_epoch == 4


def test_given_epoch_uses_the_closed_form() -> None:
    optimizer = optimizer_of(1.0)
    schedule = schedules.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    with pytest.warns(UserWarning, match="epoch parameter in `scheduler.step"):
        schedule.step(4)
    assert schedule.get_last_lr() == [0.0625]
    assert schedule.last_epoch == 4


def test_wrong_order_is_warned_about_once() -> None:
    schedule = schedules.StepLR(optimizer_of(), 2)
    with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        schedule.step()
    schedule.step()


def test_step_replaced_after_the_schedule_was_made() -> None:
    optimizer = optimizer_of()
    schedule = schedules.StepLR(optimizer, 2)
    optimizer.step = lambda closure=None: None  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="has been overridden after learning rate scheduler"):
        schedule.step()


def test_step_replaced_before_the_schedule_was_made() -> None:
    optimizer = optimizer_of()
    optimizer.step = lambda closure=None: None  # type: ignore[method-assign]
    schedule = schedules.StepLR(optimizer, 2)
    optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.step()


def test_get_lr_is_not_for_users() -> None:
    with pytest.warns(UserWarning, match="please use `get_last_lr"):
        schedules.StepLR(optimizer_of(), 2).get_lr()


def test_own_schedule() -> None:
    class Halving(schedules.LRScheduler):
        def get_lr(self) -> list[float]:
            return [base / 2**self.last_epoch for base in self.base_lrs]

    optimizer = optimizer_of(1.0)
    assert run(optimizer, Halving(optimizer), 3) == [1.0, 0.5, 0.25, 0.125]


def test_state_holds_no_optimizer_and_can_be_pickled() -> None:
    schedule = schedules.MultiStepLR(optimizer_of(), [2, 4])
    state = pickle.loads(pickle.dumps(schedule.state_dict()))
    assert "optimizer" not in state
    assert state["last_epoch"] == 0
    assert state["milestones"] == {2: 1, 4: 1}


def test_state_of_functions_that_are_objects() -> None:
    class Decay:
        def __init__(self, rate: float) -> None:
            self.rate = rate

        def __call__(self, epoch: int) -> float:
            return self.rate**epoch

    schedule = schedules.LambdaLR(optimizer_of(1.0, 1.0), [Decay(0.5), lambda t: 1.0])
    state = schedule.state_dict()
    assert state["lr_lambdas"] == [{"rate": 0.5}, None]
    other = schedules.LambdaLR(optimizer_of(1.0, 1.0), [Decay(0.1), lambda t: 1.0])
    other.load_state_dict(state)
    assert other.lr_lambdas[0].rate == 0.5


ERRORS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("no optimizer", lambda: schedules.StepLR(3, 2), TypeError, "int is not an Optimizer"),
    ("factor", lambda: schedules.ConstantLR(optimizer_of(), 2.0), ValueError, "factor expected to be between 0 and 1"),
    ("start", lambda: schedules.LinearLR(optimizer_of(), 0.0), ValueError, "Starting multiplicative factor"),
    ("end", lambda: schedules.LinearLR(optimizer_of(), end_factor=2.0), ValueError, "Ending multiplicative factor"),
    ("functions", lambda: schedules.LambdaLR(optimizer_of(), [abs, abs]), ValueError, "Expected 1 lr_lambdas, but got 2"),
    ("plateau factor", lambda: schedules.ReduceLROnPlateau(optimizer_of(), factor=1.0), ValueError, "should be < 1.0"),
    ("mode", lambda: schedules.ReduceLROnPlateau(optimizer_of(), "up"), ValueError, "mode up is unknown"),
    ("threshold", lambda: schedules.ReduceLROnPlateau(optimizer_of(), threshold_mode="x"), ValueError, "threshold mode x"),
    ("minima", lambda: schedules.ReduceLROnPlateau(optimizer_of(), min_lr=[1, 2]), ValueError, "expected 1 min_lrs, got 2"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "text"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS])
def test_errors(make, kind, text: str) -> None:
    with pytest.raises(kind, match=text):
        make()


PLATEAUS: list[tuple[dict[str, Any], list[float], list[float]]] = [
    ({"patience": 1}, [5, 5, 5, 5, 5], [1, 1, 1, 0.1, 0.1, 0.01]),
    ({"patience": 0, "factor": 0.5}, [5, 4, 4.5, 3, 3], [1, 1, 1, 0.5, 0.5, 0.25]),
    ({"patience": 0, "factor": 0.5, "mode": "max"}, [1, 2, 3, 2, 4], [1, 1, 1, 1, 0.5, 0.5]),
    ({"patience": 0, "factor": 0.5, "cooldown": 2}, [1, 1, 1, 1, 1], [1, 1, 0.5, 0.5, 0.5, 0.25]),
    ({"patience": 0, "factor": 0.5, "min_lr": 0.4}, [1, 1, 1, 1, 1], [1, 1, 0.5, 0.4, 0.4, 0.4]),
    ({"patience": 0, "factor": 0.5, "eps": 0.3}, [1, 1, 1, 1, 1], [1, 1, 0.5, 0.5, 0.5, 0.5]),
    ({"patience": 0, "factor": 0.5, "threshold": 0.2}, [10, 8.5, 7, 6, 5], [1, 1, 0.5, 0.5, 0.25, 0.25]),
    ({"patience": 0, "factor": 0.5, "threshold": 2, "threshold_mode": "abs"}, [9, 7.5, 6, 3, 2], [1, 1, 0.5, 0.5, 0.5, 0.25]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "metrics", "expected"), PLATEAUS, ids=lambda v: str(v) if isinstance(v, dict) else ""
)
def test_plateau(options: dict[str, Any], metrics: list[float], expected: list[float]) -> None:
    optimizer = optimizer_of(1.0)
    schedule = schedules.ReduceLROnPlateau(optimizer, **options)
    assert run(optimizer, schedule, len(metrics), *metrics) == pytest.approx(expected)
    assert schedule.get_last_lr() == pytest.approx(expected[-1:])


def test_plateau_continues_from_its_state() -> None:
    first, second = optimizer_of(1.0), optimizer_of(1.0)
    schedule = schedules.ReduceLROnPlateau(first, patience=2)
    run(first, schedule, 3, 1.0, 1.0, 1.0)
    continued = schedules.ReduceLROnPlateau(second, mode="max")
    continued.load_state_dict(schedule.state_dict())
    assert run(second, continued, 1, 1.0) == [1.0, 0.1]
    assert continued.mode == "min"


def test_plateau_takes_tensors_and_new_groups() -> None:
    optimizer = optimizer_of(1.0)
    schedule = schedules.ReduceLROnPlateau(optimizer, patience=0)
    optimizer.add_param_group({"params": disttorch.ones(1).requires_grad_(), "lr": 2.0})
    for _ in range(2):
        schedule.step(disttorch.tensor(3.0))
    assert schedule.get_last_lr() == [0.1, 0.2]


def test_plateau_with_minima_of_fewer_groups() -> None:
    optimizer = optimizer_of(1.0)
    schedule = schedules.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.1])
    optimizer.add_param_group({"params": disttorch.ones(1).requires_grad_()})
    schedule.step(1.0)
    with pytest.raises(RuntimeError, match=r"`optimizer` \(2\) differs from when"):
        schedule.step(1.0)
