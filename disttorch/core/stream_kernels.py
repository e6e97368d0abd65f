"""From the words of a Mersenne Twister to PyTorch's random values: pure functions of arrays.

`words` is always a flat uint64 array with one 32-bit word per element, as
`np.random.MT19937.random_raw` returns it. Everything follows the arithmetic of PyTorch's x86-64
kernels (AVX2 or newer), down to where a multiply and an add are fused into one rounding.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_LARGEST_EXPONENT = math.log(sys.float_info.max)


def words64(words: Words) -> Words:
    """Return one 64-bit number per two words, the first word being the high half."""
    return (words[0::2] << np.uint64(32)) | words[1::2]


def uniform24(words: Words) -> Float32:
    """Return one float32 in [0, 1) per word: its low 24 bits, scaled."""
    bits = (words & np.uint64(0xFFFFFF)).view(np.int64)
    result = bits.astype(np.float32)
    result *= np.float32(2.0**-24)
    return result


def uniform53(words: Words) -> Float64:
    """Return one float64 in [0, 1) per two words: the low 53 bits of the 64, scaled."""
    bits = ((words[0::2] & np.uint64(0x1FFFFF)) << np.uint64(32)) | words[1::2]
    result = bits.view(np.int64).astype(np.float64)
    result *= 2.0**-53
    return result


def _two_sum(a: Float64, b: Float64 | float) -> tuple[Float64, Float64]:
    """Return a + b and its rounding error (Knuth)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def _sum_to_odd(a: Float64, b: Float64 | float) -> Float64:
    """Return a + b rounded to odd: where the sum is inexact, the neighbour with an odd last bit.

    Rounding that to nearest in a narrower type gives the correct rounding of the exact sum.
    """
    total, error = _two_sum(a, b)
    bits = total.view(np.int64)
    # Away from zero where the error has the sign of the sum, else towards it.
    step = np.where((error > 0) == (total > 0), 1, -1)
    bits += step * ((np.abs(error) > 0) & ((bits & 1) == 0))
    return total


def _split(x: Any) -> tuple[Any, Any]:
    """Return x as high + low, each of at most 26 significant bits (Veltkamp)."""
    scaled = 134217729.0 * x
    high = scaled - (scaled - x)
    return high, x - high


@np.errstate(over="ignore", invalid="ignore")
def fused64(x: Float64, factor: float, addend: float) -> Float64:
    """Return x * factor + addend with one rounding, in float64 (after Boldo and Melquiond, 2008).

    With a factor of extreme size, whose product has no exact error term, it is rounded twice.
    """
    product = x * factor
    if addend == 0.0 or not 1e-150 < abs(factor) < 1e150 or abs(math.frexp(factor)[0]) == 0.5:
        return product + addend
    x_high, x_low = _split(x)
    f_high, f_low = _split(factor)
    residue = ((x_high * f_high - product) + x_high * f_low + x_low * f_high) + x_low * f_low
    total, rest = _two_sum(product, addend)
    return total + _sum_to_odd(rest, residue)


@np.errstate(over="ignore", invalid="ignore")
def fused32(x: Float32, factor: float, addend: float) -> Float32:
    """Return x * factor + addend with one rounding, in float32 (so are the scalars, first)."""
    factor, addend = float(np.float32(factor)), float(np.float32(addend))
    product = x.astype(np.float64) * factor
    exact = product + addend if addend == 0.0 else _sum_to_odd(product, addend)
    return exact.astype(np.float32)


def libm(name: str, x: Float64, exact: bool = True) -> Float64:
    """Return the function `name` of `math` for each element of a flat array.

    PyTorch calls the C library here; NumPy's vector versions are faster but may differ in the last
    bit. `exact=False` takes those, for results that are rounded to a narrower type afterwards.
    """
    if not exact:
        return getattr(np, name)(x)
    return np.fromiter(map(getattr(math, name), x.tolist()), np.float64, x.size)


def exp(x: Float64, exact: bool = True) -> Float64:
    """Return e to the power of x, infinity where that overflows."""
    with np.errstate(over="ignore"):
        if not exact:
            return np.exp(x)
    result = libm("exp", np.minimum(x, _LARGEST_EXPONENT))
    result[x > _LARGEST_EXPONENT] = math.inf
    return result


def narrow(values: Float64 | Float32, kind: np.dtype) -> NDArray[Any]:
    """Return values in an equal or narrower floating type, the half types by way of float32."""
    if kind == values.dtype:
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False).astype(kind, copy=False)


def integers_to(values: Int64, kind: np.dtype) -> NDArray[Any]:
    """Return int64 values in another type; the half types are reached by way of float32."""
    if kind.kind in "biu" or kind == np.float64:
        return values.astype(kind, copy=False)
    return values.astype(np.float32).astype(kind, copy=False)


def normal_pairs(words: Words) -> Float64:
    """Return standard normal float64 numbers, two per four words, in drawing order (Box-Muller)."""
    u = uniform53(words)
    radius = np.sqrt(-2.0 * libm("log1p", -u[1::2]))
    theta = (2.0 * math.pi) * u[0::2]
    result = np.empty(u.size)
    result[0::2] = radius * libm("cos", theta)
    result[1::2] = radius * libm("sin", theta)
    return result


