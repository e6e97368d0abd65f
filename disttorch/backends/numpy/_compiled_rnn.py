"""The pointwise part of one LSTM step in float32 (imports Numba: load lazily)."""

from __future__ import annotations

import numpy as np

from disttorch.backends.numpy._compiled_math import exp
from disttorch.backends.numpy._njit import njit

_ONE, _TWO = np.float32(1), np.float32(2)


@njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _sigmoid(row: np.ndarray, more: np.ndarray, bias: np.ndarray) -> None:
    """`sigmoid(row + more + bias)` in place."""
    for j in range(row.size):
        row[j] = _ONE / (_ONE + exp(-(row[j] + more[j] + bias[j])))


@njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _tanh(row: np.ndarray, more: np.ndarray, bias: np.ndarray) -> None:
    """`tanh(row + more + bias)` in place."""
    for j in range(row.size):
        row[j] = _ONE - _TWO / (_ONE + exp(_TWO * (row[j] + more[j] + bias[j])))


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def step(
    z: np.ndarray,
    bias: np.ndarray,
    gates: np.ndarray,
    c: np.ndarray,
    cell: np.ndarray,
    squashed: np.ndarray,
    output: np.ndarray,
) -> None:
    """Add `z` [N, 4H] and `bias` [4H] to `gates`, squash them in place, fill cell, its tanh and
    output.

    The loops are kept apart so that each has few enough arrays for LLVM to check that they do not
    overlap.
    """
    hidden = c.shape[1]
    for n in range(c.shape[0]):
        row, more = gates[n], z[n]
        two, three = 2 * hidden, 3 * hidden
        _sigmoid(row[:two], more[:two], bias[:two])
        _tanh(row[two:three], more[two:three], bias[two:three])
        _sigmoid(row[three:], more[three:], bias[three:])
        before, now, t, h = c[n], cell[n], squashed[n], output[n]
        for j in range(hidden):
            now[j] = row[hidden + j] * before[j] + row[j] * row[two + j]
        for j in range(hidden):
            t[j] = _ONE - _TWO / (_ONE + exp(_TWO * now[j]))
        for j in range(hidden):
            h[j] = row[three + j] * t[j]


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def step_grad(
    dz: np.ndarray,
    dh: np.ndarray,
    more: np.ndarray,
    dc: np.ndarray,
    gates: np.ndarray,
    before: np.ndarray,
    squashed: np.ndarray,
) -> None:
    """Fill `dz` [N, 4H] for the output gradient `dh + more`; take `dc` [N, H] one step back."""
    hidden = dh.shape[1]
    for n in range(dh.shape[0]):
        row, out = gates[n], dz[n]
        i, f, g, o = row[:hidden], row[hidden:], row[2 * hidden :], row[3 * hidden :]
        di, df, dg, do = out[:hidden], out[hidden:], out[2 * hidden :], out[3 * hidden :]
        for j in range(hidden):
            h, t = dh[n, j] + more[n, j], squashed[n, j]
            c = dc[n, j] + h * o[j] * (_ONE - t * t)
            di[j] = c * g[j] * i[j] * (_ONE - i[j])
            df[j] = c * before[n, j] * f[j] * (_ONE - f[j])
            dg[j] = c * i[j] * (_ONE - g[j] * g[j])
            do[j] = h * t * o[j] * (_ONE - o[j])
            dc[n, j] = c * f[j]
