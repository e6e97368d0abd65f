"""Iterating over a loader with worker processes: tasks go out in turn, batches come back in order."""

from __future__ import annotations

import contextlib
import pickle
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from disttorch.utils.data._utils.iterator import LoaderIterator
from disttorch.utils.data._utils.launch import choose_start
from disttorch.utils.data._utils.order import Endless
from disttorch.utils.data._utils.pool import Pool, WorkerDiedError
from disttorch.utils.data._utils.remote_error import raise_error
from disttorch.utils.data._utils.slots import HELD_SLOTS, SlotRing, unpack
from disttorch.utils.data._utils.worker import BATCH, END, ERROR, REPLY, Begin, Job, Ring, Task

if TYPE_CHECKING:
    from disttorch.utils.data.dataloader import DataLoader

# Room for batches somewhat larger than the largest so far; memory is taken only when it is written to.
_HEADROOM = 1.5


@dataclass
class _Sent:
    """A task that a worker has been given, and the answer when it is there."""

    worker: int
    batch: int
    ring: SlotRing | None
    slot: int
    indices: Any
    answer: tuple[int, int, bytes] | None = None


class WorkerIterator(LoaderIterator):
    """Loads batches in worker processes, `prefetch_factor` per worker ahead."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        super().__init__(loader)
        self._timeout = loader.timeout or None
        self._persistent = loader.persistent_workers
        self._in_order = loader.in_order
        self._limit = max(1, loader.prefetch_factor or 1) * loader.num_workers
        self._memory = loader._slot_memory
        job = Job(
            loader.dataset,
            loader.batch_sampler is not None,
            loader.collate_fn,
            loader.drop_last,
            loader.worker_init_fn,
            loader.num_workers,
            self._progress.epoch.base_seed,
        )
        self._pool = Pool(
            choose_start(job, loader.multiprocessing_context, loader._worker_server),
            loader.num_workers,
        )
        self._ring: SlotRing | None = None
        self._next_id = 0
        self._tasks: dict[int, _Sent] = {}
        self._stale: dict[int, _Sent] = {}
        self._start_epoch()

    def _restart(self, loader: DataLoader[Any]) -> None:
        """Begin the next pass with the same workers."""
        self._stale.update({i: task for i, task in self._tasks.items() if task.answer is None})
        for task in self._tasks.values():
            if task.answer is not None:
                self._give_back(task)
        self._tasks = {}
        self._begin(loader, base_seed=self._progress.epoch.base_seed)
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._active = [True] * self._num_workers
        self._turn = 0
        self._begun = False
        self._exhausted = False
        self._dispatched = self._progress.epoch.batches
        streams = isinstance(self._progress.order, Endless)
        self._to_skip = self._dispatched if streams else 0
        if streams:
            self._dispatched = 0
        with self._closing_on_error():
            if self._ring is None and self._memory.batch_bytes:
                self._use_ring()
            for _ in range(self._limit):
                self._dispatch()

    @contextlib.contextmanager
    def _closing_on_error(self) -> Any:
        """End the workers when the iteration cannot go on, Ctrl-C included."""
        try:
            yield
        except BaseException:
            self._tasks.clear()
            self._pool.close()
            raise

    # Tasks --------------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give the next batch to the worker whose turn it is; nothing if there is none left."""
        worker = self._next_worker()
        if worker is None or self._exhausted:
            return
        try:
            indices = self._next_indices()
        except StopIteration:
            self._exhausted = True
            return
        if not self._begun:
            self._begun = True
            self._announce(Begin(self._progress.epoch.number, self._sample_seed()))
        slot = self._ring.acquire() if self._ring else -1
        sent = _Sent(worker, self._dispatched, self._ring, slot, indices)
        self._tasks[self._next_id] = sent
        self._pool.post(worker, pickle.dumps(Task(self._next_id, sent.batch, slot, indices)))
        self._next_id += 1
        self._dispatched += 1

    def _announce(self, message: Any, descriptors: tuple[int, ...] = ()) -> None:
        payload = pickle.dumps(message)
        for worker in range(self._num_workers):
            self._pool.post(worker, payload, descriptors)

    def _next_worker(self) -> int | None:
        for _ in range(self._num_workers):
            worker, self._turn = self._turn, (self._turn + 1) % self._num_workers
            if self._active[worker]:
                return worker
        return None

    def _use_ring(self) -> None:
        """Put the batches of tasks from now on into a segment with room for the largest batch so far."""
        ring = SlotRing(self._limit + HELD_SLOTS, int(self._memory.batch_bytes * _HEADROOM))
        self._announce(Ring(ring.size, ring.slot_bytes), (ring.fd,))
        self._ring = ring

    # Answers ------------------------------------------------------------------------------------------------------

    def _next_batch(self) -> Any:
        with self._closing_on_error():
            while True:
                sent = self._next_answer()
                if sent is None:
                    break
                assert sent.answer is not None
                kind, used, payload = sent.answer
                if kind == END:
                    self._active[sent.worker] = False
                    self._give_back(sent)
                    self._dispatch()
                elif kind == BATCH and self._to_skip:
                    self._to_skip -= 1
                    self._give_back(sent)
                    self._dispatch()
                else:
                    break
        if sent is None:
            if not self._persistent:
                self._pool.close()
            raise StopIteration
        return self._deliver(sent, kind, used, payload)

    def _deliver(self, sent: _Sent, kind: int, used: int, payload: bytes) -> Any:
        with self._closing_on_error():
            if kind == ERROR or sent.ring is None or not used:
                self._give_back(sent)
                memory = None
            else:
                memory = sent.ring.lease(sent.slot, used)
            self._dispatch()
        if kind == ERROR:
            raise_error(payload)
        return unpack(payload, memory)

    def _give_back(self, sent: _Sent) -> None:
        if sent.ring is not None:
            sent.ring.release(sent.slot)

    def _next_answer(self) -> _Sent | None:
        """Return the task that is next in the order, with its answer; None when all are done."""
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        looked = False
        while self._tasks:
            ready = self._ready()
            if ready is not None and looked:
                return self._tasks.pop(ready)
            # Look once even if the batch is here: a dead worker is not to be noticed batches later.
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._receive(0.0 if ready is not None else left) and ready is None:
                waiting = next(iter(self._tasks.values()))
                raise RuntimeError(
                    f"DataLoader timed out after {self._timeout} seconds, waiting for batch {waiting.batch} from worker "
                    f"{waiting.worker}"
                )
            looked = True
        return None

    def _ready(self) -> int | None:
        first = next(iter(self._tasks))
        if self._in_order:
            return first if self._tasks[first].answer is not None else None
        return next((i for i, task in self._tasks.items() if task.answer is not None), None)

    def _receive(self, timeout: float | None) -> bool:
        """Store the answers that arrive within `timeout` seconds; return whether there were any."""
        try:
            messages = self._pool.wait(timeout)
        except WorkerDiedError as death:
            raise RuntimeError(f"{death}.{self._lost(death.worker)}") from None
        for _, message in messages:
            kind, number, used, wanted = REPLY.unpack_from(message)
            if number in self._stale:
                self._give_back(self._stale.pop(number))
                continue
            self._tasks[number].answer = (kind, used, message[REPLY.size :])
            if wanted > self._memory.batch_bytes:
                self._memory.batch_bytes = wanted
                if self._ring is None or wanted > self._ring.slot_bytes:
                    self._use_ring()
        return bool(messages)

    def _lost(self, worker: int) -> str:
        lost = next((t for t in self._tasks.values() if t.worker == worker and t.answer is None), None)
        return "" if lost is None else f" It was to load batch {lost.batch} of epoch {self._progress.epoch.number}."

    def __len__(self) -> int:
        return len(self._progress.order)  # type: ignore[arg-type]
