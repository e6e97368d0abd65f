"""One LSTM layer over a whole sequence, forward and backward (see the CPU's kernel for formulas and sources)."""

from __future__ import annotations

from typing import Any

from disttorch.backends.cupy._library import compute_dtype, extension, library


def lstm_layer(
    x: Any, h0: Any, c0: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, reverse: bool = False
) -> tuple[Any, Any, Any, Any]:
    """Run an LSTM layer over `x` [T, N, I], from the last step to the first if `reverse`.

    `h0`, `c0` are [N, H], `w_ih` [4H, I], `w_hh` [4H, H], `b_ih`, `b_hh` [4H] or None. Returns `(output [T, N, H],
    h_n, c_n, reserve)`; the backward needs `reserve`: gates [T, N, 4H], cells and their tanh [T, N, H].
    """
    xp, dtype = library(x), compute_dtype(x.dtype)
    expit = extension(x).scipy.special.expit
    steps, hidden = x.shape[0], w_hh.shape[1]
    gates = x.astype(dtype, copy=False) @ w_ih.T.astype(dtype, copy=False)
    for bias in (b_ih, b_hh):
        if bias is not None:
            gates += bias.astype(dtype, copy=False)
    recurrent = w_hh.T.astype(dtype, copy=False)
    output = xp.empty((steps, x.shape[1], hidden), dtype)
    cells, squashed = xp.empty_like(output), xp.empty_like(output)
    h, c = h0.astype(dtype, copy=False), c0.astype(dtype, copy=False)
    for t in _order(steps, reverse):
        parts = (gates[t] + h @ recurrent).reshape(-1, 4, hidden)
        i, f, o = (expit(parts[:, k]) for k in (0, 1, 3))
        candidate = xp.tanh(parts[:, 2])
        c = f * c + i * candidate
        gates[t] = xp.stack([i, f, candidate, o], 1).reshape(-1, 4 * hidden)
        cells[t], squashed[t] = c, xp.tanh(c)
        output[t] = h = o * squashed[t]
    cast = x.dtype
    return (
        output.astype(cast, copy=False),
        h.astype(cast, copy=True),
        c.astype(cast, copy=True),
        (gates, cells, squashed),
    )


def lstm_layer_grad(
    g_output: Any,
    g_h_n: Any,
    g_c_n: Any,
    x: Any,
    h0: Any,
    c0: Any,
    w_ih: Any,
    w_hh: Any,
    reserve: Any,
    reverse: bool = False,
    need_x: bool = True,
) -> tuple[Any, ...]:
    """Gradients of `lstm_layer`: `(g_x, g_h0, g_c0, g_w_ih, g_w_hh, g_b)`; `g_x` is None unless `need_x`."""
    xp = library(x)
    gates, cells, squashed = reserve
    dtype, hidden = gates.dtype, w_hh.shape[1]
    order = list(_order(x.shape[0], reverse))
    dz = xp.empty_like(gates)
    dh, dc = (xp.zeros(h0.shape, dtype) if g is None else g.astype(dtype) for g in (g_h_n, g_c_n))
    previous = xp.empty_like(squashed)
    for at in range(len(order) - 1, -1, -1):
        t = order[at]
        i, f, candidate, o = (gates[t].reshape(-1, 4, hidden)[:, k] for k in range(4))
        before = cells[order[at - 1]] if at else c0.astype(dtype)
        previous[t] = _output(gates, squashed, order[at - 1], hidden) if at else h0
        if g_output is not None:
            dh = dh + g_output[t].astype(dtype, copy=False)
        dc = dc + dh * o * (1 - squashed[t] * squashed[t])
        parts = [dc * candidate * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - candidate * candidate),
                 dh * squashed[t] * o * (1 - o)]  # fmt: skip
        dz[t] = xp.stack(parts, 1).reshape(-1, 4 * hidden)
        dh, dc = dz[t] @ w_hh.astype(dtype, copy=False), dc * f
    flat = dz.reshape(-1, 4 * hidden)
    g_x = (dz @ w_ih.astype(dtype, copy=False)).astype(x.dtype, copy=False) if need_x else None
    g_w_ih = flat.T @ x.reshape(len(flat), x.shape[2]).astype(dtype, copy=False)
    g_w_hh = flat.T @ previous.reshape(len(flat), hidden)
    rest = (dh, dc, g_w_ih, g_w_hh, flat.sum(axis=0))
    return (g_x, *(grad.astype(x.dtype, copy=False) for grad in rest))


def _order(steps: int, reverse: bool) -> range:
    return range(steps - 1, -1, -1) if reverse else range(steps)


def _output(gates: Any, squashed: Any, t: int, hidden: int) -> Any:
    return gates[t][:, 3 * hidden :] * squashed[t]
