"""no_grad, enable_grad, set_grad_enabled, inference_mode, anomaly mode; each thread has its own."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import disttorch as torch
from disttorch.autograd.grad_mode import is_grad_enabled


def leaf(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_no_grad_and_enable_grad_nest() -> None:
    x = leaf(1.0)
    with torch.no_grad():
        assert not (x * 2).requires_grad
        with torch.enable_grad():
            assert (x * 2).requires_grad
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_modes_end_with_an_exception() -> None:
    with pytest.raises(KeyError), torch.no_grad():
        raise KeyError
    assert is_grad_enabled()


@pytest.mark.parametrize(
    "decorate",
    [
        torch.no_grad(),
        torch.no_grad,
        torch.inference_mode(),
        torch.inference_mode,
        lambda f: torch.set_grad_enabled(False)(f),
    ],
)
def test_modes_decorate_functions(decorate: Any) -> None:
    @decorate
    def f(x: Any) -> bool:
        """Say whether it is recorded."""
        return (x * 2).requires_grad

    assert f(leaf(1.0)) is False
    assert f.__doc__ == "Say whether it is recorded."
    assert is_grad_enabled()


def test_a_decorated_function_may_recurse() -> None:
    @torch.no_grad()
    def f(n: int) -> bool:
        return is_grad_enabled() if n == 0 else f(n - 1) or is_grad_enabled()

    assert f(3) is False
    assert is_grad_enabled()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_modes_decorate_generators(mode: Any) -> None:
    @mode()
    def states() -> Any:
        yield is_grad_enabled()
        yield is_grad_enabled()

    seen = []
    for inside in states():
        seen.append((inside, is_grad_enabled()))
    expected = mode is torch.enable_grad
    assert seen == [(expected, True)] * 2


def test_one_object_can_be_entered_again() -> None:
    off = torch.no_grad()
    with off:
        with off:
            assert not is_grad_enabled()
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_set_grad_enabled_as_a_call_and_as_a_context() -> None:
    torch.set_grad_enabled(False)
    try:
        assert not is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)
    with torch.set_grad_enabled(False):
        assert not is_grad_enabled()
    assert is_grad_enabled()


def test_requires_grad_in_no_grad_still_makes_leaves() -> None:
    with torch.no_grad():
        x = torch.ones(1, requires_grad=True)
    assert x.requires_grad
    assert (x * 2).requires_grad


# -- inference mode -----------------------------------------------------------------------------------------------


def test_inference_tensors_stay_out_of_graphs() -> None:
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled()
        y = torch.ones(2) * 2
        assert y.is_inference()
        y.add_(1)
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        x * y
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode is not allowed"):
        y.add_(1)
    with pytest.raises(RuntimeError, match="do not track version counter"):
        _ = y._version
    assert (x * y.clone()).requires_grad
    assert not x.is_inference()


def test_inference_mode_false_records() -> None:
    with torch.inference_mode(), torch.inference_mode(False):
        y = leaf(1.0) * 2
        assert y.requires_grad
        assert not y.is_inference()


def test_requires_grad_of_an_inference_tensor() -> None:
    with torch.inference_mode():
        y = torch.ones(2)
    with pytest.raises(RuntimeError, match="inference tensor outside InferenceMode"):
        y.requires_grad_()


# -- threads ------------------------------------------------------------------------------------------------------


def test_each_thread_has_its_own_mode() -> None:
    seen: dict[str, Any] = {}

    def work() -> None:
        seen["grad"] = is_grad_enabled()
        seen["inference"] = torch.is_inference_mode_enabled()
        seen["tensor"] = torch.ones(1).is_inference()
        torch.set_grad_enabled(False)

    with torch.inference_mode():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == {"grad": True, "inference": False, "tensor": False}
    assert is_grad_enabled()


def test_backward_runs_in_several_threads() -> None:
    w = leaf(1.0, 2.0)
    found: list[Any] = []

    def work(k: int) -> None:
        for _ in range(50):
            (g,) = torch.autograd.grad(((w * k) * w).sum(), w)
        found.append((k, g.tolist()))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(k, [2.0 * k, 4.0 * k]) for k in range(4)]


# -- anomaly mode -------------------------------------------------------------------------------------------------


def test_anomaly_mode_names_the_forward_line() -> None:
    x = leaf(-1.0)
    with torch.autograd.detect_anomaly():
        y = (x.sqrt() * 0).sum()  # the line to be named
        with pytest.raises(
            RuntimeError, match=r"Function 'SqrtBackward0' returned nan values in its 0th output"
        ) as caught:
            y.backward()
    assert "test_modes.py" in str(caught.value)
    assert "# the line to be named" in str(caught.value)


def test_anomaly_mode_explains_an_error_in_a_derivative() -> None:
    x = leaf(1.0)
    with torch.autograd.set_detect_anomaly(True):
        h = x * 2
        y = h.exp() * h  # this one saves what is changed below
        h.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
            y.backward()
    shown = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert "# this one saves what is changed below" in shown


def test_anomaly_mode_ends_and_can_skip_the_check() -> None:
    x = leaf(-1.0)
    with torch.autograd.detect_anomaly(check_nan=False):
        x.sqrt().backward()
    assert x.grad.isnan().all()
    x.sqrt().backward()
    y = x.sqrt()
    assert y.grad_fn.metadata == {}