def normal_blocks64(words: Words, mean: float, std: float) -> Float64:
    """Return normal float64 numbers, 16 per 32 words: eight cosines, then their eight sines."""
    u = uniform53(words).reshape(-1, 2, 8)
    radius = np.sqrt(-2.0 * libm("log", (1.0 - u[:, 0]).ravel()))
    theta = ((2.0 * math.pi) * u[:, 1]).ravel()
    result = np.empty_like(u)
    result[:, 0] = (radius * libm("cos", theta)).reshape(-1, 8)
    result[:, 1] = (radius * libm("sin", theta)).reshape(-1, 8)
    return fused64(result.ravel(), std, mean)


def normal_blocks32(words: Words, mean: float, std: float) -> Float32:
    """Return normal float32 numbers, 16 per 16 words: eight cosines, then their eight sines.

    PyTorch uses single-precision polynomials from Cephes (Moshier) with fused multiply-adds. They
    are repeated here step by step, in float64 arrays that hold float32 values: a product of two
    such values is exact, so rounding `a * b + c` once is the fused result.
    """
    u = uniform24(words).reshape(-1, 2, 8)
    radius = _round32(np.sqrt(_round32(-2.0 * _log32(np.float32(1.0) - u[:, 0]))))
    sine, cosine = _sincos32(_round32(_TWO_PI * u[:, 1].astype(np.float64)))
    result = np.empty(u.shape, np.float32)
    result[:, 0] = radius * cosine
    result[:, 1] = radius * sine
    return fused32(result.ravel(), std, mean)


def _constants(*values: float) -> tuple[float, ...]:
    return tuple(float(np.float32(v)) for v in values)


_TWO_PI, _FOUR_OVER_PI, _SQRT_HALF = _constants(2 * math.pi, 4 / math.pi, math.sqrt(0.5))
_LOG = _constants(
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_LN2_LOW, _LN2_HIGH = _constants(-2.12194440e-4, 0.693359375)
_COS = _constants(2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_SIN = _constants(-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_MINUS_PI_OVER_4 = _constants(-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)


def _round32(x: Float64) -> Float64:
    return x.astype(np.float32).astype(np.float64)


def _horner(coefficients: tuple[float, ...], x: Float64) -> Float64:
    """Return ((c0 x + c1) x + ...) x, rounded to float32 after each step."""
    y = _round32(coefficients[0] * x + coefficients[1])
    for c in coefficients[2:]:
        y = _round32(y * x + c)
    return _round32(y * x)


def _log32(u: Float32) -> Float64:
    """Return ln u for float32 u in (0, 1]."""
    fraction, exponent = np.frexp(u)
    below = fraction < _SQRT_HALF
    e = (exponent - below).astype(np.float64)
    x = fraction * (1.0 + below) - 1.0
    z = _round32(x * x)
    y = _round32(_horner(_LOG, x) * z + _round32(e * _LN2_LOW))
    y = _round32(y - 0.5 * z)
    return _round32(e * _LN2_HIGH + _round32(x + y))


def _sincos32(theta: Float64) -> tuple[Float64, Float64]:
    """Return sin and cos of float32 angles in [0, 2 pi]."""
    octant = (_round32(theta * _FOUR_OVER_PI).astype(np.int32) + 1) & ~1
    x = theta
    for part in _MINUS_PI_OVER_4:
        x = _round32(octant * part + x)
    z = _round32(x * x)
    cosine = _round32(_round32(_horner(_COS, z) * z - 0.5 * z) + 1.0)
    sine = _round32(_horner(_SIN, z) * x + x)
    swap = (octant & 2) != 0
    sine_sign = 1.0 - ((octant & 4) >> 1)
    cosine_sign = 1.0 - (((octant + 2) & 4) >> 1)
    return np.where(swap, cosine, sine) * sine_sign, np.where(swap, sine, cosine) * cosine_sign


def shuffle(targets: Int64) -> Int64:
    """Return what swapping r[i] with r[targets[i]] for i = 0, 1, ... makes of r = 0, 1, ..., n - 1.

    targets: int64 [n] with i <= targets[i] < n. The swaps are not carried out one by one. The value
    that stands at position p when step p begins was put there by the last step j < p that swapped
    into p, and is what stood at position j when step j began, and so on: a chain that is followed
    for all positions at once by pointer doubling. Step i then takes out of position targets[i]
    what the previous step with the same target has put in.
    """
    n = targets.size
    steps = np.arange(n)
    origin = steps.copy()
    moved = np.flatnonzero(targets != steps)
    origin[targets[moved]] = moved  # the last of equal targets stays
    while True:
        further = origin[origin]
        if np.array_equal(further, origin):
            break
        origin = further
    keys = np.sort((targets << 32) | steps)
    order, position = keys & 0xFFFFFFFF, keys >> 32
    taken = position.copy()
    again = np.flatnonzero(position[1:] == position[:-1])
    taken[again + 1] = origin[order[again]]
    result = np.empty(n, np.int64)
    result[order] = taken
    return result


def cumulative(p: NDArray[Any]) -> Float64:
    """Return the cumulative distribution along the last axis, summed one by one in the type of `p`
    (the half types in float32). Raises RuntimeError for what is no distribution."""
    wide = p if p.dtype == np.float64 else p.astype(np.float32)
    if not np.all(wide >= 0):
        raise RuntimeError("invalid multinomial distribution (encountering probability entry < 0)")
    if not np.all(np.isfinite(wide)):
        raise RuntimeError("invalid multinomial distribution (encountering probability entry = infinity or NaN)")
    total = np.cumsum(wide, axis=-1)
    if wide.shape[-1] == 0 or not np.all(total[..., -1] > 0):
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    total /= total[..., -1:].copy()
    total[..., -1] = 1
    return total.astype(np.float64)
