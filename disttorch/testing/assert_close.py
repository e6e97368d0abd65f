"""Comparing tensors, numbers and nests of them up to rounding, as `torch.testing.assert_close`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.core import dtypes

# (rtol, atol) by type; integers and bools have to be equal.
_TOLERANCES = {
    "float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7), "complex64": (1.3e-6, 1e-5), "complex128": (1e-7, 1e-7),
}  # fmt: skip

Message = str | Callable[[str], str] | None


@dataclass(frozen=True)
class _Rules:
    rtol: float | None
    atol: float | None
    equal_nan: bool
    check_device: bool
    check_dtype: bool
    check_stride: bool


class _MismatchError(Exception):
    """A difference, with the path to where it is."""

    def __init__(self, message: str, path: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.message, self.path = message, path


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: Message = None,
) -> None:
    """Raise AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere.

    Takes tensors, NumPy arrays, numbers, None, and sequences or mappings of them; shapes, and types unless
    `check_dtype` is false, have to agree. The tolerances depend on the type unless both are given. `msg` replaces the
    message, or makes one of it. Raises TypeError for what cannot be compared. `check_layout` is for PyTorch's sake: a
    tensor here is always strided.
    """
    if (rtol is None) != (atol is None):
        missing = "atol" if atol is None else "rtol"
        raise ValueError(f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {missing}.")
    if not allow_subclasses and type(actual) is not type(expected):
        raise TypeError(
            f"expected inputs of one type with allow_subclasses=False, got {type(actual)} and {type(expected)}"
        )
    rules = _Rules(rtol, atol, equal_nan, check_device, check_dtype, check_stride)
    try:
        _compare(actual, expected, rules, ())
    except _MismatchError as found:
        place = "".join(f"[{key!r}]" for key in found.path)
        text = found.message + (f"\n\nThe failure occurred for item {place}" if place else "")
        raise AssertionError(_message(msg, text)) from None


def _message(msg: Message, text: str) -> str:
    if msg is None:
        return text
    return msg if isinstance(msg, str) else msg(text)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _compare(actual: Any, expected: Any, rules: _Rules, path: tuple[Any, ...]) -> None:
    if isinstance(actual, Tensor) and isinstance(expected, Tensor):
        _compare_tensors(actual, expected, rules, path)
    elif isinstance(actual, np.ndarray) and isinstance(expected, np.ndarray):
        _compare_arrays(actual, expected, rules, path)
    elif _is_sequence(actual) and _is_sequence(expected):
        _compare_sequences(actual, expected, rules, path)
    elif isinstance(actual, Mapping) and isinstance(expected, Mapping):
        _compare_mappings(actual, expected, rules, path)
    elif actual is None or expected is None:
        if actual is not expected:
            shown = actual if expected is None else expected
            raise _MismatchError(f"None mismatch: {shown} is not None", path)
    elif _is_bool(actual) and _is_bool(expected):
        if bool(actual) is not bool(expected):
            raise _MismatchError(f"Booleans mismatch: {bool(actual)} is not {bool(expected)}", path)
    elif _is_number(actual) and _is_number(expected):
        _compare_numbers(actual, expected, rules, path)
    else:
        raise TypeError(f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}.")


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex, np.number))


def _compare_sequences(actual: Any, expected: Any, rules: _Rules, path: tuple[Any, ...]) -> None:
    if len(actual) != len(expected):
        raise _MismatchError(f"The length of the sequences mismatch: {len(actual)} != {len(expected)}", path)
    for k, (a, e) in enumerate(zip(actual, expected)):
        _compare(a, e, rules, (*path, k))


def _compare_mappings(actual: Any, expected: Any, rules: _Rules, path: tuple[Any, ...]) -> None:
    missing, additional = expected.keys() - actual.keys(), actual.keys() - expected.keys()
    if missing or additional:
        raise _MismatchError(
            "The keys of the mappings do not match:\n"
            f"Missing keys in the actual mapping: {sorted(missing)}\n"
            f"Additional keys in the actual mapping: {sorted(additional)}",
            path,
        )
    for key in sorted(expected):
        _compare(actual[key], expected[key], rules, (*path, key))


def _check_equal(name: str, actual: Any, expected: Any, path: tuple[Any, ...]) -> None:
    if actual != expected:
        raise _MismatchError(f"The values for attribute '{name}' do not match: {actual} != {expected}.", path)


def _compare_tensors(actual: Tensor, expected: Tensor, rules: _Rules, path: tuple[Any, ...]) -> None:
    _check_equal("shape", actual.shape, expected.shape, path)
    if rules.check_device:
        _check_equal("device", actual.device, expected.device, path)
    if rules.check_dtype:
        _check_equal("dtype", actual.dtype, expected.dtype, path)
    if rules.check_stride:
        _check_equal("stride()", actual.stride(), expected.stride(), path)
    tolerances = _tolerances(rules, actual.dtype, expected.dtype)
    _compare_elements(actual.cpu()._a, expected.cpu()._a, tolerances, rules.equal_nan, path)


def _compare_arrays(actual: np.ndarray, expected: np.ndarray, rules: _Rules, path: tuple[Any, ...]) -> None:
    have, want = (dtypes.from_numpy_dtype(a.dtype) for a in (actual, expected))
    _check_equal("shape", actual.shape, expected.shape, path)
    if rules.check_dtype:
        _check_equal("dtype", have, want, path)
    _compare_elements(actual, expected, _tolerances(rules, have, want), rules.equal_nan, path)


def _tolerances(rules: _Rules, *compared: dtypes.dtype) -> tuple[float, float]:
    if rules.rtol is not None and rules.atol is not None:
        return rules.rtol, rules.atol
    rtol, atol = zip(*(_TOLERANCES.get(d.name, (0.0, 0.0)) for d in compared))
    return max(rtol), max(atol)


def _widened(array: np.ndarray) -> np.ndarray:
    """Return the elements in a type that holds differences exactly enough."""
    kind = array.dtype.kind
    if kind == "c":
        return array.astype(np.complex128)
    return array.astype(np.int64 if kind in "biu" else np.float64)


def _compare_elements(
    a: np.ndarray,
    e: np.ndarray,
    tolerances: tuple[float, float],
    equal_nan: bool,
    path: tuple[Any, ...],
) -> None:
    rtol, atol = tolerances
    a, e = _widened(a), _widened(e)
    with np.errstate(all="ignore"):
        close = (a == e) | ((np.abs(a - e) <= atol + rtol * np.abs(e)) & np.isfinite(e))
        if equal_nan:
            close |= np.isnan(a) & np.isnan(e)
        if close.all():
            return
        distance = np.asarray(np.where(close, 0, np.abs(a - e)))
        relative = np.asarray(np.where(close, 0, np.abs(a - e) / np.abs(e)))
    if not a.ndim:
        detail = f"Expected {e.item()} but got {a.item()}.\n" + _distances(distance.item(), relative.item(), rtol, atol)
        raise _MismatchError(_heading("Scalars", rtol, atol) + detail, path)
    wrong = int((~close).sum())
    lines = [f"Mismatched elements: {wrong} / {a.size} ({wrong / a.size:.1%})"]
    for name, amount, allowed in (("absolute", distance, atol), ("relative", relative, rtol)):
        at = tuple(int(i) for i in np.unravel_index(int(amount.argmax()), amount.shape))
        limit = f" (up to {allowed} allowed)" if rtol or atol else ""
        lines.append(f"Greatest {name} difference: {amount[at].item()} at index {at}{limit}")
    raise _MismatchError(_heading("Tensor-likes", rtol, atol) + "\n".join(lines), path)


def _heading(what: str, rtol: float, atol: float) -> str:
    return f"{what} are not {'close' if rtol or atol else 'equal'}!\n\n"


def _distances(absolute: float, relative: float, rtol: float, atol: float) -> str:
    limits = (f" (up to {atol} allowed)", f" (up to {rtol} allowed)") if rtol or atol else ("", "")
    return f"Absolute difference: {absolute}{limits[0]}\nRelative difference: {relative}{limits[1]}"


def _compare_numbers(actual: Any, expected: Any, rules: _Rules, path: tuple[Any, ...]) -> None:
    if rules.check_dtype and type(actual) is not type(expected):
        raise _MismatchError(f"The (d)types do not match: {type(actual)} != {type(expected)}.", path)
    kinds = [
        dtypes.complex128 if isinstance(v, (complex, np.complexfloating))
        else dtypes.float64 if isinstance(v, (float, np.floating))
        else dtypes.int64
        for v in (actual, expected)
    ]  # fmt: skip
    _compare_elements(
        np.asarray(actual),
        np.asarray(expected),
        _tolerances(rules, *kinds),
        rules.equal_nan,
        path,
    )
