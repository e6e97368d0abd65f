"""One LSTM layer over a whole sequence, forward and backward, on NumPy arrays.

Gates in PyTorch's order i, f, g, o:

    i, f, o = sigmoid(...)    g = tanh(...)    c = f * c_prev + i * g    h = o * tanh(c)

(Hochreiter and Schmidhuber, Long Short-Term Memory, 1997, with the forget gate of Gers et al.,
2000.)
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from disttorch.backends.numpy._compiled import compiled
from disttorch.backends.numpy._window import compute_dtype

Reserve = tuple[np.ndarray, np.ndarray, np.ndarray]


def lstm_layer(
    x: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    w_ih: np.ndarray,
    w_hh: np.ndarray,
    b_ih: np.ndarray | None,
    b_hh: np.ndarray | None,
    reverse: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Reserve]:
    """Run an LSTM layer over `x` [T, N, I], from the last step to the first if `reverse`.

    `h0`, `c0` are [N, H], `w_ih` [4H, I], `w_hh` [4H, H], `b_ih`, `b_hh` [4H] or None.
    Returns `(output [T, N, H], h_n [N, H], c_n [N, H], reserve)`; the backward needs `reserve`:
    the gates [T, N, 4H], the cells [T, N, H] and their tanh [T, N, H].
    """
    dtype = compute_dtype(x.dtype)
    steps, batch, hidden = x.shape[0], x.shape[1], w_hh.shape[1]
    flat = x.reshape(steps * batch, x.shape[2]).astype(dtype, copy=False)
    gates = (flat @ w_ih.T.astype(dtype, copy=False)).reshape(steps, batch, 4 * hidden)
    bias = _bias(b_ih, b_hh, 4 * hidden, dtype)
    recurrent = np.ascontiguousarray(w_hh.T, dtype=dtype)
    output = np.empty((steps, batch, hidden), dtype=dtype)
    cells, squashed = np.empty_like(output), np.empty_like(output)
    h, c = h0.astype(dtype, copy=False), c0.astype(dtype, copy=False)
    step = compiled("rnn").step if dtype == np.float32 else _step
    h, c = np.ascontiguousarray(h), np.ascontiguousarray(c)
    z = np.empty((batch, 4 * hidden), dtype=dtype)
    for t in _order(steps, reverse):
        np.matmul(h, recurrent, out=z)
        step(z, bias, gates[t], c, cells[t], squashed[t], output[t])
        h, c = output[t], cells[t]
    cast = x.dtype
    return (
        output.astype(cast, copy=False),
        h.astype(cast, copy=True),
        c.astype(cast, copy=True),
        (gates, cells, squashed),
    )


def lstm_layer_grad(
    g_output: np.ndarray | None,
    g_h_n: np.ndarray | None,
    g_c_n: np.ndarray | None,
    x: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    w_ih: np.ndarray,
    w_hh: np.ndarray,
    reserve: Reserve,
    reverse: bool = False,
    need_x: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of `lstm_layer`: `(g_x, g_h0, g_c0, g_w_ih, g_w_hh, g_b)`.

    `g_b` [4H] is the gradient of either bias. Any of the incoming gradients may be None, for zero.
    `g_x` is None unless `need_x`: the first layer's input needs none.
    """
    gates, cells, squashed = reserve
    dtype = gates.dtype
    (steps, batch, inputs), hidden = x.shape, w_hh.shape[1]
    dz = np.empty_like(gates)
    dh, dc = _start(g_h_n, h0.shape, dtype), _start(g_c_n, h0.shape, dtype)
    recurrent = w_hh.astype(dtype, copy=False)
    order = list(_order(steps, reverse))
    first = np.ascontiguousarray(c0, dtype=dtype)
    step_grad = compiled("rnn").step_grad if dtype == np.float32 else _step_grad
    more = np.zeros((batch, hidden), dtype=dtype)
    if g_output is not None:
        g_output = np.ascontiguousarray(g_output, dtype=dtype)
    for at in range(steps - 1, -1, -1):
        t = order[at]
        before = cells[order[at - 1]] if at else first
        step_grad(dz[t], dh, more if g_output is None else g_output[t], dc, gates[t], before, squashed[t])
        np.matmul(dz[t], recurrent, out=dh)
    previous = _previous_outputs(gates, squashed, h0, order)
    flat = dz.reshape(steps * batch, 4 * hidden)
    g_x = None
    if need_x:
        g_x = (flat @ w_ih.astype(dtype, copy=False)).reshape(x.shape).astype(x.dtype, copy=False)
    g_w_ih = flat.T @ x.reshape(steps * batch, inputs).astype(dtype, copy=False)
    g_w_hh = flat.T @ previous.reshape(steps * batch, hidden)
    rest = (dh, dc, g_w_ih, g_w_hh, flat.sum(axis=0))
    g_h, g_c, g_ih, g_hh, g_b = (grad.astype(x.dtype, copy=False) for grad in rest)
    return g_x, g_h, g_c, g_ih, g_hh, g_b


