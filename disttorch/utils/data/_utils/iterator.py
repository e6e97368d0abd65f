"""Iterating over a loader in the process itself; `worker_iterator` does it with worker processes."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from disttorch.backends import cuda_device_count
from disttorch.core import observe
from disttorch.random import Generator, default_generator
from disttorch.utils.data._utils.collate import map_tensors
from disttorch.utils.data._utils.fetch import make_fetcher
from disttorch.utils.data._utils.order import Endless, Epoch, GivenOrder, OwnOrder
from disttorch.utils.data._utils.sample_rng import context
from disttorch.utils.data.sampler import draw_seed

if TYPE_CHECKING:
    from disttorch.utils.data.dataloader import DataLoader

Order = OwnOrder | GivenOrder | Endless


@dataclass
class Progress:
    """How far a pass over the data is: shared by the loader, which saves it, and the iterator, which counts.

    `finished`: it has come to its end. `failed`: the last batch raised, and counts as consumed if the pass goes on.
    """

    epoch: Epoch
    order: Order
    batches: int = 0
    finished: bool = False
    failed: bool = False


class LoaderIterator:
    """What all iterators of loaders do alike."""

    _indices: Iterator[Any]

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._length_said = loader._length_said
        self._dataset = loader.dataset
        self._num_workers = loader.num_workers
        self._pin = loader.pin_memory and _can_pin()
        self._begin(loader)

    def _begin(self, loader: DataLoader[Any], base_seed: int | None = None) -> None:
        """Begin the next pass, or the rest of one that is resumed."""
        self._length_said = loader._length_said
        epoch, resumed = loader._next_epoch()
        order = loader._order(epoch)
        if resumed:
            self._indices = _replayed(order, epoch, loader.generator)
        else:
            if isinstance(order, GivenOrder):
                epoch.state = (loader.generator or default_generator)._stream.get_state()
            self._indices = iter(order)
            epoch.seeded = base_seed is None
            epoch.base_seed = draw_seed(loader.generator) if base_seed is None else base_seed
        self._progress = loader._progress = Progress(epoch, order)

    def _next_indices(self) -> Any:
        self._progress.epoch.begun = True
        return next(self._indices)

    def __iter__(self) -> LoaderIterator:
        return self

    def __next__(self) -> Any:
        progress = self._progress
        if progress.finished:
            raise StopIteration
        progress.batches += progress.failed
        progress.failed = True
        observer = observe.observer
        begun = 0 if observer is None else time.monotonic_ns()
        try:
            batch = self._next_batch()
        except StopIteration:
            progress.finished = True
            raise
        if observer is not None:
            observer(f"enumerate(DataLoader)#{type(self).__name__}.__next__", begun, time.monotonic_ns(), "data")
        progress.failed = False
        progress.batches += 1
        if self._length_said is not None:
            self._check_length(self._length_said)
        return pin(batch) if self._pin else batch

    def _next_batch(self) -> Any:
        raise NotImplementedError

    def _sample_seed(self) -> int:
        """Return the seed of `sample_rng`: the same on all ranks where they share an order."""
        epoch = self._progress.epoch
        return epoch.base_seed if epoch.seed is None else epoch.seed

    def _check_length(self, said: int) -> None:
        count = self._progress.batches
        if count > said:
            text = (
                f"Length of IterableDataset {self._dataset} was reported to be {said} (when accessing len(dataloader)), "
                f"but {count} samples have been fetched. "
            )
            if self._num_workers:
                text += (
                    "For multiprocessing data-loading, this could be caused by not properly configuring the "
                    "IterableDataset replica at each worker: see disttorch.utils.data.get_worker_info."
                )
            warnings.warn(text, stacklevel=3)

    def __getstate__(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled; pickle the dataset and make a new loader")


class SingleProcessIterator(LoaderIterator):
    """Loads each batch when it is asked for."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        super().__init__(loader)
        batched = loader.batch_sampler is not None
        self._fetch = make_fetcher(loader.dataset, batched, loader.collate_fn, loader.drop_last)
        if isinstance(self._progress.order, Endless):
            for _ in range(self._progress.epoch.batches):
                self._fetch(next(self._indices))

    def _next_batch(self) -> Any:
        indices = self._next_indices()
        context.epoch, context.seed = self._progress.epoch.number, self._sample_seed()
        try:
            return self._fetch(indices)
        finally:
            context.seed = None

    def __len__(self) -> int:
        return len(self._progress.order)  # type: ignore[arg-type]


def _replayed(order: Order, epoch: Epoch, generator: Generator | None) -> Iterator[Any]:
    """Return the indices of an order that goes on.

    A sampler draws what it drew in the pass that was saved; afterwards the generator is where it was.
    """
    if not isinstance(order, GivenOrder) or epoch.state is None:
        return iter(order)
    stream = (generator or default_generator)._stream
    now = stream.get_state()
    stream.set_state(epoch.state)
    try:
        indices = iter(order)
        if epoch.seeded:
            draw_seed(generator)
        return itertools.chain(list(itertools.islice(indices, 1)), indices)
    finally:
        stream.set_state(now)


def _can_pin() -> bool:
    if cuda_device_count():
        return True
    warnings.warn(
        "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be used.",
        stacklevel=4,
    )
    return False


def pin(batch: Any) -> Any:
    """Return the batch with its tensors in page-locked memory."""
    return map_tensors(batch, lambda tensor: tensor.pin_memory())
