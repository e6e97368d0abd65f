"""The counters behind the status line."""

from __future__ import annotations

import threading

import numpy as np

from disttorch.distributed import progress


def test_counts_from_several_threads_are_all_there() -> None:
    before = progress.read()

    def count() -> None:
        for _ in range(2000):
            progress.step(3)
            progress.add_samples(np.int64(1))
            progress.waited(0.5)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    progress.phase("backward")
    progress.collective("all_reduce", 12)
    after = progress.read()
    assert after.steps - before.steps == 8000
    assert after.samples - before.samples == 8000 * 4
    assert after.waited - before.waited == 4000
    assert (after.phase, after.collective) == ("backward", "all_reduce 12")
    assert type(after.samples) is int
