"""Samples of `disttorch.ops.transfer`."""

from __future__ import annotations

from collections.abc import Iterator

from disttorch.ops.registry import traced
from disttorch.testing.sample import A, Sample, one


def samples() -> Iterator[Sample]:
    yield from one(
        "to_device", lambda t, x: traced.to_device(x, x.device, x.device), A(2, 3), expected=lambda x: x, internal=True
    )
