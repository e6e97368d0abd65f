"""Samples of `disttorch.ops.ctc`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from disttorch.testing.sample import A, Sample, functional, one


def samples() -> Iterator[Sample]:
    for scores, targets, inputs, lengths in (
        (A(4, 2, 3), [[1, 1], [2, 1]], [4, 3], [2, 1]),
        (A(3, 2, 3), [2, 1, 2], [3, 3], [1, 2]),
        (A(4, 3), [1, 2], [4], [2]),
        (A(2, 2, 2), [[1, 1], [1, 1]], [2, 2], [2, 0]),
    ):
        for reduction in ("none", "mean", "sum"):

            def call(t: Any, x: Any, rest: Any = (targets, inputs, lengths), r: str = reduction) -> Any:
                # behind a log-softmax: by anything else PyTorch's derivative is not the true one
                probabilities = functional(t).log_softmax(x, -1)
                return functional(t).ctc_loss(probabilities, *map(t.tensor, rest), reduction=r, zero_infinity=True)

            def expected(x: Any, rest: Any = (targets, inputs, lengths), r: str = reduction) -> Any:
                return _reduced(_losses(x if x.ndim == 3 else x[:, None], *rest), rest[2], r, x.ndim)

            yield from one("ctc_loss", call, scores, covers="ctc_loss ctc_loss_grad", expected=expected, order=1)


def _reduced(losses: Any, lengths: Any, reduction: str, ndim: int) -> Any:
    if reduction == "none":
        return losses if ndim == 3 else losses[0]
    return np.mean(losses / np.maximum(lengths, 1)) if reduction == "mean" else np.sum(losses)


def _losses(x: Any, targets: Any, inputs: Any, lengths: Any) -> Any:
    """Return the losses by going through all paths."""
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    starts = np.cumsum([0, *lengths])
    losses = []
    for n, (steps, length) in enumerate(zip(inputs, lengths)):
        wanted = targets[n][:length] if isinstance(targets[0], list) else targets[starts[n] : starts[n + 1]]
        paths = itertools.product(range(x.shape[2]), repeat=steps)
        total = sum(
            np.prod([p[t, n, c] for t, c in enumerate(path)])
            for path in paths
            if [c for c, _ in itertools.groupby(path) if c] == wanted
        )
        losses.append(-np.log(total) if total else 0.0)
    return np.array(losses)
