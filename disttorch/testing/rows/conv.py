"""Samples of `disttorch.ops.conv`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from disttorch.testing.sample import A, Sample, functional, one


def layer(name: str, *extra: Any, **named: Any) -> Any:
    """Return a call of a function of `torch.nn.functional` with further arguments."""
    return lambda t, *xs: getattr(functional(t), name)(*xs, *extra, **named)


# (input, weight, outputs for which there is a bias, further arguments)
_TRANSPOSED: tuple[tuple[tuple[int, ...], tuple[int, ...], int, dict[str, Any]], ...] = (
    ((1, 2, 3), (2, 2, 2), 2, {"stride": 2, "output_padding": 1}),
    ((1, 2, 3), (2, 1, 2), 0, {"dilation": 3, "output_padding": 2}),
    ((1, 2, 2, 3), (2, 1, 2, 2), 2, {"groups": 2, "padding": 1}),
    ((2, 2, 2), (2, 1, 2, 3), 1, {}),
    ((1, 1, 2, 2, 1), (1, 2, 1, 2, 2), 2, {"stride": (1, 2, 1)}),
)


def samples() -> Iterator[Sample]:
    """Yield the samples of transposed convolution."""
    every = "convolution convolution_input_grad convolution_weight_grad"
    for x, w, outputs, named in _TRANSPOSED:
        operands = (A(*x), A(*w), *((A(outputs),) if outputs else ()))
        name = f"conv_transpose{len(w) - 2}d"
        yield from one(name, layer(name, **named), *operands, covers=every, complex=bool(outputs))
