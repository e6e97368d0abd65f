"""Discrete Fourier transforms, from `cupyx.scipy.fft`, which keeps single precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.backends.cupy._library import extension, library

_FORWARD_NORM = {"none": "backward", "root": "ortho", "full": "forward"}
_INVERSE_NORM = {"none": "forward", "root": "ortho", "full": "backward"}


def fft_c2c(x: Any, dims: tuple[int, ...], forward: bool, scale: str) -> Any:
    """Transform over `dims`, divided by nothing ("none"), by the root of the number of points or by the number ("full")."""
    if not dims or not x.size:
        return x.astype(np.result_type(x.dtype, np.complex64))
    fft = extension(x).scipy.fft
    if forward:
        return fft.fftn(x, axes=dims, norm=_FORWARD_NORM[scale])
    return fft.ifftn(x, axes=dims, norm=_INVERSE_NORM[scale])


def fft_r2c(x: Any, dims: tuple[int, ...], scale: str) -> Any:
    """Transform real numbers over `dims`; of the last one only the half that determines the rest."""
    if not x.size:
        shape = list(x.shape)
        shape[dims[-1]] = shape[dims[-1]] // 2 + 1
        return library(x).zeros(shape, np.result_type(x.dtype, np.complex64))
    return extension(x).scipy.fft.rfftn(x, axes=dims, norm=_FORWARD_NORM[scale])


def fft_c2r(x: Any, dims: tuple[int, ...], last: int, scale: str) -> Any:
    """Transform the half that `fft_r2c` leaves back into real numbers, `last` of them along the last dimension."""
    sizes = [*(x.shape[d] for d in dims[:-1]), last]
    if not x.size:
        shape = list(x.shape)
        shape[dims[-1]] = last
        return library(x).zeros(shape, x.real.dtype)
    return extension(x).scipy.fft.irfftn(x, s=sizes, axes=dims, norm=_INVERSE_NORM[scale])
