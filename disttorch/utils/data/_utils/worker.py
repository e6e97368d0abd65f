"""What runs in a worker process: receive indices, load a batch, send it back."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from disttorch.random import manual_seed
from disttorch.utils.data._utils import collate, remote_error, worker_info
from disttorch.utils.data._utils.channel import Channel
from disttorch.utils.data._utils.fetch import StreamFetcher, make_fetcher
from disttorch.utils.data._utils.sample_rng import context
from disttorch.utils.data._utils.slots import BatchPickler, Placing, SlotWriter, pack

# What a worker answers: kind, task, bytes used in the slot, bytes that the whole batch would take there.
REPLY = struct.Struct("<BQQQ")
BATCH, ERROR, END = range(3)


@dataclass
class Job:
    """What all workers of a loader have in common."""

    dataset: Any
    batched: bool
    collate_fn: Callable[[Any], Any]
    drop_last: bool
    init_fn: Callable[[int], Any] | None
    num_workers: int
    base_seed: int


@dataclass
class Ring:
    """Message: put batches into this segment from now on; its descriptor comes with the message."""

    size: int
    slot_bytes: int


@dataclass
class Begin:
    """Message: an epoch begins; `seed` is that of `sample_rng`."""

    epoch: int
    seed: int


@dataclass
class Task:
    """Message: load these indices into a slot (-1: none). `batch` is the number in the epoch, for messages."""

    id: int
    batch: int
    slot: int
    indices: Any


def seed_everything(base_seed: int, worker_id: int) -> int:
    """Seed `random`, disttorch and NumPy as a worker of PyTorch's does; return the worker's seed."""
    seed = base_seed + worker_id
    random.seed(seed)
    manual_seed(seed)
    words = [worker_id, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    np.random.seed(np.random.SeedSequence(words).generate_state(4))
    return seed


class Worker:
    """One worker: answers messages on its channel until the loader closes it."""

    def __init__(self, channel: Channel, worker_id: int) -> None:
        self.channel = channel
        self.id = worker_id
        self.writer = SlotWriter()
        self.pickler: type[Any] = BatchPickler
        self.fetch: Callable[[Any], Any] | None = None
        self.failure: Exception | None = None
        self.epoch = 0
        collate.set_allocator(self.writer.allocate)

    def run(self, make_job: Callable[[], Job]) -> None:
        """Work for as long as the loader wants. What fails before the first batch is its answer to every task."""
        try:
            self.job = make_job()
            self._prepare()
        except Exception as error:
            self.failure = error
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            while True:
                payload, descriptors = self.channel.receive()
                self._handle(pickle.loads(payload), descriptors)

    def _prepare(self) -> None:
        job = self.job
        seed = seed_everything(job.base_seed, self.id)
        worker_info.current = worker_info.WorkerInfo(self.id, job.num_workers, seed, job.dataset)
        if job.init_fn is not None:
            job.init_fn(self.id)

    def _handle(self, message: Any, descriptors: list[int]) -> None:
        if isinstance(message, Task):
            self.channel.send(self._answer(message))
        elif isinstance(message, Ring):
            self.writer.attach(descriptors[0], message.size, message.slot_bytes)
        elif self.failure is None:
            self._begin(message)

    def _begin(self, message: Begin) -> None:
        context.epoch, context.seed = message.epoch, message.seed
        job = self.job
        try:
            self.fetch = make_fetcher(job.dataset, job.batched, job.collate_fn, job.drop_last)
        except Exception as error:
            self.failure = error

    def _answer(self, task: Task) -> bytes:
        self.writer.begin(task.slot)
        try:
            if self.failure is not None:
                raise self.failure
            assert self.fetch is not None
            payload = self._pack(self.fetch(task.indices))
        except Exception as error:
            if isinstance(error, StopIteration) and isinstance(self.fetch, StreamFetcher):
                return REPLY.pack(END, task.id, 0, 0)
            payload = remote_error.dump_error(error, self._where(task), self._dump)
            return REPLY.pack(ERROR, task.id, 0, 0) + payload
        used = self.writer.used
        return REPLY.pack(BATCH, task.id, used, used + self.writer.missed) + payload

    def _pack(self, batch: Any) -> bytes:
        used = self.writer.used
        try:
            return pack(batch, self.writer, self.pickler)
        except (pickle.PicklingError, AttributeError, TypeError):
            if self.pickler is not BatchPickler:
                raise
        # A class of the user's script has no name here that the loader could find: it travels by value.
        self.writer.used, self.writer.missed = used, 0
        payload = pack(batch, self.writer, _by_value_pickler())
        self.pickler = _by_value_pickler()
        return payload

    def _dump(self, obj: Any) -> bytes:
        try:
            return pickle.dumps(obj)
        except (pickle.PicklingError, AttributeError, TypeError):
            import cloudpickle

            return cloudpickle.dumps(obj)

    def _where(self, task: Task) -> str:
        sample = "" if context.sample is None else f"sample {_short(context.sample)}, "
        return (
            f"DataLoader worker process {self.id} ({sample}worker {self.id}, batch {task.batch}, epoch {context.epoch})"
        )


def _by_value_pickler() -> type[Any]:
    import cloudpickle

    global _ByValuePickler
    if _ByValuePickler is None:
        _ByValuePickler = type("ByValuePickler", (Placing, cloudpickle.Pickler), {})
    return _ByValuePickler


_ByValuePickler: type[Any] | None = None


def _short(sample: Any) -> str:
    text = repr(sample)
    return text if len(text) <= 60 else text[:57] + "..."


def start(sock: Any, worker_id: int, make_job: Callable[[], Job], parent: int | None) -> None:
    """Be a worker: the body of the process. `parent`: end at once when this process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends its workers
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if parent is not None:
        die_with_parent(parent)
    _use_one_thread()
    Worker(Channel(sock), worker_id).run(make_job)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    import ctypes

    set_death_signal = 1
    ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _use_one_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
