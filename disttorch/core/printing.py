"""Text of a tensor, character for character as PyTorch prints it.

An array is printed in three steps: cut to the elements that will be shown, turn every one of them
into text of one common width, and lay the texts out in nested brackets with lines broken at
`linewidth`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np

from disttorch.core import dtypes


@dataclasses.dataclass(frozen=True)
class _Options:
    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: float = 80
    sci_mode: bool | None = None

    def __post_init__(self) -> None:
        for name in ("precision", "edgeitems"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 0:
                raise ValueError(f"{name} must be an integer of 0 or more, got {value!r}")
        if not isinstance(self.threshold, Real):
            raise ValueError(f"threshold must be a number or math.inf, got {self.threshold!r}")
        if not isinstance(self.linewidth, Real) or not math.isfinite(self.linewidth):
            raise ValueError(f"linewidth must be a finite number of characters, got {self.linewidth!r}")


_PROFILES = {
    "default": _Options(),
    "short": _Options(precision=2, edgeitems=2),
    "full": _Options(threshold=math.inf),
}

_options = _PROFILES["default"]


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: float | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed, as `torch.set_printoptions`; None keeps an option as it is.

    Args:
        precision: digits after the point of floating and complex values (4 at first).
        threshold: a tensor of more elements than this is summarised (1000 at first).
        edgeitems: elements shown at each end of a dimension of a summarised tensor (3 at first).
        linewidth: characters in a line (80 at first).
        profile: start from "default", "short" (2 digits, 2 edge items) or "full" (never summarise).
        sci_mode: True or False forces scientific notation on or off; None, **also when left out**,
            lets the values choose: on where the largest magnitude is over 1e8, the smallest other
            than 0 under 1e-4, or their ratio over 1000.

    Raises:
        ValueError: for an unknown profile or an option out of range. PyTorch ignores the first and
            fails at the next print on the second.
    """
    global _options
    if profile is not None and profile not in _PROFILES:
        raise ValueError(f"profile must be one of {', '.join(_PROFILES)}, got {profile!r}")
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    start = _options if profile is None else _PROFILES[profile]
    _options = dataclasses.replace(start, **changes, sci_mode=sci_mode)


def get_printoptions() -> dict[str, Any]:
    """Return the options in force, as keyword arguments of `set_printoptions`."""
    return dataclasses.asdict(_options)


@contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Set print options, as `set_printoptions`, for the length of a `with` block."""
    before = get_printoptions()
    set_printoptions(**options)
    try:
        yield
    finally:
        set_printoptions(**before)


def tensor_str(
    array: np.ndarray,
    *,
    prefix: str = "tensor(",
    default_dtype_name: str = "float32",
    suffixes: Sequence[str] = (),
) -> str:
    """Return what `repr` gives for a tensor that holds `array`.

    Args:
        array: the values; any shape, any type that a tensor can hold.
        prefix: what comes before the values; they are indented by the length of its last line
            ("Parameter containing:\\ntensor(" for a parameter).
        default_dtype_name: the default floating type. The type is shown unless it is this one, its
            complex counterpart, int64 or bool; for an empty tensor, unless it is this one.
        suffixes: what else to show after the values ("device='cuda:0'", "requires_grad=True").
            A device goes before the size and the type, which are found here, all else after them.

    Raises:
        TypeError: for an array of a type that no tensor can hold.

    >>> print(tensor_str(np.array([[0.5, 2.0], [1.0, np.inf]]), suffixes=["requires_grad=True"]))
    tensor([[0.5000, 2.0000],
            [1.0000,    inf]], dtype=torch.float64, requires_grad=True)
    """
    indent = len(prefix) - (prefix.rfind("\n") + 1)
    options = _options
    body = _body(array, indent, options) if array.size else "[]"
    devices = [suffix for suffix in suffixes if suffix.startswith("device=")]
    others = [suffix for suffix in suffixes if not suffix.startswith("device=")]
    shown = devices + _size_suffix(array, options) + _dtype_suffix(array, default_dtype_name) + others
    return _append(prefix + body, shown, indent, options.linewidth) + ")"


def _size_suffix(array: np.ndarray, options: _Options) -> list[str]:
    """Return the size where the brackets do not show it."""
    hidden = options.edgeitems == 0 if array.size else array.ndim != 1
    return [f"size={tuple(array.shape)}"] if hidden else []


def _dtype_suffix(array: np.ndarray, default_dtype_name: str) -> list[str]:
    """Return the type where the values do not imply it; an empty tensor has none to do so."""
    default = dtypes.BY_NAME[default_dtype_name]
    implied = {default}
    if array.size:
        implied |= {default.to_complex(), dtypes.int64, dtypes.bool_}
    own = dtypes.from_numpy_dtype(array.dtype)
    return [] if own in implied else [f"dtype={own!r}"]


def _append(text: str, suffixes: list[str], indent: int, linewidth: float) -> str:
    # PyTorch counts the last line of the values two characters too long; wrapping depends on it.
    used = len(text) - (text.rfind("\n") + 1) + 2
    for suffix in suffixes:
        if used + len(suffix) + 2 > linewidth:
            text += ",\n" + " " * indent + suffix
            used = indent + len(suffix)
        else:
            text += ", " + suffix
            used += len(suffix) + 2
    return text


def _body(array: np.ndarray, indent: int, options: _Options) -> str:
    """Return the values of a non-empty array in brackets."""
    summarise = array.size > options.threshold
    if summarise and array.ndim and options.edgeitems == 0:
        return "[...]"
    cut = [summarise and side > 2 * options.edgeitems for side in array.shape]
    shown = _edges(array, cut, options.edgeitems) if any(cut) else array
    texts, width = _cells(shown, options)
    if array.ndim == 0:
        return texts[0]
    nested = np.array(texts, dtype=object).reshape(shown.shape)
    return _layout(nested, cut, indent, width, options)


def _edges(array: np.ndarray, cut: list[bool], edgeitems: int) -> np.ndarray:
    """Return `array` with only the first and last `edgeitems` of every dimension that is `cut`."""
    ends = [*range(edgeitems), *range(-edgeitems, 0)]
    # One gather touches only the elements it returns, also when the array is a huge expanded view.
    return array[np.ix_(*(ends if c else range(n) for n, c in zip(array.shape, cut, strict=True)))]


def _layout(texts: np.ndarray, cut: list[bool], indent: int, width: int, options: _Options) -> str:
    """Return padded texts in nested brackets, with "..." in the middle of every `cut` dimension."""
    inner = indent + 1
    if texts.ndim == 1:
        row = texts.tolist()
        if cut[0]:
            row.insert(options.edgeitems, " ...")
        per_line = max(1, math.floor((options.linewidth - indent) / (width + 2)))
        lines = [", ".join(row[i : i + per_line]) for i in range(0, len(row), per_line)]
        return "[" + (",\n" + " " * inner).join(lines) + "]"
    blocks = [_layout(part, cut[1:], inner, width, options) for part in texts]
    if cut[0]:
        blocks.insert(options.edgeitems, "...")
    return "[" + ("," + "\n" * (texts.ndim - 1) + " " * inner).join(blocks) + "]"


def _cells(array: np.ndarray, options: _Options) -> tuple[list[str], int]:
    """Return the padded text of every element in order, and the width by which lines are filled."""
    kind = dtypes.from_numpy_dtype(array.dtype).kind
    values = array.reshape(-1)
    if kind == "complex":
        return _complex_cells(values, options)
    if kind == "floating":
        texts, width = _float_texts(values, options)
    else:
        texts = [str(value) for value in values.tolist()]
        width = max(map(len, texts))
    return [text.rjust(width) for text in texts], width


def _complex_cells(values: np.ndarray, options: _Options) -> tuple[list[str], int]:
    real, real_width = _float_texts(values.real, options)
    imag, imag_width = _float_texts(values.imag, options)
    signed = [text if text.startswith("-") else "+" + text for text in imag]
    texts = [r.rjust(real_width) + i + "j" for r, i in zip(real, signed, strict=True)]
    # PyTorch counts no "+" before the imaginary part; line breaks depend on it.
    return texts, real_width + imag_width + 1


def _float_texts(values: np.ndarray, options: _Options) -> tuple[list[str], int]:
    """Return the text of every value, and the width of the widest that is not 0, inf or nan."""
    values = values.astype(np.float64)
    regular = np.isfinite(values) & (values != 0)
    write = _float_writer(values[regular], options)
    texts = [write(value) for value in values.tolist()]
    widths = (len(text) for text, counts in zip(texts, regular.tolist(), strict=True) if counts)
    return texts, max(widths, default=1)


def _float_writer(regular: np.ndarray, options: _Options) -> Callable[[float], str]:
    """Choose one notation for all values by those that are neither 0, inf nor nan."""
    if regular.size and _is_scientific(np.abs(regular), options.sci_mode):
        return f"{{:.{options.precision}e}}".format
    if (regular == np.ceil(regular)).all():
        return lambda value: f"{value:.0f}." if math.isfinite(value) else f"{value:.0f}"
    return f"{{:.{options.precision}f}}".format


def _is_scientific(magnitudes: np.ndarray, sci_mode: bool | None) -> bool:
    if sci_mode is not None:
        return sci_mode
    low, high = float(magnitudes.min()), float(magnitudes.max())
    return high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4
