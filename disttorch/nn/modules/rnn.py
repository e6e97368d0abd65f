"""Recurrent layers."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

from disttorch.autograd.tensor import Tensor
from disttorch.nn import init
from disttorch.nn.modules.module import Module
from disttorch.nn.parameter import Parameter
from disttorch.ops.creation import empty, zeros
from disttorch.ops.rnn import lstm

_GATES = {"LSTM": 4}


class RNNBase(Module):
    """A stack of recurrent layers: its sizes, and its parameters in PyTorch's names and order.

    For layer k and direction ("" or "_reverse"): `weight_ih_l{k}`, `weight_hh_l{k}`, and with
    `bias` also `bias_ih_l{k}`, `bias_hh_l{k}`. All start uniform in +-1 / sqrt(hidden_size).
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if mode not in _GATES:
            raise ValueError(f"Unrecognized RNN mode: {mode}; expected one of {', '.join(_GATES)}")
        _check_dropout(dropout, num_layers)
        _check_type("bias", bias, bool)
        _check_type("batch_first", batch_first, bool)
        _check_sizes(input_size, hidden_size, num_layers, proj_size)
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._flat_weights_names: list[str] = []
        self._all_weights: list[list[str]] = []
        self._make_parameters(device, dtype)
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    def _make_parameters(self, device: Any, dtype: Any) -> None:
        rows = _GATES[self.mode] * self.hidden_size
        for layer in range(self.num_layers):
            columns = self.input_size if layer == 0 else self.hidden_size * self.num_directions
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (rows, columns),
                "weight_hh": (rows, self.hidden_size),
            }
            if self.bias:
                shapes.update(bias_ih=(rows,), bias_hh=(rows,))
            for suffix in ("", "_reverse")[: self.num_directions]:
                named = {f"{name}_l{layer}{suffix}": shape for name, shape in shapes.items()}
                for name, shape in named.items():
                    setattr(self, name, Parameter(empty(shape, device=device, dtype=dtype)))
                self._flat_weights_names += named
                self._all_weights.append(list(named))

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    @property
    def _flat_weights(self) -> list[Any]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def flatten_parameters(self) -> None:
        """Do nothing: there is no cuDNN that would want the weights in one piece of memory."""

    def check_input(self, input: Tensor, batch_sizes: Tensor | None = None) -> None:
        """Raise unless a batched input has the layer's type and size."""
        wanted = self._flat_weights[0].dtype
        if input.dtype is not wanted:
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({wanted}). Convert "
                f"input: input.to({wanted}), or convert model: model.to({input.dtype})"
            )
        if input.ndim != 3:
            raise RuntimeError(f"input must have 3 dimensions, got {input.ndim}")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Tensor | None = None) -> tuple[int, int, int]:
        """Return the shape of a hidden state: [layers * directions, N, hidden_size]."""
        batch = input.shape[0] if self.batch_first else input.shape[1]
        return self.num_layers * self.num_directions, batch, self.hidden_size

    def check_hidden_size(
        self,
        hx: Tensor,
        expected_hidden_size: tuple[int, int, int],
        msg: str = "Expected hidden size {}, got {}",
    ) -> None:
        """Raise unless a hidden state has the expected shape."""
        if hx.shape != expected_hidden_size:
            raise RuntimeError(msg.format(expected_hidden_size, list(hx.shape)))

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {
            "proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0,
            "bidirectional": False,
        }  # fmt: skip
        for name, default in defaults.items():
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_flat_weights": self._flat_weights}  # as PyTorch's layers expect

    def __setstate__(self, state: dict[str, Any]) -> None:
        cached = ("_flat_weights", "_flat_weight_refs")  # PyTorch's, which are found by name here
        super().__setstate__({k: v for k, v in state.items() if k not in cached})


class LSTM(RNNBase):
    """A stack of long short-term memory layers (Hochreiter and Schmidhuber, 1997).

        i, f, o = sigmoid(W x + b + U h + c)    g = tanh(W x + b + U h + c)
        c' = f c + i g                          h' = o tanh(c')

    The gates are rows i, f, g, o of `weight_ih` (W), `weight_hh` (U), `bias_ih` and `bias_hh`.
    Dropout applies between the layers in training. PyTorch's `proj_size` is not in disttorch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run over input [T, N, input_size] ([N, T, ...] if `batch_first`) or [T, input_size].

        `hx` is (h0, c0), each [layers * directions, N, hidden_size] (without N for an input
        without), zeros if left out. Returns the output [T, N, directions * hidden_size] and
        (h_n, c_n).
        """
        if input.ndim not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.ndim}D instead")
        batched = input.ndim == 3
        batch_dim = 0 if self.batch_first else 1
        x = input if batched else input.unsqueeze(batch_dim)
        h, c = self._initial_state(x, hx, batched)
        self.check_input(x)
        expected = self.get_expected_hidden_size(x)
        self.check_hidden_size(h, expected, "Expected hidden[0] size {}, got {}")
        self.check_hidden_size(c, expected, "Expected hidden[1] size {}, got {}")
        output, h, c = lstm(
            x, (h, c), self._flat_weights, self.bias, self.num_layers, self.dropout,
            self.training, self.bidirectional, self.batch_first,
        )  # fmt: skip
        if batched:
            return output, (h, c)
        return output.squeeze(batch_dim), (h.squeeze(1), c.squeeze(1))

    def _initial_state(self, x: Tensor, hx: tuple[Tensor, Tensor] | None, batched: bool) -> tuple[Tensor, Tensor]:
        """Return (h0, c0) with a batch dimension."""
        if hx is None:
            shape = self.get_expected_hidden_size(x)
            h, c = (zeros(shape, dtype=x.dtype, device=x.device) for _ in "hc")
            return h, c
        h, c = hx
        n = 3 if batched else 2
        if h.ndim != n or c.ndim != n:
            raise RuntimeError(
                f"For {'batched 3-D' if batched else 'unbatched 2-D'} input, hx and cx should also "
                f"be {n}-D but got ({h.ndim}-D, {c.ndim}-D) tensors"
            )
        return (h, c) if batched else (h.unsqueeze(1), c.unsqueeze(1))


def _check_dropout(dropout: Any, num_layers: int) -> None:
    number = isinstance(dropout, numbers.Number) and not isinstance(dropout, bool)
    if not number or not 0 <= dropout <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element "
            f"being zeroed, got {dropout!r}"
        )
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout "
            f"expects num_layers greater than 1, but got dropout={dropout} and "
            f"num_layers={num_layers}",
            stacklevel=4,
        )


def _check_type(name: str, value: Any, expected: type) -> None:
    if not isinstance(value, expected):
        raise TypeError(f"{name} should be of type {expected.__name__}, got: {type(value).__name__}")


def _check_sizes(input_size: Any, hidden_size: Any, num_layers: Any, proj_size: Any) -> None:
    for name, value in (("input_size", input_size), ("hidden_size", hidden_size)):
        _check_type(name, value, int)
        if value <= 0:
            raise ValueError(f"{name} must be greater than zero")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if proj_size:
        raise ValueError(f"proj_size={proj_size} is not in disttorch; leave it out or pass 0")
