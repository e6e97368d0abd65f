"""Orthogonal polynomials, by the recurrences of https://dlmf.nist.gov/18.9. As in PyTorch they have no derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor
from disttorch.ops.arithmetic import not_for, takes_numbers
from disttorch.ops.define import binary

__all__ = [
    "chebyshev_polynomial_t", "chebyshev_polynomial_u", "chebyshev_polynomial_v", "chebyshev_polynomial_w",
    "hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p",
    "shifted_chebyshev_polynomial_t", "shifted_chebyshev_polynomial_u", "shifted_chebyshev_polynomial_v",
    "shifted_chebyshev_polynomial_w",
]  # fmt: skip

First = Callable[[Any], Any]
Step = Callable[[int, Any, Any, Any], Any]


def _polynomial(name: str, first: First, step: Step, doc: str, shift: bool = False) -> Any:
    """Return the function of (x, n) that is 1 for n = 0, first(x) for n = 1, and step(k, x, p(k), p(k - 1)) for k + 1.

    With `shift` the variable is 2 x - 1.
    """

    def kernel(xp, x, n):
        not_for(name + "_cpu", x, "c")
        wide = xp.asarray(x).astype(np.float64)
        values = _evaluate(xp, wide * 2 - 1 if shift else wide, xp.asarray(n).astype(np.int64), first, step)
        return values.astype(x.dtype)

    kernel.__doc__ = doc
    label = f"special_{name}"
    pointwise = binary(float_result=True, name=label, check=takes_numbers(label, "either"))(kernel)

    def polynomial(input: Tensor, n: Any, *, out: Tensor | None = None) -> Tensor:
        return pointwise(input, n, out=out)

    polynomial.__name__ = polynomial.__qualname__ = name
    polynomial.__doc__ = doc
    return polynomial


def _evaluate(xp: Any, x: Any, n: Any, first: First, step: Step) -> Any:
    x, n = xp.broadcast_arrays(x, n)
    previous, current = xp.ones_like(x), first(x)
    result = xp.where(n > 0, current, (n == 0) * 1.0)
    for k in range(1, int(n.max()) if n.size else 0):
        previous, current = current, step(k, x, current, previous)
        result = xp.where(n > k, current, result)
    return result


def _chebyshev_step(k: int, x: Any, p: Any, before: Any) -> Any:
    return 2 * x * p - before


_CHEBYSHEV: dict[str, tuple[First, str]] = {
    "t": (lambda x: x, "first"), "u": (lambda x: 2 * x, "second"), "v": (lambda x: 2 * x - 1, "third"),
    "w": (lambda x: 2 * x + 1, "fourth"),
}  # fmt: skip


def _chebyshev(kind: str) -> tuple[Any, Any]:
    """Return the Chebyshev polynomial of a kind, and the shifted one."""
    first, ordinal = _CHEBYSHEV[kind]
    name = f"chebyshev_polynomial_{kind}"
    doc = f"Return the Chebyshev polynomial of the {ordinal} kind and of degree n at each element"
    return (
        _polynomial(name, first, _chebyshev_step, doc + "."),
        _polynomial("shifted_" + name, first, _chebyshev_step, doc + " x of [0, 1], that is at 2 x - 1.", shift=True),
    )


chebyshev_polynomial_t, shifted_chebyshev_polynomial_t = _chebyshev("t")
chebyshev_polynomial_u, shifted_chebyshev_polynomial_u = _chebyshev("u")
chebyshev_polynomial_v, shifted_chebyshev_polynomial_v = _chebyshev("v")
chebyshev_polynomial_w, shifted_chebyshev_polynomial_w = _chebyshev("w")

hermite_polynomial_h = _polynomial(
    "hermite_polynomial_h",
    lambda x: 2 * x,
    lambda k, x, p, before: 2 * (x * p - k * before),
    "Return the physicist's Hermite polynomial of degree n at each element.",
)
hermite_polynomial_he = _polynomial(
    "hermite_polynomial_he",
    lambda x: x,
    lambda k, x, p, before: x * p - k * before,
    "Return the probabilist's Hermite polynomial of degree n at each element.",
)
laguerre_polynomial_l = _polynomial(
    "laguerre_polynomial_l",
    lambda x: 1 - x,
    lambda k, x, p, before: ((2 * k + 1 - x) * p - k * before) / (k + 1),
    "Return the Laguerre polynomial of degree n at each element.",
)
legendre_polynomial_p = _polynomial(
    "legendre_polynomial_p",
    lambda x: x,
    lambda k, x, p, before: ((2 * k + 1) * x * p - k * before) / (k + 1),
    "Return the Legendre polynomial of degree n at each element.",
)
