"""Window functions against SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.signal import windows as scipy_windows

import disttorch as torch
from disttorch.signal import windows

# Our arguments, and those of SciPy's function of the same name.
WINDOWS: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "bartlett": [({}, {})],
    "blackman": [({}, {})],
    "cosine": [({}, {})],
    "exponential": [({"tau": 2.5}, {"tau": 2.5}), ({"center": 1.0, "sym": False}, {"center": 1.0, "sym": False})],
    "gaussian": [({"std": 0.7}, {"std": 0.7})],
    "general_cosine": [({"a": [0.5, 0.3, 0.2]}, {"a": [0.5, 0.3, 0.2]})],
    "general_hamming": [({"alpha": 0.6}, {"alpha": 0.6})],
    "hamming": [({}, {})],
    "hann": [({}, {})],
    "kaiser": [({"beta": 5.0}, {"beta": 5.0})],
    "nuttall": [({}, {})],
}


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("size", [0, 1, 2, 5, 8])
@pytest.mark.parametrize("sym", [True, False])
def test_values(name: str, size: int, sym: bool) -> None:
    for ours, theirs in WINDOWS[name]:
        expected = getattr(scipy_windows, name)(size, **{"sym": sym, **theirs}) if size else np.zeros(0)
        found = getattr(windows, name)(size, **{"sym": sym, **ours}, dtype=torch.float64)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-14)
        single = getattr(windows, name)(size, **{"sym": sym, **ours})
        assert single.dtype is torch.float32
        np.testing.assert_allclose(single.numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["bartlett", "blackman", "hamming", "hann", "kaiser"])
@pytest.mark.parametrize("size", [0, 1, 2, 7])
def test_the_older_names_are_periodic_unless_told_otherwise(name: str, size: int) -> None:
    old, new = getattr(torch, name + "_window"), getattr(windows, name)
    assert old(size).tolist() == new(size, sym=False).tolist()
    assert old(size, False).tolist() == new(size).tolist()


def test_parameters_of_the_older_names() -> None:
    hamming = torch.hamming_window(6, False, 0.6, 0.3, dtype=torch.float64)
    np.testing.assert_allclose(hamming.numpy(), 0.6 - 0.3 * np.cos(2 * np.pi * np.arange(6) / 5))
    kaiser = torch.kaiser_window(6, False, 3.0, dtype=torch.float64)
    np.testing.assert_allclose(kaiser.numpy(), np.kaiser(6, 3.0))
    assert torch.hann_window(4, dtype=torch.bfloat16).tolist() == [0.0, 0.5, 1.0, 0.5]
    assert torch.hann_window(4, requires_grad=True).requires_grad


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: windows.hann(-1), ValueError, "hann requires non-negative window length, got M=-1"),
        (lambda: windows.hann(3, dtype=torch.float16), ValueError, "expects float32 or float64 dtypes, got: torch.float16"),
        (lambda: windows.gaussian(3, std=0.0), ValueError, "Standard deviation must be positive"),
        (lambda: windows.exponential(3, tau=-1.0), ValueError, "Tau must be positive"),
        (lambda: windows.exponential(3, center=1.0), ValueError, "Center must be None for symmetric windows"),
        (lambda: windows.kaiser(3, beta=-1.0), ValueError, "beta must be non-negative"),
        (lambda: windows.general_cosine(3, a=[]), ValueError, "Coefficients cannot be empty"),
        (lambda: windows.general_cosine(3, a=0.5), TypeError, "Coefficients must be a list"),
        (lambda: torch.hann_window(-1), RuntimeError, "requires non-negative window_length, got window_length=-1"),
        (lambda: torch.hann_window(3, dtype=torch.int64), RuntimeError, "expects floating point dtypes"),
        (lambda: torch.hann_window(3.0), TypeError, "'window_length' must be int, not float"),
    ],
)  # fmt: skip
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
