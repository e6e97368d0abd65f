"""Layers beside plain NumPy and SciPy, in float64; gradients beside finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import special

import disttorch as torch
from disttorch import nn


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def weights(layer: Any) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy() for name, p in layer.named_parameters()}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return special.expit(x)


# -- what each layer computes ---------------------------------------------------------------------


def linear(layer: Any, x: np.ndarray) -> np.ndarray:
    w = weights(layer)
    return x @ w["weight"].T + w.get("bias", 0.0)


def conv2d(layer: Any, x: np.ndarray) -> np.ndarray:
    w = weights(layer)
    (top, bottom), (left, right) = conv_ends(layer)
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    (kh, kw), (dh, dw), (sh, sw) = layer.kernel_size, layer.dilation, layer.stride
    windows = sliding_window_view(x, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), (2, 3))
    windows = windows[:, :, ::sh, ::sw, ::dh, ::dw]
    each, out = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    groups = [
        np.einsum(
            "nchwkl,ockl->nohw",
            windows[:, g * each : (g + 1) * each],
            w["weight"][g * out : (g + 1) * out],
        )
        for g in range(layer.groups)
    ]
    return np.concatenate(groups, 1) + w["bias"][:, None, None]


def conv_ends(layer: Any) -> list[tuple[int, int]]:
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(t // 2, t - t // 2) for t in totals]
    return [(p, p) for p in layer.padding]


def max_pool(layer: Any, x: np.ndarray) -> np.ndarray:
    k, s = layer.kernel_size, layer.stride
    return sliding_window_view(x, (k, k), (2, 3))[:, :, ::s, ::s].max((-1, -2))


def avg_pool(layer: Any, x: np.ndarray) -> np.ndarray:
    k, s = layer.kernel_size, layer.stride
    return sliding_window_view(x, (k, k), (2, 3))[:, :, ::s, ::s].mean((-1, -2))


def lstm(layer: Any, x: np.ndarray) -> np.ndarray:
    if layer.batch_first:
        x = x.swapaxes(0, 1)
    for k in range(layer.num_layers):
        x = np.concatenate([lstm_pass(layer, x, k, r) for r in range(layer.num_directions)], 2)
    return x.swapaxes(0, 1) if layer.batch_first else x


def lstm_pass(layer: Any, x: np.ndarray, k: int, reverse: int) -> np.ndarray:
    w, name = weights(layer), f"_l{k}" + "_reverse" * reverse
    bias = w["bias_ih" + name] + w["bias_hh" + name] if layer.bias else 0.0
    h = c = np.zeros((x.shape[1], layer.hidden_size))
    outputs = []
    for step in x[::-1] if reverse else x:
        gates = step @ w["weight_ih" + name].T + h @ w["weight_hh" + name].T + bias
        i, f, g, o = np.split(gates, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs[::-1] if reverse else outputs)


Case = tuple[Callable[[], Any], tuple[int, ...], Callable[[Any, np.ndarray], np.ndarray]]

CASES: dict[str, Case] = {
    "linear": (lambda: nn.Linear(4, 3), (2, 5, 4), linear),
    "linear without bias": (lambda: nn.Linear(4, 3, bias=False), (2, 4), linear),
    "conv2d": (lambda: nn.Conv2d(2, 4, 3), (2, 2, 6, 5), conv2d),
    "conv2d of strides and groups": (
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), groups=2),
        (2, 4, 6, 5),
        conv2d,
    ),
    "conv2d same": (
        lambda: nn.Conv2d(2, 3, (4, 3), padding="same", dilation=(1, 2)), (2, 2, 6, 5), conv2d,
    ),
    "max pool": (lambda: nn.MaxPool2d(3, 2), (2, 2, 7, 8), max_pool),
    "average pool": (lambda: nn.AvgPool2d(2), (2, 2, 6, 4), avg_pool),
    "lstm": (lambda: nn.LSTM(3, 4), (5, 2, 3), lstm),
    "lstm of two layers": (
        lambda: nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True), (2, 5, 3), lstm,
    ),
    "lstm without bias": (lambda: nn.LSTM(3, 4, bias=False), (5, 2, 3), lstm),
    "relu": (lambda: nn.ReLU(), (3, 4), lambda _, x: np.maximum(x, 0)),
    "relu6": (lambda: nn.ReLU6(), (3, 4), lambda _, x: np.clip(x, 0, 6)),
    "leaky": (lambda: nn.LeakyReLU(0.2), (3, 4), lambda _, x: np.where(x > 0, x, 0.2 * x)),
    "elu": (lambda: nn.ELU(0.5), (3, 4), lambda _, x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    "silu": (lambda: nn.SiLU(), (3, 4), lambda _, x: x * sigmoid(x)),
    "gelu": (lambda: nn.GELU(), (3, 4), lambda _, x: x * special.ndtr(x)),
    "sigmoid": (lambda: nn.Sigmoid(), (3, 4), lambda _, x: sigmoid(x)),
    "log sigmoid": (lambda: nn.LogSigmoid(), (3, 4), lambda _, x: special.log_expit(x)),
    "tanh": (lambda: nn.Tanh(), (3, 4), lambda _, x: np.tanh(x)),
    "hardtanh": (lambda: nn.Hardtanh(-1, 0.5), (3, 4), lambda _, x: np.clip(x, -1, 0.5)),
    "softplus": (lambda: nn.Softplus(2.0), (3, 4), lambda _, x: np.logaddexp(0, 2 * x) / 2),
    "softmax": (lambda: nn.Softmax(1), (3, 4), lambda _, x: special.softmax(x, 1)),
    "log softmax": (lambda: nn.LogSoftmax(0), (3, 4), lambda _, x: special.log_softmax(x, 0)),
    "flatten": (lambda: nn.Flatten(1, 2), (2, 3, 4), lambda _, x: x.reshape(2, 12)),
    "unflatten": (lambda: nn.Unflatten(1, (-1, 2)), (2, 6), lambda _, x: x.reshape(2, 3, 2)),
    "zero pad": (lambda: nn.ZeroPad2d((1, 2, 0, 3)), (1, 2, 3),
                 lambda _, x: np.pad(x, ((0, 0), (0, 3), (1, 2)))),
    "constant pad": (lambda: nn.ConstantPad1d(2, 7.0), (2, 3),
                     lambda _, x: np.pad(x, ((0, 0), (2, 2)), constant_values=7.0)),
    "reflection pad": (lambda: nn.ReflectionPad2d((1, 2, 3, 0)), (2, 4, 5),
                       lambda _, x: np.pad(x, ((0, 0), (3, 0), (1, 2)), "reflect")),
    "replication pad": (lambda: nn.ReplicationPad1d((3, 1)), (2, 3, 2),
                        lambda _, x: np.pad(x, ((0, 0), (0, 0), (3, 1)), "edge")),
    "circular pad": (lambda: nn.CircularPad2d(1), (2, 4, 5),
                     lambda _, x: np.pad(x, ((0, 0), (1, 1), (1, 1)), "wrap")),
}  # fmt: skip


def run(layer: Any, x: Any) -> Any:
    result = layer(x)
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("name", CASES)
def test_results(name: str) -> None:
    make, shape, reference = CASES[name]
    layer, x = make().double(), numbers(*shape)
    result = run(layer, torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(result, reference(layer, x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    """Compare the derivative along one direction of input and parameters with a difference."""
    make, shape, _ = CASES[name]
    layer, x = make().double(), torch.tensor(numbers(*shape), requires_grad=True)
    leaves = [x, *layer.parameters()]
    direction = [numbers(*leaf.shape, seed=k + 1) for k, leaf in enumerate(leaves)]
    result = run(layer, x)
    factors = torch.tensor(numbers(*result.shape, seed=99))
    (result * factors).sum().backward()
    gradients = [leaf.grad.numpy() for leaf in leaves]
    slope = sum(float((d * g).sum()) for d, g in zip(direction, gradients, strict=True))
    step = 1e-6
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for leaf, d in zip(leaves, direction, strict=True):
                leaf.add_(torch.tensor(d * sign * step))
            values.append(float((run(layer, x) * factors).sum()))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6, abs=1e-6)


def test_lstm_without_batch_and_with_a_state() -> None:
    layer, x = nn.LSTM(3, 4, 2).double(), torch.tensor(numbers(5, 3))
    output, (h, c) = layer(x)
    assert output.shape == (5, 4)
    assert h.shape == c.shape == (2, 4)
    first, state = layer(x[:2])
    second, (h2, c2) = layer(x[2:], state)
    np.testing.assert_allclose(torch.cat([first, second]).detach().numpy(), output.detach().numpy())
    np.testing.assert_allclose(c2.detach().numpy(), c.detach().numpy())
    assert h2.detach()[-1].tolist() == output.detach()[-1].tolist()


def test_lstm_names_and_shapes_of_parameters() -> None:
    layer = nn.LSTM(3, 4, 2, bidirectional=True)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert list(shapes)[:5] == [
        "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse",
    ]  # fmt: skip
    assert shapes["weight_ih_l0"] == (16, 3)
    assert shapes["weight_ih_l1_reverse"] == (16, 8)
    assert layer.all_weights[3][1] is layer.weight_hh_l1_reverse
    assert layer.flatten_parameters() is None


def test_lstm_refuses_what_does_not_fit() -> None:
    layer = nn.LSTM(3, 4)
    with pytest.raises(RuntimeError, match=r"must be equal to input_size\. Expected 3, got 2"):
        layer(torch.zeros(5, 1, 2))
    with pytest.raises(ValueError, match="Expected input to be 2D or 3D, got 1D instead"):
        layer(torch.zeros(3))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size \(1, 1, 4\), got \[1, 2, 4\]"):
        layer(torch.zeros(5, 1, 3), (torch.zeros(1, 2, 4), torch.zeros(1, 1, 4)))
    with pytest.raises(ValueError, match=r"Convert input: input\.to\(torch\.float32\)"):
        layer(torch.zeros(5, 1, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="proj_size=2 is not in disttorch"):
        nn.LSTM(3, 4, proj_size=2)
    with pytest.raises(ValueError, match="Unrecognized RNN mode: LSTN; expected one of LSTM"):
        nn.RNNBase("LSTN", 3, 4)
    with pytest.warns(UserWarning, match=r"num_layers greater than 1, but got dropout=0\.5"):
        nn.LSTM(3, 4, dropout=0.5)


def test_dropout_scales_what_it_keeps() -> None:
    torch.manual_seed(0)
    layer = nn.Dropout(0.25)
    x = torch.ones(100, 100)
    out = layer(x).numpy()
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((out == 0).mean() - 0.25) < 0.02
    assert layer.eval()(x) is x
    y = torch.ones(10)
    assert nn.Dropout(1.0, inplace=True)(y) is y
    assert y.tolist() == [0.0] * 10


def test_pooling_returns_where_the_maxima_were() -> None:
    x = torch.tensor([[[[1.0, 5.0], [7.0, 3.0]]]])
    values, indices = nn.MaxPool2d(2, return_indices=True)(x)
    assert values.tolist() == [[[[7.0]]]]
    assert indices.tolist() == [[[[2]]]]
    assert indices.dtype is torch.int64
    assert nn.MaxPool1d(2, ceil_mode=True)(torch.zeros(1, 1, 5)).shape == (1, 1, 3)


def test_embedding_rows_and_gradients() -> None:
    table = nn.Embedding(4, 2, padding_idx=1)
    assert table.weight[1].tolist() == [0.0, 0.0]
    table(torch.tensor([[0, 1], [0, 3]])).sum().backward()
    assert table.weight.grad.tolist() == [[2, 2], [0, 0], [0, 0], [1, 1]]
    rows = torch.arange(6.0).reshape(3, 2)
    frozen = nn.Embedding.from_pretrained(rows)
    assert frozen(torch.tensor(2)).tolist() == [4.0, 5.0]
    assert not frozen.weight.requires_grad
    assert nn.Embedding.from_pretrained(rows, freeze=False).weight.requires_grad
    with pytest.raises(IndexError, match="embedding has 3 rows"):
        frozen(torch.tensor([3]))
    with pytest.raises(RuntimeError, match=r"Long, Int; but got torch\.float32"):
        frozen(torch.tensor([1.0]))
    with pytest.raises(NotImplementedError, match="not in disttorch; leave them out"):
        nn.Embedding(3, 2, sparse=True)(torch.tensor([0]))


def test_conv_padding_modes_are_checked() -> None:
    with pytest.raises(ValueError, match="Invalid padding string 'some'"):
        nn.Conv1d(1, 1, 3, padding="some")
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        nn.Conv1d(1, 1, 3, padding_mode="mirror")
    with pytest.raises(ValueError, match="groups must be a positive integer"):
        nn.Conv1d(1, 1, 3, groups=0)
    layer = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    layer.load_state_dict({"weight": torch.ones(1, 1, 3)})
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    assert layer(x).tolist() == [[[7.0, 6.0, 9.0, 8.0]]]


def test_identity_and_device_arguments() -> None:
    x = torch.ones(2)
    assert nn.Identity(54, unused=1)(x) is x
    layer = nn.Conv2d(1, 1, 1, device="cpu", dtype=torch.float64)
    assert layer.weight.dtype is torch.float64
    assert layer.bias.dtype is torch.float64
