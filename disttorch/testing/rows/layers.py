"""Samples of `disttorch.ops.conv`, `pool` and `rnn`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Index, Sample, functional, one


def samples() -> Iterator[Sample]:
    """Yield the samples."""
    yield from _convolutions()
    yield from _pools()
    yield from _recurrent()


def F(name: str, *extra: Any, **named: Any) -> Any:  # noqa: N802
    """Return a call of a function of `torch.nn.functional` with further arguments."""
    return lambda t, *xs: getattr(functional(t), name)(*xs, *extra, **named)


# -- convolution and pooling --------------------------------------------------------------------------------------

# (input, weight, whether there is a bias, further arguments)
_CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], bool, dict[str, Any]], ...] = (
    ((1, 2, 4, 4), (2, 2, 3, 3), True, {}),
    ((2, 1, 4, 4), (2, 1, 2, 2), False, {"stride": 2}),
    ((1, 2, 5, 4), (4, 1, 3, 2), True, {"padding": 1, "groups": 2}),
    ((1, 1, 5, 5), (1, 1, 2, 2), False, {"dilation": 2, "padding": (1, 0)}),
    ((1, 1, 4, 4), (1, 1, 3, 2), True, {"padding": "same"}),
    ((1, 4, 4), (2, 1, 3, 3), True, {"padding": 1}),
    ((1, 2, 5), (2, 2, 3), True, {"stride": 2, "padding": 1}),
    ((2, 6), (2, 1, 2), False, {"dilation": 2, "groups": 2}),
    ((1, 1, 3, 3, 3), (2, 1, 2, 2, 2), True, {"padding": 1, "stride": 2}),
)


def _convolutions() -> Iterator[Sample]:
    every = "convolution convolution_input_grad convolution_weight_grad"
    for x, w, bias, named in _CONVOLUTIONS:
        operands = (A(*x), A(*w), *((A(w[0]),) if bias else ()))
        name = f"conv{len(w) - 2}d"
        yield from one(name, F(name, **named), *operands, covers=every)
    yield from one(
        "conv2d", F("conv2d"), A(1, 2, 3, 3, layout="transposed"), A(1, 2, 2, 2, layout="transposed"), covers=every
    )
    plain = ((1, 1), (0, 0), (1, 1), 1)
    yield from one(
        "convolution_input_grad", lambda t, g, w: traced.convolution_input_grad(g, w, (1, 1, 4, 4), *plain),
        A(1, 2, 3, 3), A(2, 1, 2, 2), covers=every, internal=True,
    )  # fmt: skip
    yield from one(
        "convolution_weight_grad", lambda t, g, x: traced.convolution_weight_grad(g, x, (2, 1, 2, 2), *plain),
        A(1, 2, 3, 3), A(1, 1, 4, 4), covers=every, internal=True,
    )  # fmt: skip


def _pools() -> Iterator[Sample]:
    largest, mean = "max_pool max_pool_grad", "avg_pool avg_pool_grad"
    for x, kernel, named in (
        ((1, 2, 4, 4), 2, {}),
        ((1, 1, 5, 4), 3, {"stride": 1, "padding": 1}),
        ((1, 1, 5, 5), 2, {"ceil_mode": True}),
        ((1, 4, 4), (2, 1), {}),
        ((1, 2, 6), 3, {"stride": 2, "padding": 1}),
        ((1, 1, 3, 3, 3), 2, {"stride": 1}),
    ):
        n = len(x) - (1 if len(x) == 3 and kernel == (2, 1) else 2)
        yield from one(f"max_pool{n}d", F(f"max_pool{n}d", kernel, **named), A(*x), covers=largest)
        yield from one(f"avg_pool{n}d", F(f"avg_pool{n}d", kernel, **named), A(*x), covers=mean)
    yield from one("max_pool2d", F("max_pool2d", 2, return_indices=True), A(1, 2, 4, 4), covers=largest)
    yield from one("max_pool2d", F("max_pool2d", 2, dilation=2, stride=1), A(1, 1, 4, 5), covers=largest)
    yield from one("max_pool2d", F("max_pool2d", 2), A(2, 1, 4, 4, layout="transposed"), covers=largest)
    yield from one("avg_pool2d", F("avg_pool2d", 3, 2, 1, False, False), A(1, 1, 5, 5), covers=mean)
    yield from one("avg_pool2d", F("avg_pool2d", 2, divisor_override=3), A(1, 1, 4, 4), covers=mean)
    yield from one(
        "take",
        lambda t, x, i: traced.take(x, i),
        A(1, 1, 4),
        Index(4, 1, 1, 3),
        covers="take max_pool_grad",
        internal=True,
    )


# -- recurrent ----------------------------------------------------------------------------------------------------


def _recurrent() -> Iterator[Sample]:
    for reverse in (False, True):
        for bias in (True, False):
            yield from one(
                "lstm_layer",
                lambda t, x, h, c, w, u, *b, r=reverse: traced.lstm_layer(x, h, c, w, u, *(b or (None,)), r)[:3],
                A(2, 1, 2), A(1, 1), A(1, 1), A(4, 2), A(4, 1), *((A(4),) if bias else ()), internal=True,
            )  # fmt: skip
