"""Samples of `disttorch.ops.polynomials`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import special

from disttorch.testing.sample import A, Index, Sample, one


def _third_kind(n: Any, x: Any) -> Any:
    return np.where(n == 0, 1, special.eval_chebyu(n, x) - special.eval_chebyu(n - 1, x))


def _fourth_kind(n: Any, x: Any) -> Any:
    return np.where(n == 0, 1, special.eval_chebyu(n, x) + special.eval_chebyu(n - 1, x))


_CHEBYSHEV = {"t": special.eval_chebyt, "u": special.eval_chebyu, "v": _third_kind, "w": _fourth_kind}
_POLYNOMIALS = {
    **{f"chebyshev_polynomial_{kind}": function for kind, function in _CHEBYSHEV.items()},
    **{f"shifted_chebyshev_polynomial_{kind}": lambda n, x, f=f: f(n, 2 * x - 1) for kind, f in _CHEBYSHEV.items()},
    "hermite_polynomial_h": special.eval_hermite, "hermite_polynomial_he": special.eval_hermitenorm,
    "laguerre_polynomial_l": special.eval_laguerre, "legendre_polynomial_p": special.eval_legendre,
}  # fmt: skip


def samples() -> Iterator[Sample]:
    for name, expected in _POLYNOMIALS.items():
        options: dict[str, Any] = {"covers": "special_" + name, "differentiable": False}
        yield from one(name, lambda t, x, n, f=name: getattr(t.special, f)(x, n), A(4, 3), Index(5, 4, 1),
                       expected=lambda x, n, e=expected: e(n, x), **options)  # fmt: skip
        yield from one(name, lambda t, x, f=name: getattr(t.special, f)(x, 3), A(3), **options)