def _order(steps: int, reverse: bool) -> Iterable[int]:
    return range(steps - 1, -1, -1) if reverse else range(steps)


def _bias(b_ih: np.ndarray | None, b_hh: np.ndarray | None, size: int, dtype: np.dtype) -> np.ndarray:
    """Sum of both biases, zero where they are None."""
    bias = np.zeros(size, dtype=dtype)
    for part in (b_ih, b_hh):
        if part is not None:
            bias += part
    return bias


def _step(
    z: np.ndarray,
    bias: np.ndarray,
    gates: np.ndarray,
    c: np.ndarray,
    cell: np.ndarray,
    squashed: np.ndarray,
    output: np.ndarray,
) -> None:
    """Sum and squash `gates` [N, 4H] in place; fill one step's cell, its tanh and the output."""
    gates += z
    gates += bias
    hidden = c.shape[1]
    parts = gates.reshape(-1, 4, hidden)
    for gate in (0, 1, 3):
        parts[:, gate] *= 0.5
    np.tanh(parts, out=parts)
    for gate in (0, 1, 3):
        parts[:, gate] *= 0.5
        parts[:, gate] += 0.5
    np.multiply(parts[:, 1], c, out=cell)
    cell += parts[:, 0] * parts[:, 2]
    np.tanh(cell, out=squashed)
    np.multiply(parts[:, 3], squashed, out=output)


def _step_grad(
    dz: np.ndarray,
    dh: np.ndarray,
    more: np.ndarray,
    dc: np.ndarray,
    gates: np.ndarray,
    before: np.ndarray,
    squashed: np.ndarray,
) -> None:
    """Fill `dz` [N, 4H], the gradient before squashing, and take `dc` in place one step back."""
    dh = dh + more
    hidden = dh.shape[1]
    i, f, g, o = gates.reshape(-1, 4, hidden).swapaxes(0, 1)
    out = dz.reshape(-1, 4, hidden)
    dc += dh * o * (1 - squashed * squashed)
    out[:, 0] = dc * g * i * (1 - i)
    out[:, 1] = dc * before * f * (1 - f)
    out[:, 2] = dc * i * (1 - g * g)
    out[:, 3] = dh * squashed * o * (1 - o)
    dc *= f


def _start(grad: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A fresh array to accumulate in: a copy of `grad`, or zeros."""
    return np.zeros(shape, dtype=dtype) if grad is None else grad.astype(dtype, copy=True)


def _previous_outputs(gates: np.ndarray, squashed: np.ndarray, h0: np.ndarray, order: list[int]) -> np.ndarray:
    """The hidden state that entered each step, [T, N, H], rebuilt from `h = o * tanh(c)`."""
    hidden = squashed.shape[2]
    previous = np.empty_like(squashed)
    previous[order[0]] = h0
    o = gates[:, :, 3 * hidden :]
    if order[0] == 0:
        np.multiply(o[:-1], squashed[:-1], out=previous[1:])
    else:
        np.multiply(o[1:], squashed[1:], out=previous[:-1])
    return previous
