"""exp of float32 in a form that LLVM turns into vector code (imports Numba: load lazily)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, float32

from disttorch.backends.numpy._njit import njit

_intrinsic: Any = extending.intrinsic
_F32, _I32 = ir.FloatType(), ir.IntType(32)
_ROUND = float32(12582912.0)  # 1.5 * 2**23: adding it leaves the nearest integer in the low bits
_LOG2_E = float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = float32(0.693359375), float32(-2.12194440e-4)
_LOWEST, _HIGHEST = float32(-104.0), float32(89.0)


@_intrinsic
def _times_power(typing: Any, value: Any, rounded: Any) -> Any:
    """`value * 2**n` for `rounded = _ROUND + n`, in two steps so that 2**n itself may overflow."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[1], _I32)
        n = builder.sub(bits, _I32(0x4B400000))
        half = builder.ashr(n, _I32(1))
        result = args[0]
        for part in (half, builder.sub(n, half)):
            power = builder.shl(builder.add(part, _I32(127)), _I32(23))
            result = builder.fmul(result, builder.bitcast(power, _F32))
        return result

    return float32(float32, float32), codegen


@_intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger of two numbers, either one if any is NaN: so that LLVM can reduce with it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        flags = ("nnan", "nsz")
        first = builder.fcmp_ordered(">", args[0], args[1], flags=flags)
        return builder.select(first, args[0], args[1], flags=flags)

    return a(a, a), codegen


@njit(nogil=True, fastmath={"contract"})
def exp(x: Any) -> Any:
    """e**x of a float32, within 2 units in the last place; NaN stays NaN."""
    x = _HIGHEST if x > _HIGHEST else x
    x = _LOWEST if x < _LOWEST else x
    rounded = x * _LOG2_E + _ROUND
    n = rounded - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = float32(1.9875691500e-4)
    p = p * r + float32(1.3981999507e-3)
    p = p * r + float32(8.3334519073e-3)
    p = p * r + float32(4.1665795894e-2)
    p = p * r + float32(1.6666665459e-1)
    p = p * r + float32(5.0000001201e-1)
    p = p * r * r + r + float32(1.0)
    return _times_power(p, rounded)
