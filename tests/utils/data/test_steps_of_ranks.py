"""Ranks that train together take equally many steps, whatever the number of samples, and lose none."""

from __future__ import annotations

import numpy as np
import pytest

from disttorch.random import Generator
from disttorch.utils.data._utils.order import Epoch, OwnOrder, Share


def batches(samples: int, ranks: int, batch_size: int, drop_last: bool) -> list[list[np.ndarray]]:
    """Return each rank's batches of indices in one shuffled epoch."""
    return [
        list(
            OwnOrder(
                range(samples), Epoch(0, 0, seed=9), Share(rank, ranks), batch_size, drop_last, True, Generator(), None
            )
        )
        for rank in range(ranks)
    ]


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("samples", [4, 5, 24, 25, 26, 27, 29, 31, 35])
@pytest.mark.parametrize("drop_last", [False, True])
def test_equal_steps_and_no_sample_lost(samples: int, ranks: int, drop_last: bool) -> None:
    found = batches(samples, ranks, 4, drop_last)
    assert len({len(own) for own in found}) == 1
    assert all(len(indices) for own in found for indices in own)
    taken = [i for own in found for indices in own for i in indices]
    assert len(set(taken)) == len(taken)
    assert len(taken) == (samples // (4 * ranks) * 4 * ranks if drop_last else samples)


def test_global_batches_are_pieces_of_one_order() -> None:
    (order,) = batches(24, 1, 24, False)[0]
    for k, parts in enumerate(zip(*batches(24, 3, 4, False), strict=True)):
        np.testing.assert_array_equal(np.stack(parts, axis=1).reshape(-1), order[k * 12 : (k + 1) * 12])


def test_fewer_samples_than_ranks_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot divide 2 samples among 3 ranks"):
        batches(2, 3, 4, False)
