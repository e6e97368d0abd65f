"""Optimizers and schedules against PyTorch: the same gradients give the same parameters and learning rates."""

from __future__ import annotations

import inspect
import io
import warnings

import numpy as np
import pytest

import disttorch
import disttorch.optim
from disttorch.optim import lr_scheduler

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

STEPS = 50
SHAPES = ((7, 5), (5,), (3, 2, 4), ())

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.01, "maximize": True, "weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.7, "weight_decay": 0.01}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "eps": 1e-4}),
    ("Adam", {"lr": 0.01, "maximize": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True, "maximize": True}),
]


def _values(dtype, seed=0):
    rng = np.random.default_rng(seed)
    draw = [rng.standard_normal(shape) for shape in SHAPES]
    if np.dtype(dtype).kind == "c":
        draw = [a + 1j * rng.standard_normal(a.shape) for a in draw]
    return [np.asarray(a, dtype) for a in draw]


def _gradients(dtype):
    """Return the gradients of each step: noisy, of very different sizes, some of them missing at first."""
    for step in range(STEPS):
        grads = _values(dtype, seed=100 + step)
        scaled = [np.asarray(g * 10.0 ** (k - 1), dtype) for k, g in enumerate(grads)]
        yield [None if step < 3 and k == 2 else g for k, g in enumerate(scaled)]


def _run(package, make, params, dtype):
    optimizer = make(params)
    trajectory = []
    for grads in _gradients(dtype):
        for param, grad in zip(params, grads, strict=True):
            param.grad = None if grad is None else package.tensor(grad)
        optimizer.step()
        trajectory.append([param.detach().numpy().copy() for param in params])
    return optimizer, trajectory


def _params(package, dtype):
    return [package.tensor(a, requires_grad=True) for a in _values(dtype)]


def _both(name, options, dtype):
    ours = _run(disttorch, lambda p: getattr(disttorch.optim, name)(p, **options), _params(disttorch, dtype), dtype)
    theirs = _run(torch, lambda p: getattr(torch.optim, name)(p, **options), _params(torch, dtype), dtype)
    return ours, theirs


def _assert_close(ours, theirs, rtol, atol):
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=f"parameter {k} after step {step + 1}")


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
def test_trajectory(name, options, dtype, tolerance):
    ours, theirs = _both(name, options, dtype)
    _assert_close(ours[1], theirs[1], tolerance, tolerance)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_complex_trajectory(name):
    options = {"lr": 0.01, "weight_decay": 0.1}
    ours, theirs = _both(name, options, "complex128")
    _assert_close(ours[1], theirs[1], 1e-12, 1e-12)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_state_dict_layout(name, options):
    (ours, _), (theirs, _) = _both(name, options, "float32")
    a, b = ours.state_dict(), theirs.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert list(a["param_groups"][0]) == list(b["param_groups"][0])
    assert list(a["state"]) == list(b["state"])
    for number, state in b["state"].items():
        assert list(a["state"][number]) == list(state)
        for key, value in state.items():
            mine = a["state"][number][key]
            assert mine.dtype.name == str(value.dtype).removeprefix("torch.")
            np.testing.assert_allclose(mine.numpy(), value.numpy(), rtol=2e-5, atol=2e-5)


def _train(package, params, optimizer, seeds):
    for seed in seeds:
        for param, grad in zip(params, _values("float32", seed), strict=True):
            param.grad = package.tensor(grad)
        optimizer.step()


