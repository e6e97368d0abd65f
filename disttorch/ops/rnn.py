"""The long short-term memory: a fused operator for one layer, and the whole stack."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.backends import kernels_of
from disttorch.ops.composite import composite_vjp
from disttorch.ops.define import operator
from disttorch.ops.dropout import dropout
from disttorch.ops.join import cat, stack
from disttorch.ops.linalg import linear
from disttorch.ops.registry import both, traced

__all__: list[str] = []


@operator(6, differentiable=3)
def lstm_layer(xp, x, h0, c0, w_ih, w_hh, bias, reverse):
    """Run one LSTM layer over x [T, N, I]; h0 and c0 [N, H], w_ih [4H, I], w_hh [4H, H], bias [4H] or None.

    Return the hidden states [T, N, H], the last h and c, and what the derivative needs (gates, cells, their tanh).
    """
    output, h, c, reserve = kernels_of(x).lstm_layer(x, h0, c0, w_ih, w_hh, bias, None, reverse)
    return (output, h, c, *reserve)


@lstm_layer.vjp
def _(F, g, x, h0, c0, w_ih, w_hh, bias, out3, out4, out5, reverse):
    return F.lstm_layer_grad(g[:3], (x, h0, c0, w_ih, w_hh, bias), (out3, out4, out5), reverse)


def _grad_on_arrays(g: Any, inputs: Any, reserve: Any, reverse: bool) -> Any:
    x, h0, c0, w_ih, w_hh, bias = inputs
    found = kernels_of(x).lstm_layer_grad(*g, x, h0, c0, w_ih, w_hh, reserve, reverse)
    return (*found[:5], None if bias is None else found[5])


def _grad_on_tensors(g: Any, inputs: Any, reserve: Any, reverse: bool) -> Any:
    return composite_vjp(functools.partial(lstm_layer_formula, reverse=reverse), inputs, g)


both("lstm_layer_grad", _grad_on_arrays, _grad_on_tensors)


def lstm_layer_formula(
    x: Tensor, h: Tensor, c: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The layer step by step: i, f, g, o = x W_ih^T + h W_hh^T + b; c = f c + i g; h = o tanh(c).

    The input, forget and output gates i, f, o pass a sigmoid, the candidate g a tanh
    (Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000).
    """
    steps = list(traced.unbind(linear(x, w_ih, bias), 0))
    outputs: list[Tensor] = []
    for step in reversed(steps) if reverse else steps:
        i, f, g, o = (step + linear(h, w_hh)).chunk(4, 1)
        c = traced.sigmoid(f) * c + traced.sigmoid(i) * traced.tanh(g)
        h = traced.sigmoid(o) * traced.tanh(c)
        outputs.append(h)
    if reverse:
        outputs.reverse()
    return stack(outputs, 0), h, c


def lstm(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout_p: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a stack of LSTM layers over input [T, N, I] ([N, T, I] with `batch_first`).

    `hx` = (h0, c0), each [layers * directions, N, H]; `params` lists, for each layer and direction, w_ih, w_hh and with
    biases b_ih, b_hh. Return output [T, N, directions * H], and h_n, c_n of the shape of h0. Dropout with probability
    `dropout_p` applies between layers in training.
    """
    h0, c0 = hx
    layer = traced.transpose(input, 0, 1) if batch_first else input
    directions = 2 if bidirectional else 1
    each = 4 if has_biases else 2
    last_h, last_c = [], []
    for k in range(num_layers):
        outputs = []
        for direction in range(directions):
            row = k * directions + direction
            w_ih, w_hh, *biases = params[row * each : (row + 1) * each]
            bias = biases[0] + biases[1] if biases else None
            output, h, c, *_ = lstm_layer(layer, h0[row], c0[row], w_ih, w_hh, bias, direction == 1)
            outputs.append(output)
            last_h.append(h)
            last_c.append(c)
        layer = outputs[0] if directions == 1 else cat(outputs, 2)
        if dropout_p and k < num_layers - 1:
            layer = dropout(layer, dropout_p, train)
    output = traced.transpose(layer, 0, 1) if batch_first else layer
    return output, stack(last_h, 0), stack(last_c, 0)
