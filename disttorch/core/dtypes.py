"""The element types of a tensor and their NumPy counterparts."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np


class dtype:
    """An element type, as `torch.dtype`.

    Attributes: `name` ("float32"), `itemsize` (bytes), `is_floating_point`, `is_complex`, `is_signed`,
    and `numpy`, the `numpy.dtype` that stores it (bfloat16 is stored by the `ml_dtypes` package).
    """

    __slots__ = ("_numpy", "is_complex", "is_floating_point", "is_signed", "itemsize", "kind", "name")

    def __init__(self, name: str, kind: str, itemsize: int) -> None:
        self.name = name
        self.kind = kind
        self.itemsize = itemsize
        self.is_floating_point = kind == "floating"
        self.is_complex = kind == "complex"
        self.is_signed = kind in ("floating", "complex") or name.startswith("int")
        self._numpy: np.dtype | None = None if name == "bfloat16" else np.dtype(name)

    @property
    def numpy(self) -> np.dtype:
        if self._numpy is None:
            import ml_dtypes

            self._numpy = np.dtype(ml_dtypes.bfloat16)
            _BY_NUMPY[self._numpy] = self
        return self._numpy

    def to_complex(self) -> dtype:
        """Return the complex type whose parts hold this type."""
        return complex128 if self is float64 or self is complex128 else complex64

    def to_real(self) -> dtype:
        """Return the type of the real part."""
        return {"complex64": float32, "complex128": float64}.get(self.name, self)

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return "bool_" if self.name == "bool" else self.name


bool_ = dtype("bool", "bool", 1)
uint8 = dtype("uint8", "integer", 1)
int8 = dtype("int8", "integer", 1)
int16 = dtype("int16", "integer", 2)
int32 = dtype("int32", "integer", 4)
int64 = dtype("int64", "integer", 8)
float16 = dtype("float16", "floating", 2)
bfloat16 = dtype("bfloat16", "floating", 2)
float32 = dtype("float32", "floating", 4)
float64 = dtype("float64", "floating", 8)
complex64 = dtype("complex64", "complex", 8)
complex128 = dtype("complex128", "complex", 16)

ALL = (
    bool_, uint8, int8, int16, int32, int64,
    float16, bfloat16, float32, float64, complex64, complex128,
)  # fmt: skip
BY_NAME = {d.name: d for d in ALL}
_BY_NUMPY: dict[np.dtype, dtype] = {d.numpy: d for d in ALL if d.name != "bfloat16"}

_default = float32


def from_numpy_dtype(numpy_dtype: np.dtype) -> dtype:
    """Return the dtype that stores `numpy_dtype`; TypeError for one that a tensor cannot hold."""
    found = _BY_NUMPY.get(numpy_dtype)
    if found is not None:
        return found
    if numpy_dtype.name == "bfloat16":
        return _BY_NUMPY[bfloat16.numpy]
    raise TypeError(
        f"can't convert np.ndarray of type {numpy_dtype}. The only supported types are: "
        "float64, float32, float16, bfloat16, complex64, complex128, int64, int32, int16, int8, uint8, and bool."
    )


def get_default_dtype() -> dtype:
    """Return the floating type of tensors made from Python numbers (float32 unless changed)."""
    return _default


def set_default_dtype(d: dtype) -> None:
    """Set the floating type of tensors made from Python numbers."""
    global _default
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d!r}")
    _default = d


def of_number(value: bool | int | float | complex) -> dtype:
    """Return the type that a Python number takes on its own."""
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64
    if isinstance(value, float):
        return _default
    return _default.to_complex()


class finfo:
    """Limits of a floating type: `bits`, `eps`, `max`, `min`, `tiny`, `smallest_normal`, `resolution`."""

    def __init__(self, type: dtype | None = None) -> None:
        d = _default if type is None else type
        if not (d.is_floating_point or d.is_complex):
            raise TypeError(f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle '{d!r}'")
        if d is bfloat16:
            import ml_dtypes

            info = ml_dtypes.finfo(ml_dtypes.bfloat16)
        else:
            info = np.finfo(d.numpy)
        self.bits = d.to_real().itemsize * 8
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.tiny)
        self.resolution = 10.0**-info.precision
        self.dtype = d.to_real().name

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, finfo) and self.dtype == other.dtype

    __hash__ = None  # type: ignore[assignment]


class iinfo:
    """Limits of an integer type: `bits`, `max`, `min`."""

    def __init__(self, type: dtype) -> None:
        if type.kind != "integer":
            raise TypeError(f"torch.iinfo() requires an integer input type. Use torch.finfo to handle '{type!r}'")
        info = np.iinfo(type.numpy)
        self.bits, self.max, self.min, self.dtype = info.bits, int(info.max), int(info.min), type.name

    def __repr__(self) -> str:
        # PyTorch keeps six digits.
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, iinfo) and self.dtype == other.dtype

    __hash__ = None  # type: ignore[assignment]


_C_NAMES = {
    "uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int", "int64": "int64_t",
    "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double",
}  # fmt: skip


def number_as(value: Any, d: np.dtype, overflow_to_inf: bool = False) -> np.ndarray:
    """Return a Python number as an array () of NumPy type `d`; RuntimeError for one that the type cannot hold.

    Fractions are cut off, and a negative number wraps around in an unsigned type. `overflow_to_inf` lets numbers that are
    too large for a floating type become infinite.
    """
    fits = True
    if isinstance(value, complex) and d.kind not in "cb":
        fits, value = value.imag == 0, value.real
    if d.kind in "iu":
        largest = int(np.iinfo(d).max)
        fits = fits and -largest - (d.kind == "i") <= value <= largest
        value = int(value) & (2 * largest + 1 if d.kind == "i" else largest) if fits else 0
        if fits:
            return np.asarray(value, np.uint64).astype(d)
    elif d.kind in "fV" and not overflow_to_inf and isfinite(value):
        fits = fits and abs(value) <= finfo(from_numpy_dtype(d)).max
    if not fits:
        raise RuntimeError(f"value cannot be converted to type {_C_NAMES[d.name]} without overflow")
    return np.asarray(bool(value) if d.kind == "b" else value).astype(d)