def _exchange(write, read, name, options):
    """Train in one package, save parameters and optimizer to a file, continue in both; return both results."""
    params = _params(write, "float32")
    optimizer = getattr(write.optim, name)(params, **options)
    _train(write, params, optimizer, range(10))
    file = io.BytesIO()
    write.save({"params": [p.detach() for p in params], "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    found = read.load(file)
    others = [p.requires_grad_() for p in found["params"]]
    continued = getattr(read.optim, name)(others, lr=9.0)
    continued.load_state_dict(found["optimizer"])
    _train(write, params, optimizer, range(10, 20))
    _train(read, others, continued, range(10, 20))
    return [p.detach().numpy() for p in params], [p.detach().numpy() for p in others], continued


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
@pytest.mark.parametrize("direction", ["from torch", "to torch"])
def test_checkpoints_are_exchanged(name, options, direction):
    write, read = (torch, disttorch) if direction == "from torch" else (disttorch, torch)
    there, here, continued = _exchange(write, read, name, options)
    _assert_close([here], [there], 2e-5, 2e-5)
    assert continued.param_groups[0]["lr"] == options.get("lr", 0.01 if name == "RMSprop" else 0.001)


def test_schedule_states_are_exchanged():
    for write, read in ((torch, disttorch), (disttorch, torch)):
        first, second = _optimizer(write, write.optim), _optimizer(read, read.optim)
        schedule = write.optim.lr_scheduler.CosineAnnealingLR(first, T_max=9)
        continued = read.optim.lr_scheduler.CosineAnnealingLR(second, T_max=5)
        _advance(first, schedule, 4)
        second.load_state_dict(first.state_dict())
        continued.load_state_dict(schedule.state_dict())
        assert _advance(first, schedule, 9) == _advance(second, continued, 9)


def _advance(optimizer, schedule, epochs):
    rates = []
    for _ in range(epochs):
        optimizer.step()
        schedule.step()
        rates.append(_rates(optimizer))
    return rates


def _leaf(package):
    return package.tensor([1.0, 2.0], requires_grad=True)


def _twice(package):
    param = _leaf(package)
    return package.optim.SGD([{"params": [param]}, {"params": [param]}])


ERRORS = {
    "no parameters": lambda p: p.optim.SGD([]),
    "a tensor": lambda p: p.optim.SGD(_leaf(p)),
    "not a leaf": lambda p: p.optim.SGD([_leaf(p) * 2]),
    "numbers": lambda p: p.optim.SGD([3]),
    "an array": lambda p: p.optim.SGD([np.ones(2)]),
    "two groups": _twice,
    "a set": lambda p: p.optim.SGD([{"params": {_leaf(p)}}]),
    "some names": lambda p: p.optim.SGD([("a", _leaf(p)), _leaf(p)]),
    "some named groups": lambda p: p.optim.SGD([{"params": [("a", _leaf(p))]}, {"params": _leaf(p)}]),
    "no dict": lambda p: p.optim.SGD([_leaf(p)]).add_param_group([_leaf(p)]),
    "nesterov": lambda p: p.optim.SGD([_leaf(p)], nesterov=True),
    "two rates": lambda p: p.optim.SGD([_leaf(p)], lr=p.tensor([0.1, 0.2])),
    "beta 0": lambda p: p.optim.Adam([_leaf(p)], betas=(1.0, 0.9)),
    "beta 1": lambda p: p.optim.AdamW([_leaf(p)], betas=(0.9, -0.1)),
    "mixed betas": lambda p: p.optim.Adam([_leaf(p)], betas=(0, 0.9)),
    "fused and foreach": lambda p: p.optim.Adam([_leaf(p)], fused=True, foreach=True),
    "base class": lambda p: p.optim.Optimizer([_leaf(p)], {}).step(),
    "no optimizer": lambda p: p.optim.lr_scheduler.StepLR(3, 2),
    "constant": lambda p: p.optim.lr_scheduler.ConstantLR(p.optim.SGD([_leaf(p)]), 2.0),
    "linear start": lambda p: p.optim.lr_scheduler.LinearLR(p.optim.SGD([_leaf(p)]), 0.0),
    "linear end": lambda p: p.optim.lr_scheduler.LinearLR(p.optim.SGD([_leaf(p)]), end_factor=2.0),
    "functions": lambda p: p.optim.lr_scheduler.LambdaLR(p.optim.SGD([_leaf(p)]), [abs, abs]),
    "plateau mode": lambda p: p.optim.lr_scheduler.ReduceLROnPlateau(p.optim.SGD([_leaf(p)]), "up"),
    "plateau minima": lambda p: p.optim.lr_scheduler.ReduceLROnPlateau(p.optim.SGD([_leaf(p)]), min_lr=[1, 2]),
}
NEGATIVE = [
    ("SGD", ("lr", "momentum", "weight_decay")),
    ("RMSprop", ("lr", "alpha", "eps", "weight_decay", "momentum")),
    ("Adam", ("lr", "eps", "weight_decay")),
    ("AdamW", ("lr", "eps", "weight_decay")),
]
for _name, _options in NEGATIVE:
    for _option in _options:
        ERRORS[f"{_name} {_option}"] = lambda p, n=_name, o=_option: getattr(p.optim, n)([_leaf(p)], **{o: -1.0})


@pytest.mark.parametrize("case", ERRORS)
def test_errors_have_the_same_type_and_text(case):
    found = []
    for package in (disttorch, torch):
        with pytest.raises(Exception) as caught:  # noqa: PT011 (the two packages' errors are compared)
            ERRORS[case](package)
        found.append((caught.type, str(caught.value)))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_optimizers_have_the_same_signature(name):
    ours, theirs = (inspect.signature(getattr(package.optim, name)) for package in (disttorch, torch))
    assert _described(ours) == _described(theirs)


@pytest.mark.parametrize(
    "name",
    [
        "StepLR", "MultiStepLR", "ExponentialLR", "CosineAnnealingLR", "LambdaLR", "LinearLR", "ConstantLR",
        "ReduceLROnPlateau",
    ],
)  # fmt: skip
def test_schedules_have_the_same_signature(name):
    ours, theirs = (inspect.signature(getattr(package.optim.lr_scheduler, name)) for package in (disttorch, torch))
    assert _described(ours) == _described(theirs)


def _described(signature):
    return [(p.name, p.default, p.kind) for p in signature.parameters.values()]


def test_step_hooks_see_the_same():
    def seen(package):
        calls = []
        optimizer = package.optim.SGD([_leaf(package)])
        optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append((args[0] is o, args[1:], kwargs)))
        optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append((args[0] is o, args[1:], kwargs)))
        optimizer.step()
        optimizer.step(None)
        optimizer.step(closure=None)
        return calls

    assert seen(disttorch) == seen(torch)


