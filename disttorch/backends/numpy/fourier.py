"""Discrete Fourier transforms, from SciPy, which keeps single precision."""

from __future__ import annotations

import numpy as np

_FORWARD_NORM = {"none": "backward", "root": "ortho", "full": "forward"}
_INVERSE_NORM = {"none": "forward", "root": "ortho", "full": "backward"}


def fft_c2c(x: np.ndarray, dims: tuple[int, ...], forward: bool, scale: str) -> np.ndarray:
    """Transform over `dims`, divided by nothing ("none"), by the root of the number of points or by the number ("full")."""
    from scipy import fft

    if not dims or not x.size:
        return x.astype(np.result_type(x.dtype, np.complex64))
    if forward:
        return fft.fftn(x, axes=dims, norm=_FORWARD_NORM[scale])
    return fft.ifftn(x, axes=dims, norm=_INVERSE_NORM[scale])


def fft_r2c(x: np.ndarray, dims: tuple[int, ...], scale: str) -> np.ndarray:
    """Transform real numbers over `dims`; of the last one only the half that determines the rest."""
    from scipy import fft

    if not x.size:
        shape = list(x.shape)
        shape[dims[-1]] = shape[dims[-1]] // 2 + 1
        return np.zeros(shape, np.result_type(x.dtype, np.complex64))
    return fft.rfftn(x, axes=dims, norm=_FORWARD_NORM[scale])


def fft_c2r(x: np.ndarray, dims: tuple[int, ...], last: int, scale: str) -> np.ndarray:
    """Transform the half that `fft_r2c` leaves back into real numbers, `last` of them along the last dimension."""
    from scipy import fft

    sizes = [*(x.shape[d] for d in dims[:-1]), last]
    if not x.size:
        shape = list(x.shape)
        shape[dims[-1]] = last
        return np.zeros(shape, x.real.dtype)
    return fft.irfftn(x, s=sizes, axes=dims, norm=_INVERSE_NORM[scale])
