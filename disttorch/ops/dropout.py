"""Dropout of elements and of whole channels, with the numbers that PyTorch draws from the same seed."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.core.stream import default_stream
from disttorch.ops.define import expect_tensor, operator
from disttorch.ops.registry import traced
from disttorch.ops.write import inplace as in_place

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]

_ALPHA = 1.7580993408473766
"""What alpha dropout puts in the place of an element, negated: the limit of SELU at minus infinity."""


@operator(1, name="scale_by", grad_name="MulBackward0")
def _scale_by(xp, x, mask):
    return x * (mask if xp is np else xp.asarray(mask))


@_scale_by.vjp
def _(F, g, mask):
    return F.scale_by(g, mask)


def _masked(input: Tensor, mask: Any, shift: Any) -> Tensor:
    y = _scale_by(input, mask)
    return y if shift is None else traced.add(y, wrap(shift))


_masked_ = in_place(_masked)


def _dropped(
    function: str, input: Tensor, p: float, training: bool, inplace: bool, features: bool = False, alpha: bool = False
) -> Tensor:
    """Return the input as one dropout or another leaves it; `features` are dropped as a whole."""
    x = expect_tensor(input, function)._a
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0 or not x.size:
        return input
    if features and x.ndim < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    shape = (*x.shape[:2], *(1 for _ in x.shape[2:])) if features else x.shape
    mask, shift = _mask(p, shape, x.dtype, alpha)
    if type(x) is not np.ndarray:
        mask, shift = (None if a is None else backend_of(x).namespace.asarray(a) for a in (mask, shift))
    return _masked_(input, mask, shift) if inplace else _masked(input, mask, shift)


def _mask(p: float, shape: tuple[int, ...], dtype: np.dtype, alpha: bool) -> tuple[Any, Any]:
    """Return what to multiply by, and what to add (or None)."""
    if p == 1:
        return np.zeros(shape, dtype), None
    mask = default_stream.bernoulli(1 - p, shape, dtype)
    if not alpha:
        mask /= dtype.type(1 - p)
        return mask, None
    a = 1 / math.sqrt((_ALPHA * _ALPHA * p + 1) * (1 - p))
    shift = (mask - dtype.type(1)) * dtype.type(_ALPHA * a) + dtype.type(_ALPHA * a * p)
    return mask * dtype.type(a), shift


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, set each element to zero with probability `p` and divide the others by 1 - p (arXiv:1207.0580)."""
    return _dropped("dropout", input, p, training, inplace)


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """In training, drop elements with probability `p` so that mean and variance stay as they are (arXiv:1706.02515)."""
    return _dropped("alpha_dropout", input, p, training, inplace, alpha=True)


def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """In training, drop whole channels of input [N, C, *] as `alpha_dropout` drops elements."""
    return _dropped("feature_alpha_dropout", input, p, training, inplace, features=True, alpha=True)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, set whole channels of input [N, C, L] or [C, L] to zero with probability `p`, scaling the others."""
    ndim = expect_tensor(input, "dropout1d")._a.ndim
    if ndim not in (2, 3):
        raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {ndim}D input; see `dropout`")
    return _unbatched("dropout1d", input, p, training, inplace, batched=ndim == 3)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, set whole channels of input [N, C, H, W] to zero with probability `p`, scaling the others."""
    ndim = expect_tensor(input, "dropout2d")._a.ndim
    if ndim != 4:
        warnings.warn(
            f"dropout2d: Received a {ndim}-D input to dropout2d and takes its second dimension for the channels. Use dropout1d "
            "for [N, C, L], dropout for elements.",
            UserWarning,
            stacklevel=2,
        )
    return _dropped("dropout2d", input, p, training, inplace, features=True)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, set whole channels of input [N, C, D, H, W] or [C, D, H, W] to zero with probability `p`."""
    ndim = expect_tensor(input, "dropout3d")._a.ndim
    if ndim not in (4, 5):
        warnings.warn(
            f"dropout3d: Received a {ndim}-D input to dropout3d, which is deprecated. Use dropout for elements.",
            UserWarning,
            stacklevel=2,
        )
    return _unbatched("dropout3d", input, p, training, inplace, batched=ndim != 4)


def _unbatched(function: str, input: Tensor, p: float, training: bool, inplace: bool, batched: bool) -> Tensor:
    """Drop channels, the first dimension of an input that is not `batched`."""
    if batched:
        return _dropped(function, input, p, training, inplace, features=True)
    dropped = _dropped(function, traced.unsqueeze(input, 0), p, training, inplace, features=True)
    return input if inplace else traced.squeeze(dropped, (0,))