def test_repr():
    ours, theirs = _both("AdamW", {}, "float32")
    assert repr(ours[0]) == repr(theirs[0])


SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5, 5, 9], "gamma": 0.3}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 30}),
    ("LinearLR", {"start_factor": 0.2, "end_factor": 0.7, "total_iters": 6}),
    ("ConstantLR", {"factor": 0.5, "total_iters": 4}),
    pytest.param("LambdaLR", {"lr_lambda": lambda epoch: 0.95**epoch}, id="LambdaLR-a function"),
    pytest.param(
        "LambdaLR",
        {"lr_lambda": [lambda epoch: 1 / (1 + epoch), lambda epoch: 0.5**epoch]},
        id="LambdaLR-a function for each group",
    ),
]


def _optimizer(package, optim):
    params = [package.tensor([1.0, 2.0], requires_grad=True), package.tensor([3.0], requires_grad=True)]
    return optim.SGD([{"params": params[:1]}, {"params": params[1:], "lr": 0.3}], lr=0.1)


def _rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def _schedule(package, optim, schedulers, names):
    optimizer = _optimizer(package, optim)
    active = [getattr(schedulers, name)(optimizer, **options) for name, options in names]
    rates = [_rates(optimizer)]
    for _ in range(25):
        optimizer.step()
        for one in active:
            one.step()
        rates.append(_rates(optimizer))
    return rates, [one.state_dict() for one in active]


@pytest.mark.parametrize(("name", "options"), SCHEDULES, ids=lambda value: str(value)[:40])
def test_schedule_is_equal_to_the_last_bit(name, options):
    ours, our_state = _schedule(disttorch, disttorch.optim, lr_scheduler, [(name, options)])
    theirs, their_state = _schedule(torch, torch.optim, torch.optim.lr_scheduler, [(name, options)])
    assert ours == theirs
    assert our_state == their_state


def test_combined_schedules_are_equal_to_the_last_bit():
    names = [("CosineAnnealingLR", {"T_max": 9}), ("LinearLR", {"total_iters": 5}), ("StepLR", {"step_size": 4})]
    ours, _ = _schedule(disttorch, disttorch.optim, lr_scheduler, names)
    theirs, _ = _schedule(torch, torch.optim, torch.optim.lr_scheduler, names)
    assert ours == theirs


@pytest.mark.parametrize(("name", "options"), SCHEDULES[:7], ids=str)
def test_closed_form_is_equal(name, options):
    def run(package, optim, schedulers):
        optimizer = _optimizer(package, optim)
        schedule = getattr(schedulers, name)(optimizer, **options)
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            schedule.step(11)
        return _rates(optimizer)

    ours = run(disttorch, disttorch.optim, lr_scheduler)
    assert ours == run(torch, torch.optim, torch.optim.lr_scheduler)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1, "factor": 0.5},
        {"mode": "max", "patience": 0, "threshold": 0.1, "threshold_mode": "abs", "cooldown": 2},
        {"patience": 0, "min_lr": [0.04, 0.2], "factor": 0.3},
        {"mode": "max", "patience": 0, "threshold": 0.05},
    ],
    ids=str,
)
def test_plateau(options):
    metrics = [1.0, 0.9, 0.95, 0.93, 0.92, 0.5, 0.6, 0.6, -0.7, 0.6, 0.55, 0.1, 0.09, 2.0, 0.0995]

    def run(package, optim, schedulers):
        optimizer = _optimizer(package, optim)
        schedule = schedulers.ReduceLROnPlateau(optimizer, **options)
        rates = []
        for metric in metrics:
            schedule.step(metric)
            rates.append(_rates(optimizer))
        return rates, schedule.state_dict()

    assert run(disttorch, disttorch.optim, lr_scheduler) == run(torch, torch.optim, torch.optim.lr_scheduler)
