"""What the random stream accepts: dtypes, bounds, probabilities, saved states."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from disttorch.core.dtypes import dtype as CoreDtype

Array = NDArray[Any]
Shape = int | Sequence[int]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
STATE_WORDS = 624
STATE = np.dtype(
    [
        ("seed", "<u8"), ("left", "<i4"), ("seeded", "<i4"), ("next", "<u8"),
        ("words", "<u8", STATE_WORDS), ("normal_x", "<f8"), ("normal_y", "<f8"),
        ("normal_rho", "<f8"), ("normal_is_valid", "<i4"), ("pad", "<i4"),
        ("float_normal", "<f4"), ("float_normal_is_valid", "u1"), ("float_pad", "u1", 3),
    ]
)  # fmt: skip

# Bits of the significand and the largest finite value of each floating type.
DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
_MAXIMUM = {
    "float16": 65504.0,
    "bfloat16": 2.0**127 * (2 - 2.0**-7),
    "float32": 2.0**127 * (2 - 2.0**-23),
    "float64": 2.0**1023 * (2 - 2.0**-52),
}


def numpy_dtype(dtype: DTypeLike | CoreDtype) -> np.dtype:
    """Return the NumPy dtype of a disttorch dtype or of anything `np.dtype` accepts."""
    return dtype.numpy if isinstance(dtype, CoreDtype) else np.dtype(dtype)


def require_floating(kind: np.dtype, operation: str) -> np.dtype:
    """Return `kind`; NotImplementedError unless it is a floating type."""
    if kind.name not in DIGITS:
        raise NotImplementedError(
            f'"{operation}" not implemented for {kind.name!r}: expected one of {", ".join(DIGITS)}'
        )
    return kind


def require_real(kind: np.dtype, operation: str) -> np.dtype:
    """Return `kind`; NotImplementedError if it is complex."""
    if kind.kind == "c":
        raise NotImplementedError(f'"{operation}" not implemented for {kind.name!r}: expected a real dtype')
    return kind


def require_continuous(kind: np.dtype, distribution: str) -> np.dtype:
    """Return `kind`; RuntimeError unless it is a floating type."""
    if kind.name not in DIGITS:
        raise RuntimeError(
            f"{distribution} distribution is a continuous probability distribution. "
            f"dtype must be a floating point but you specified {kind.name}"
        )
    return kind


def uniform_bounds(kind: np.dtype, low: float, high: float) -> None:
    """Raise RuntimeError unless low <= high and `kind` holds both and their difference."""
    limit = _MAXIMUM[kind.name]
    for name, value in (("from", low), ("to", high)):
        if not -limit <= value <= limit:
            raise RuntimeError(f"{name} is out of bounds for {kind.name}: {value}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}")
    if high - low > limit:
        raise RuntimeError(
            f"uniform_ expects to-from <= {limit:g}, the largest {kind.name}, but found to={high:g} and from={low:g}"
        )


def integer_bounds(kind: np.dtype, low: int, high: int | None) -> tuple[int, int]:
    """Return the first and last integer to draw for [low, high), or for [low, ...] if high is None.

    A floating type may round a bound out of the range; the bound then moves inwards to the next
    number of the type, as in PyTorch.
    """
    for value in (low, INT64_MAX if high is None else high):
        if not INT64_MIN <= value <= INT64_MAX:
            raise ValueError(f"Overflow when unpacking long long: {value} is no 64-bit integer")
    if high is not None and low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    smallest, largest = _integer_limits(kind)
    if high is None:
        last = 2 ** DIGITS[kind.name] if kind.name in DIGITS else largest
    else:
        last = high - 1
    for name, value in (("from", low), ("to - 1", last)):
        if not smallest <= value <= largest:
            raise RuntimeError(f"{name} is out of bounds for {kind.name}: {value}")
    if kind.name not in DIGITS:
        return low, last
    return _floating_bounds(kind, low, last, move_last=high is not None)


def _integer_limits(kind: np.dtype) -> tuple[int, int]:
    if kind.kind == "b":
        return 0, 1
    if kind.kind in "iu":
        return int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    limit = int(_MAXIMUM[require_floating(kind, "random_").name])
    return -limit, limit


def _floating_bounds(kind: np.dtype, low: int, last: int, move_last: bool) -> tuple[int, int]:
    digits = DIGITS[kind.name]

    def rounded(value: int) -> int:
        start = np.float64(value) if digits == 53 else np.float32(value)
        return int(start.astype(kind))

    def gap(value: int) -> int:
        return int(2 ** (abs(value).bit_length() - digits))

    after = rounded(low + 1)
    first = after + gap(low + 1) if after < low else low
    before = rounded(last)
    if move_last and before > last:
        last = before - gap(last) - 1
    if first > last:
        raise RuntimeError(
            "random_ expects 'from' casted to dtype to be less than 'to' casted to dtype, "
            f"but got from={first} >= to={last + 1}"
        )
    for name, value in (("from", first), ("to - 1", last)):
        if abs(value) > 2**digits:
            warnings.warn(
                f"{name} is out of bounds [-(2^{digits}), 2^{digits}]. Due to precision "
                f"limitations {kind.name} can support discrete uniform distribution only within "
                "this range.",
                stacklevel=4,
            )
    return first, last


def full_range(kind: np.dtype) -> None:
    """Raise RuntimeError unless `kind` takes integers from all of [-2**63, 2**63)."""
    if kind.name not in ("int64", "float64", "float32", "bfloat16"):
        raise RuntimeError(
            f"random_full_64_bits_range handles only int64, float64, float32 and bfloat16, got {kind.name}"
        )


def permutation(n: int, kind: np.dtype) -> None:
    """Raise unless 0 ... n - 1 is a range that `kind` holds."""
    if kind.kind not in "iu" and kind.name not in DIGITS:
        raise NotImplementedError(f'"randperm" not implemented for {kind.name!r}')
    if n < 0:
        raise RuntimeError(f"randperm: n must be non-negative, got {n}")
    if kind.kind in "iu":
        most = int(np.iinfo(kind).max) + 1
    else:
        # PyTorch lets bfloat16 round.
        most = INT64_MAX if kind.name == "bfloat16" else 2 ** DIGITS[kind.name] + 1
    if n > most:
        raise RuntimeError(f"n cannot be greater than {most} for {kind.name} type, got {n}")


def multinomial(p: Array, num_samples: int, replacement: bool) -> None:
    """Raise RuntimeError unless `num_samples` can be drawn from what has the shape of `p`."""
    if p.ndim not in (1, 2):
        raise RuntimeError(f"prob_dist must be 1 or 2 dim, got shape {p.shape}")
    if p.dtype.name not in DIGITS:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {p.dtype.name}")
    if num_samples <= 0:
        raise RuntimeError(f"cannot sample n_sample <= 0 samples, got {num_samples}")
    if not replacement and num_samples > p.shape[-1]:
        raise RuntimeError(
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement, "
            f"got {num_samples} samples of {p.shape[-1]}"
        )
    if p.shape[-1] > 2**24:
        raise RuntimeError(f"number of categories cannot exceed 2^24, got {p.shape[-1]}")


def weights(p: Array) -> None:
    """Raise RuntimeError for a weight that is negative or not finite, or for weights all zero."""
    wide = p.astype(np.float64)
    if not np.all((wide >= 0) & (wide < math.inf)):
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if (wide == 0).all(axis=-1).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")


def parse_state(state: Array) -> Any:
    """Return the record in the bytes of a saved state; raise for what is none."""
    if not isinstance(state, np.ndarray) or state.dtype != np.uint8:
        found = state.dtype if isinstance(state, np.ndarray) else type(state).__name__
        raise TypeError(f"RNG state must be a torch.ByteTensor: expected uint8 bytes, got {found}")
    if state.size != STATE.itemsize:
        raise RuntimeError(
            f"Expected a CPUGeneratorImplState of size {STATE.itemsize} "
            f"but found the input RNG state size to be {state.size}"
        )
    record = np.frombuffer(state.tobytes(), STATE)[0]
    left, following = int(record["left"]), int(record["next"])
    # One word is left for the block that is used up, whatever its next word was.
    fits = following <= STATE_WORDS if left == 1 else following == STATE_WORDS + 1 - left
    if not (record["seeded"] and 1 <= left <= STATE_WORDS and fits):
        raise RuntimeError(
            f"Invalid mt19937 state: seeded={record['seeded']}, left={left}, next={following} do not fit together"
        )
    return record
