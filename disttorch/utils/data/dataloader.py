"""`DataLoader`: batches of a dataset, loaded in this process or ahead of time in workers, on one rank or divided among many."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.random import Generator
from disttorch.utils.data import sharding
from disttorch.utils.data._utils.collate import default_collate, default_convert
from disttorch.utils.data._utils.iterator import (
    LoaderIterator,
    Order,
    Progress,
    SingleProcessIterator,
)
from disttorch.utils.data._utils.order import (
    Endless,
    Epoch,
    GivenOrder,
    OrderSeeds,
    OwnOrder,
    Share,
)
from disttorch.utils.data._utils.worker_info import get_worker_info
from disttorch.utils.data.dataset import Dataset, IterableDataset
from disttorch.utils.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

if TYPE_CHECKING:  # loaded when workers are wanted
    from disttorch.utils.data._utils.server import WorkerServer
    from disttorch.utils.data._utils.worker_iterator import WorkerIterator

__all__ = ["DataLoader", "default_collate", "default_convert", "get_worker_info"]

T_co = TypeVar("T_co", covariant=True)

_STATE_KEYS = {
    "version", "epoch", "batches", "position", "base_seed", "epoch_seed", "first_seed", "generator_state", "seeded",
    "drained", "order", "samples", "num_replicas",
}  # fmt: skip


class _SlotMemory:
    """What a loader remembers of one pass for the next: how large the largest batch was."""

    batch_bytes = 0


class _StreamSampler(Sampler[Any]):
    """Stands in `loader.sampler` of an `IterableDataset`, whose order is its own."""

    def __iter__(self) -> Any:
        while True:
            yield None


class DataLoader(Generic[T_co]):
    """Iterates over a dataset in batches; a drop-in for `torch.utils.data.DataLoader`, in the same order for the same seed.

    dataset: a `Dataset` (anything with `__getitem__` and `__len__`) or an `IterableDataset`.
    batch_size: samples per batch; None gives single samples, not collated.
    shuffle: a new random order in every epoch. `sampler` or `batch_sampler` gives an order of your own instead.
    num_workers: processes that load batches ahead, `prefetch_factor` (2) each; 0 loads in this process. Batches come in
        the same order for any number of workers (unless `in_order=False`). An exception in a worker is raised here with
        its type and the worker's traceback.
    collate_fn: joins a list of samples; `default_collate` by default.
    drop_last: leave out the last batch if it is smaller than the others.
    timeout: seconds after which a batch that has not come raises RuntimeError; 0 waits as long as the workers live.
    worker_init_fn: called in each worker with its number after it was seeded with base seed + number.
    multiprocessing_context: how workers start, a name or a context. By default they are forks of this process if it has
        no other threads, else of a small server process; the script is not run again in either case.
    generator: source of the random order and of the workers' base seed, instead of the default generator.
    persistent_workers: keep the workers for the next epoch.
    pin_memory: copy batches into page-locked memory if there is a CUDA device.
    shard: beyond PyTorch. In a process group of several ranks a loader that shuffles and was given no sampler divides
        its samples: rank r of W takes every W-th index of the common order from the r-th on, so that the batches of all
        ranks together are those of one loader with batches W times as large. Ranks may differ by one sample at the end
        (`drop_last` makes them equal). False turns this off, True also divides the samples of a loader that does not
        shuffle.

    `state_dict()` and `load_state_dict()` resume in mid-epoch, a shuffling or sequential loader also at another world
    size or batch size. `set_epoch(n)` makes the order of an epoch a function of its number.
    """

    dataset: Dataset[T_co]
    batch_size: int | None
    drop_last: bool
    sampler: Any
    batch_sampler: Any

    def __init__(
        self,
        dataset: Dataset[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        shard: bool | None = None,
    ) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        _check_order(dataset, batch_size, shuffle, sampler, batch_sampler, drop_last, shard)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.in_order = in_order
        self.generator = generator
        self.persistent_workers = persistent_workers
        self.shard = shard
        self._is_stream = isinstance(dataset, IterableDataset)
        self._shuffle = bool(shuffle)
        self._owns_order = sampler is None and batch_sampler is None and not self._is_stream
        if batch_sampler is not None:
            batch_size, drop_last = None, False
        if sampler is None:
            sampler = self._default_sampler()
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        if collate_fn is None:
            collate_fn = default_convert if batch_sampler is None else default_collate
        self.collate_fn = collate_fn
        self._prepare_passes()
        self._initialized = True
        _warn_of_many_workers(num_workers)

    def _prepare_passes(self) -> None:
        self._length_said: int | None = None
        self._iterator: WorkerIterator | None = None
        self._slot_memory = _SlotMemory()
        self._server: WorkerServer | None = None
        self._epoch = 0
        self._seeds = OrderSeeds(self.generator)
        self._progress: Progress | None = None
        self._resumed: dict[str, Any] | None = None

    def _default_sampler(self) -> Sampler[Any]:
        if self._is_stream:
            return _StreamSampler()
        if self._shuffle:
            return RandomSampler(self.dataset, generator=self.generator)  # type: ignore[arg-type]
        return SequentialSampler(self.dataset)  # type: ignore[arg-type]

    def __setattr__(self, name: str, value: Any) -> None:
        fixed = (
            "batch_size",
            "batch_sampler",
            "sampler",
            "drop_last",
            "dataset",
            "persistent_workers",
        )
        if name in fixed and self.__dict__.get("_initialized"):
            raise ValueError(
                f"{name} attribute should not be set after {type(self).__name__} is initialized; make a new one"
            )
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # A copy has workers and a position of its own.
        return {**self.__dict__, "_iterator": None, "_server": None, "_progress": None}

    @property
    def multiprocessing_context(self) -> Any:
        """The `multiprocessing` context that starts workers; None for the loader's own choice."""
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: Any) -> None:
        self._context = None if context is None else _checked_context(context, self.num_workers)

    # Iterating ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> LoaderIterator:
        if not self.num_workers:
            return SingleProcessIterator(self)
        from disttorch.utils.data._utils.worker_iterator import WorkerIterator

        if not self.persistent_workers:
            return WorkerIterator(self)
        if self._iterator is None:
            self._iterator = WorkerIterator(self)
        else:
            self._iterator._restart(self)
        return self._iterator

    def __len__(self) -> int:
        """The number of batches of an epoch on this rank. For a stream, what its own length and the batch size give."""
        if self._is_stream:
            length = self._length_said = len(self.dataset)  # type: ignore[arg-type]
            if self.batch_size is None:
                return length
            return length // self.batch_size if self.drop_last else -(-length // self.batch_size)
        if self._owns_order:
            return len(self._own_order(Epoch(0, 0)))
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)

    def set_epoch(self, epoch: int) -> None:
        """Choose the number of the next epoch, from which its order follows (and that of a sampler with `set_epoch`).

        Without it epochs count themselves, and each draws a new seed for its order as in PyTorch.
        """
        self._epoch = epoch
        self._seeds.by_number = True
        for sampler in (self.batch_sampler, self.sampler):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)

    def _share(self) -> Share:
        world = sharding.world()
        if world.world_size > 1 and self._owns_order and (self._shuffle if self.shard is None else self.shard):
            return Share(world.rank, world.world_size)
        return Share()

    def _own_order(self, epoch: Epoch) -> OwnOrder:
        share = self._share()
        agree = sharding.world().agree if share.size > 1 else None
        from_generator = self.generator is not None and agree is None and not self._seeds.by_number
        return OwnOrder(
            self.dataset,  # type: ignore[arg-type]
            epoch,
            share,
            self.batch_size,
            self.drop_last,
            self._shuffle,
            self.generator,
            None if from_generator else partial(self._seeds.draw, epoch.number, agree),
        )

    def _order(self, epoch: Epoch) -> Order:
        """Return the order of a pass."""
        if self._is_stream:
            return Endless(self.batch_size)
        if not self._owns_order:
            return GivenOrder(self.sampler if self.batch_sampler is None else self.batch_sampler, epoch.batches)
        order = self._own_order(epoch)
        if order.share.size > 1 and self.shard is None:
            sharding.announce(order.share.size)
        return order

    def _worker_server(self) -> WorkerServer:
        """Return the process that starts workers; it ends with the last loader and iterator that use it."""
        from disttorch.utils.data._utils.server import running_server

        self._server = running_server()
        return self._server

    # Resuming -----------------------------------------------------------------------------------------------------

    def _next_epoch(self) -> tuple[Epoch, bool]:
        """Return the pass that begins now, and whether it is the rest of one that was saved."""
        state, self._resumed = self._resumed, None
        number, self._epoch = self._epoch, self._epoch + 1
        if state is None or state["base_seed"] is None:
            return Epoch(number, 0), False
        generator_state = state["generator_state"]
        epoch = Epoch(
            number,
            state["base_seed"],
            state["epoch_seed"],
            None if generator_state is None else generator_state._a,
            state["position"],
            state["batches"],
            state["seeded"],
            drained=state["drained"],
        )
        return epoch, True

    def state_dict(self) -> dict[str, Any]:
        """Return how far the latest pass over the data is: what was given out counts, not what workers have prepared.

        Between epochs it is the beginning of the next one. It holds numbers, strings and one uint8 tensor.
        """
        if self._resumed is not None:
            return dict(self._resumed)
        state: dict[str, Any] = dict.fromkeys(sorted(_STATE_KEYS))
        state.update(
            version=1, epoch=self._epoch, batches=0, position=0, first_seed=self._seeds.first, order=self._order_name(),
            samples=None if self._is_stream else _length(self.dataset), num_replicas=self._replicas(),
        )  # fmt: skip
        progress = self._progress
        if progress is None or progress.finished:
            return state
        epoch = progress.epoch
        state.update(
            epoch=epoch.number, batches=epoch.batches + progress.batches, base_seed=epoch.base_seed,
            epoch_seed=epoch.seed, seeded=epoch.seeded, drained=epoch.drained,
        )  # fmt: skip
        if epoch.begun and epoch.state is not None:
            state["generator_state"] = wrap(epoch.state.copy())
        if isinstance(progress.order, OwnOrder):
            together = progress.batches * (self.batch_size or 1) * progress.order.share.size
            state["position"] = min(epoch.position + together, state["samples"])
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make the next iteration go on where `state_dict` was taken.

        A loader in its own order (shuffling or not) may have another world size or batch size than the one that was
        saved. A sampler of yours is iterated again and a stream read again up to the position. Raises RuntimeError if an
        iteration has begun and not come to its end, ValueError for the state of another kind of loader.
        """
        if self._progress is not None and not self._progress.finished:
            raise RuntimeError(
                "load_state_dict() was called after iter() on the DataLoader, which would go on as it had begun; "
                "load the state before the first iteration"
            )
        _check_state(state_dict)
        mine = self.state_dict() if self._resumed is None else self._resumed
        for key, what in (
            ("order", "order"),
            ("samples", "number of samples"),
            ("num_replicas", "number of replicas"),
        ):
            if state_dict[key] != mine[key]:
                raise ValueError(
                    f"the state is of a DataLoader whose {what} is {state_dict[key]!r}, but it is {mine[key]!r} in this one"
                )
        self._epoch = state_dict["epoch"]
        self._seeds.first = state_dict["first_seed"]
        self._resumed = dict(state_dict)

    def _order_name(self) -> str:
        if self._is_stream:
            return "stream"
        if not self._owns_order:
            return "sampler"
        return "shuffled" if self._shuffle else "sequential"

    def _replicas(self) -> int | None:
        """Return among how many ranks a `DistributedSampler` divides the data."""
        return next(
            (s.num_replicas for s in (self.sampler, self.batch_sampler) if hasattr(s, "num_replicas")),
            None,
        )


# Checks ---------------------------------------------------------------------------------------------------------------


def _check_workers(num_workers: int, timeout: float, prefetch_factor: int | None, persistent: bool) -> None:
    if num_workers < 0:
        raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if num_workers == 0 and prefetch_factor is not None:
        raise ValueError(
            "prefetch_factor option could only be specified in multiprocessing. Let num_workers > 0 to enable "
            "multiprocessing, otherwise set prefetch_factor to None."
        )
    if prefetch_factor is not None and prefetch_factor < 0:
        raise ValueError("prefetch_factor option should be non-negative")
    if persistent and num_workers == 0:
        raise ValueError("persistent_workers option needs num_workers > 0")


def _check_order(
    dataset: Any,
    batch_size: int | None,
    shuffle: bool | None,
    sampler: Any,
    batch_sampler: Any,
    drop_last: bool,
    shard: bool | None,
) -> None:
    if isinstance(dataset, IterableDataset):
        given = {
            "shuffle": shuffle or None,
            "sampler": sampler,
            "batch_sampler": batch_sampler,
            "shard": shard or None,
        }
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={value}"
                )
    if sampler is not None and shuffle:
        raise ValueError("sampler option is mutually exclusive with shuffle")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last")
    if batch_size is None and batch_sampler is None and drop_last:
        raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
    if shard and (sampler is not None or batch_sampler is not None):
        raise ValueError("shard=True divides the loader's own order; leave out sampler and batch_sampler")


def _checked_context(context: Any, num_workers: int) -> Any:
    import multiprocessing
    from multiprocessing.context import BaseContext

    if not num_workers:
        raise ValueError(
            "multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got "
            f"num_workers={num_workers}"
        )
    if isinstance(context, str):
        methods = multiprocessing.get_all_start_methods()
        if context not in methods:
            raise ValueError(
                f"multiprocessing_context option should specify a valid start method in {methods!r}, but got "
                f"multiprocessing_context={context!r}"
            )
        context = multiprocessing.get_context(context)
    if not isinstance(context, BaseContext):
        raise TypeError(
            "multiprocessing_context option should be a valid context object or a string specifying the start method, "
            f"but got multiprocessing_context={context}"
        )
    return context


def _warn_of_many_workers(num_workers: int) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_workers > cores:
        warnings.warn(
            f"This DataLoader will create {num_workers} worker processes in total. Our suggested max number of worker in "
            f"current system is {cores}, which is smaller than what this DataLoader is going to create. Please be aware "
            "that excessive worker creation might get DataLoader running slow or even freeze, lower the worker number to "
            "avoid potential slowness/freeze if necessary.",
            stacklevel=3,
        )


def _check_state(state: Any) -> None:
    if not isinstance(state, dict) or set(state) != _STATE_KEYS or state["version"] != 1:
        raise ValueError("load_state_dict() expects what state_dict() of a DataLoader returned")
    generator_state = state["generator_state"]
    if generator_state is not None and not (
        isinstance(generator_state, Tensor) and generator_state._a.dtype == np.uint8
    ):
        raise ValueError("the generator_state of a DataLoader's state is to be a uint8 tensor or None")


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except TypeError:
        return None
