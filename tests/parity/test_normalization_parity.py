"""Normalization layers beside PyTorch's: what is printed, warned of and raised, and how training goes on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import disttorch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


def outcome(scenario: Callable[[Any], Any], library: Any) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = repr(scenario(library))
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
    return " ".join(result.replace("disttorch", "torch").split()), [str(w.message) for w in caught]


SAME: list[Callable[[Any], Any]] = [
    lambda lib: lib.nn.BatchNorm1d(3)(lib.zeros(1, 3)),
    lambda lib: lib.nn.BatchNorm1d(3)(lib.zeros(3)),
    lambda lib: lib.nn.BatchNorm1d(3)(lib.zeros(2, 4)),
    lambda lib: lib.nn.BatchNorm2d(3)(lib.zeros(2, 3, 4)),
    lambda lib: lib.nn.BatchNorm3d(3)(lib.zeros(2, 3, 4, 4)),
    lambda lib: lib.nn.BatchNorm2d(3)(lib.zeros(0, 3, 4, 4)),
    lambda lib: lib.nn.BatchNorm1d(3, momentum=None, affine=False),
    lambda lib: lib.nn.BatchNorm2d(3, bias=False, track_running_stats=False),
    lambda lib: lib.nn.BatchNorm2d(3, affine=False).state_dict(),
    lambda lib: lib.nn.InstanceNorm1d(3)(lib.zeros(2, 3, 1)),
    lambda lib: lib.nn.InstanceNorm1d(3)(lib.zeros(3)),
    lambda lib: lib.nn.InstanceNorm2d(3)(lib.zeros(1, 2, 3, 4, 5)),
    lambda lib: lib.nn.InstanceNorm2d(3)(lib.zeros(2, 4, 3, 3)),
    lambda lib: lib.nn.InstanceNorm2d(3, affine=True)(lib.zeros(2, 4, 3, 3)),
    lambda lib: lib.nn.InstanceNorm3d(3, affine=True, track_running_stats=True),
    lambda lib: lib.nn.SyncBatchNorm(3, momentum=None, bias=False),
    lambda lib: lib.nn.SyncBatchNorm(3)(lib.zeros(3)),
    lambda lib: lib.nn.SyncBatchNorm(3)(lib.zeros(3, 0)),
    lambda lib: lib.nn.SyncBatchNorm(3).eval()(lib.arange(6.0).view(2, 3)).detach(),
    lambda lib: lib.nn.SyncBatchNorm(3)(lib.arange(6.0).view(2, 3)).detach(),
    lambda lib: lib.nn.SyncBatchNorm.convert_sync_batchnorm(lib.nn.Sequential(lib.nn.BatchNorm1d(2), lib.nn.ReLU())),
    lambda lib: lib.nn.GroupNorm(3, 4),
    lambda lib: lib.nn.GroupNorm(2, 4)(lib.zeros(2, 6, 3)),
    lambda lib: lib.nn.GroupNorm(2, 4, affine=False),
    lambda lib: lib.nn.LayerNorm(3, elementwise_affine=False),
    lambda lib: lib.nn.LayerNorm((2, 3), bias=False),
    lambda lib: lib.nn.RMSNorm([2, 3], eps=0.1, elementwise_affine=False),
    lambda lib: lib.nn.LocalResponseNorm(3)(lib.zeros(2, 3)),
    lambda lib: lib.nn.Sequential(lib.nn.BatchNorm1d(2)).load_state_dict(lib.nn.BatchNorm1d(2).state_dict()),
    lambda lib: lib.nn.BatchNorm1d(2).load_state_dict(dict(lib.nn.LayerNorm(2).state_dict())),
]


@pytest.mark.parametrize("scenario", SAME, ids=range(len(SAME)))
def test_text_warnings_and_errors(scenario: Callable[[Any], Any]) -> None:
    assert outcome(scenario, disttorch) == outcome(scenario, torch)


def test_training_and_evaluation_in_turn() -> None:
    """Running statistics as they come to be over some steps of training, and what they make of a batch."""
    arrays = [np.random.default_rng(k).standard_normal((4, 3, 5, 5)) for k in range(6)]
    results = []
    for library in (disttorch, torch):
        library.manual_seed(0)
        nn = library.nn
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, momentum=None), nn.ReLU(), nn.GroupNorm(2, 4),
            nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.Flatten(), nn.BatchNorm1d(36), nn.LayerNorm(36),
        ).double()  # fmt: skip
        optimizer = library.optim.SGD(net.parameters(), lr=0.05)
        for array in arrays:
            optimizer.zero_grad()
            (net(library.tensor(array)) ** 3).mean().backward()
            optimizer.step()
        seen = net.eval()(library.tensor(arrays[0]))
        results.append([seen.detach().numpy(), *(v.numpy() for v in net.state_dict().values())])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)
