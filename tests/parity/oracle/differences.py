"""The operators that do not agree with PyTorch on every sample, each with the reason."""

from __future__ import annotations

_TIES = "the values agree; which of several equal elements an index names is not defined, and PyTorch's choice differs"

DIFFERENCES: dict[str, str] = {
    "argsort": _TIES,
    "as_strided_scatter": (
        "PyTorch keeps the gradient of the input at the elements that were overwritten instead of at the others (its source "
        "calls this not implemented); here it agrees with finite differences"
    ),
    "kthvalue": _TIES,
    "linalg.norm": "the second derivative of a norm at 0 is NaN in PyTorch and 0 here, the derivative of the subgradient 0",
    "logcumsumexp": (
        "the first derivative in float32 and complex64 for inputs up to 10,000: PyTorch's is 3e-3 from the one in float64, "
        "ours 3e-7"
    ),
    "mode": _TIES,
    "renorm": "the gradient for complex numbers and p = inf is NaN in PyTorch",
    "sort": _TIES,
    "special.bessel_j0": "PyTorch's float64 values just above x = 5 are 3e-7 off; here they are SciPy's, exact to 1e-15",
    "special.bessel_y1": "PyTorch's float64 values just above x = 5 are 7e-7 off; here they are SciPy's, exact to 1e-15",
    "topk": _TIES,
}
