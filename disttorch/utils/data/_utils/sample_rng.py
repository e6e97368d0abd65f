"""Random numbers that belong to a sample, not to the process that happens to load it."""

from __future__ import annotations

from typing import Any

import numpy as np


class _Context:
    """What is being loaded now in this process: set by the loader, per epoch and per sample."""

    seed: int | None = None
    epoch = 0
    sample: Any = None


context = _Context()


def sample_rng(index: int | None = None) -> np.random.Generator:
    """Return a NumPy generator for the random augmentation of one sample, to be called in `Dataset.__getitem__`.

    Its numbers depend on the epoch's seed, the epoch and the sample's index alone: they are the same for any number
    of workers and after resuming in mid-epoch, for a loader that shuffles also for any number of ranks, and differ
    between samples and between epochs.
    `index` must be given in `__getitems__`. Raises RuntimeError outside of a loader.
    """
    if context.seed is None:
        raise RuntimeError(
            "sample_rng() gives numbers only while a DataLoader loads a sample; "
            "elsewhere make a generator with numpy.random.default_rng(seed)"
        )
    key = context.sample if index is None else index
    if not isinstance(key, (int, np.integer)):
        raise RuntimeError(
            f"sample_rng() needs the index of a sample, and the loader is loading {type(key).__name__}; "
            "call sample_rng(index)"
        )
    return np.random.default_rng([context.seed, context.epoch, int(key) & (2**64 - 1)])
