"""Worker processes: the same batches, errors that arrive, deaths that are noticed, nothing left behind."""

from __future__ import annotations

import collections
import gc
import os
import random
import signal
import sys
import threading
import time
import traceback

import cloudpickle
import numpy as np
import pytest

import disttorch as torch
from disttorch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, get_worker_info, sample_rng
from disttorch.utils.data._utils.pool import FINISH_SECONDS, TERMINATE_SECONDS

# Workers of the server cannot import this module: its classes travel by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

Point = collections.namedtuple("Point", "x y")


class Squares:
    def __init__(self, n=20):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return torch.tensor(index), np.full((3, 2), index**2, np.float32), float(index)


def _plain(batch):
    return [part.tolist() for part in batch]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": True, "drop_last": True}], ids=str)
def test_batches_are_those_of_one_process(start, workers, options):
    results = []
    for number in (0, workers):
        torch.manual_seed(4)
        loader = DataLoader(Squares(), batch_size=3, num_workers=number, **options)
        results.append([[_plain(batch) for batch in loader] for _ in range(2)])
    assert results[0] == results[1]


@pytest.mark.parametrize("context", ["spawn", "forkserver", "fork"])
def test_start_methods(context):
    loader = DataLoader(TensorDataset(torch.arange(5)), batch_size=2, num_workers=1, multiprocessing_context=context)
    assert [b[0].tolist() for b in loader] == [[0, 1], [2, 3], [4]]
    if context != "fork":
        from multiprocessing import forkserver, resource_tracker

        forkserver._forkserver._stop()
        resource_tracker._resource_tracker._stop()


def test_tensor_datasets(start):
    data = TensorDataset(torch.arange(10), torch.arange(20.0).reshape(10, 2))
    loader = DataLoader(Subset(data, list(range(9, -1, -1))), batch_size=4, num_workers=2)
    x, y = (torch.cat(parts).tolist() for parts in zip(*loader, strict=True))
    assert x == list(range(9, -1, -1))
    assert y == [[2.0 * i, 2.0 * i + 1] for i in x]


def test_any_kind_of_batch(start):
    def assemble(samples):
        index = [int(s[0]) for s in samples]
        return {
            "point": Point(torch.tensor(index), [s[2] for s in samples]),
            "array": np.stack([s[1] for s in samples]),
            "strided": torch.arange(6).reshape(2, 3).t(),
            "text": ["a", "b"],
            "empty": torch.empty(0, 3),
            "scalar": np.float32(2),
            "nothing": None,
            "half": torch.ones(2, dtype=torch.bfloat16),
            "record": np.zeros(2, [("a", "i4"), ("b", "f8")]),
        }

    for batch in DataLoader(Squares(8), batch_size=2, num_workers=1, collate_fn=assemble):
        assert isinstance(batch["point"], Point)
        first = batch["point"].x[0].item()
        assert batch["array"].tolist() == np.full((2, 3, 2), [[[first**2]], [[(first + 1) ** 2]]]).tolist()
        assert batch["strided"].tolist() == [[0, 3], [1, 4], [2, 5]]
        assert batch["text"] == ["a", "b"]
        assert batch["empty"].shape == (0, 3)
        assert batch["scalar"] == np.float32(2)
        assert batch["nothing"] is None
        assert batch["half"].dtype == torch.bfloat16
        assert batch["record"].dtype.names == ("a", "b")


def test_leaves_keep_requires_grad_and_other_tensors_are_refused():
    class Leaves(Squares):
        def __getitem__(self, index):
            leaf = torch.ones(2, requires_grad=True)
            return leaf if index == 0 else leaf * 2

    batches = iter(DataLoader(Leaves(2), batch_size=None, num_workers=1))
    assert next(batches).requires_grad
    with pytest.raises(RuntimeError, match="Cowardly refusing to serialize non-leaf tensor"):
        next(batches)


# Shared memory --------------------------------------------------------------------------------------------------------


def _address(tensor):
    return tensor.numpy().ctypes.data


def test_batches_that_are_kept_do_not_change(start):
    loader = DataLoader(Squares(60), batch_size=3, num_workers=2)
    for _ in range(2):
        kept = list(loader)
        for i, (index, squares, _) in enumerate(kept):
            assert index.tolist() == [3 * i, 3 * i + 1, 3 * i + 2]
            assert squares[:, 0, 0].tolist() == [float(j**2) for j in index.tolist()]


def test_slots_are_used_again():
    loader = DataLoader(Squares(200), batch_size=2, num_workers=1)
    list(loader)
    addresses = collections.Counter(_address(squares) for _, squares, _ in loader)
    assert len(addresses) <= 2 + 2
    assert all(address % 64 == 0 for address in addresses)


def test_a_view_of_a_batch_keeps_its_slot():
    batches = iter(DataLoader(Squares(100), batch_size=2, num_workers=1))
    for _ in range(5):
        next(batches)
    view = next(batches)[1][1, 0].numpy()
    for _ in batches:
        pass
    assert view.tolist() == [121.0, 121.0]


def test_batches_can_be_written_to():
    for index, squares, _ in DataLoader(Squares(40), batch_size=2, num_workers=1):
        assert squares[:, 0, 0].tolist() == [float(i**2) for i in index.tolist()]
        squares.fill_(-1)


def test_batches_that_grow():
    class Growing(Squares):
        def __getitem__(self, index):
            return torch.full((index % 40 * 1000 + 1,), index)

    loader = DataLoader(Growing(80), num_workers=2)
    for _ in range(2):
        for i, batch in enumerate(loader):
            assert batch.shape == (1, i % 40 * 1000 + 1)
            assert (batch == i).all()


def test_large_messages_in_both_directions():
    n = 300_000
    loader = DataLoader(range(2 * n), batch_size=n, num_workers=1, collate_fn=list)
    assert [(b[0], len(b)) for b in loader] == [(0, n), (n, n)]


def test_what_a_worker_writes_to_the_dataset_is_its_own(start):
    class Scratch(Squares):
        def __init__(self):
            super().__init__(4)
            self.data = np.zeros(4)

        def __getitem__(self, index):
            self.data += 1
            return self.data[0]

    dataset = Scratch()
    assert [b.item() for b in DataLoader(dataset, num_workers=2)] == [1, 1, 2, 2]
    assert dataset.data[0] == 0


# Workers and their random numbers -------------------------------------------------------------------------------------


class Drawn(Squares):
    def __getitem__(self, index):
        info = get_worker_info()
        return info.id, info.num_workers, info.seed, random.random(), torch.rand(1).item(), np.random.random()


def test_worker_seeds(start):
    torch.manual_seed(0)
    base_seed = int(torch.empty((), dtype=torch.int64).random_())
    torch.manual_seed(0)
    for batch in DataLoader(Drawn(2), num_workers=2):
        worker, count, seed, python, own, _ = (part.item() for part in batch)
        assert (count, seed) == (2, base_seed + worker)
        generator = torch.Generator()
        generator.manual_seed(seed)
        assert python == random.Random(seed).random()
        assert own == torch.rand(1, generator=generator).item()
    assert get_worker_info() is None


def test_every_worker_and_epoch_draws_its_own_numbers(start):
    loader = DataLoader(Drawn(4), num_workers=2)
    drawn = [batch[k].item() for _ in range(2) for batch in loader for k in (3, 4, 5)]
    assert len(set(drawn)) == 24


def test_sample_rng_does_not_depend_on_workers(start):
    class Noisy(Squares):
        def __getitem__(self, index):
            return index, sample_rng().integers(1 << 30)

    def noise(workers):
        torch.manual_seed(0)
        loader = DataLoader(Noisy(), batch_size=3, shuffle=True, num_workers=workers)
        return [_plain(batch) for _ in range(2) for batch in loader]

    assert noise(2) == noise(0)


def test_worker_init_fn(start):
    def init(worker_id):
        get_worker_info().dataset.n = 100 + worker_id

    class Length(Squares):
        def __getitem__(self, index):
            return self.n

    assert [b.item() for b in DataLoader(Length(4), num_workers=2, worker_init_fn=init)] == [100, 101, 100, 101]


class Stream(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        return iter(range(info.id, 9, info.num_workers))


def test_streams(start):
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=2, num_workers=2)] == [
        [0, 2],
        [1, 3],
        [4, 6],
        [5, 7],
        [8],
    ]
    loader = DataLoader(Stream(), batch_size=2, num_workers=2, drop_last=True, persistent_workers=True)
    for _ in range(2):
        assert [b.tolist() for b in loader] == [[0, 2], [1, 3], [4, 6], [5, 7]]


def test_persistent_workers(start):
    class Pids(Squares):
        def __getitem__(self, index):
            return os.getpid(), index

    def epoch(loader):
        pids, indices = (torch.cat(parts).tolist() for parts in zip(*loader, strict=True))
        assert sorted(indices) == list(range(20))
        return set(pids)

    loader = DataLoader(Pids(), batch_size=3, shuffle=True, num_workers=2, persistent_workers=True)
    first = epoch(loader)
    assert len(first) == 2
    next(iter(loader))  # left behind: the next pass starts anew
    assert epoch(loader) == first
    other = DataLoader(Pids(), batch_size=3, num_workers=2)
    assert not epoch(other) & epoch(other)


def test_the_order_may_be_given_up():
    class Slow(Squares):
        def __getitem__(self, index):
            if index == 0:
                time.sleep(0.5)
            return index

    batches = [b.item() for b in DataLoader(Slow(6), num_workers=2, in_order=False)]
    assert sorted(batches) == list(range(6))
    assert batches[0] != 0


# Errors ---------------------------------------------------------------------------------------------------------------


class CustomError(Exception):
    def __init__(self, code, place):
        super().__init__(f"{code} at {place}")
        self.code, self.place = code, place

    def __reduce__(self):
        return CustomError, (self.code, self.place)


class UnpicklableError(Exception):
    def __init__(self, a, b):
        super().__init__("lost on the way")
        self.file = open(os.devnull)  # noqa: SIM115


class Broken(Squares):
    def __init__(self, make):
        super().__init__(6)
        self.make = make

    def __getitem__(self, index):
        if index == 3:
            raise self.make()
        return index


def test_errors_keep_their_type_and_tell_where_they_come_from(start):
    batches = iter(
        DataLoader(Broken(lambda: FileNotFoundError(2, "no such image", "x.png")), batch_size=2, num_workers=2)
    )
    assert next(batches).tolist() == [0, 1]
    with pytest.raises(FileNotFoundError, match="no such image") as caught:
        next(batches)
    assert caught.value.filename == "x.png"
    text = "".join(traceback.format_exception(caught.value))
    assert "Caught FileNotFoundError in DataLoader worker process 1" in text
    assert "(sample 3, worker 1, batch 1, epoch 0)" in text
    assert "raise self.make()" in text
    assert next(batches).tolist() == [4, 5]


def test_errors_with_constructors_of_their_own(start):
    with pytest.raises(CustomError) as caught:
        list(DataLoader(Broken(lambda: CustomError(7, "the mill")), num_workers=1))
    assert (caught.value.code, caught.value.place) == (7, "the mill")


@pytest.mark.parametrize(
    ("make", "text"),
    [(lambda: UnpicklableError(1, 2), "UnpicklableError: lost on the way"), (StopIteration, "StopIteration")],
    ids=["unpicklable", "StopIteration"],
)
def test_errors_that_cannot_be_raised_again(make, text):
    with pytest.raises(RuntimeError, match=text):
        list(DataLoader(Broken(make), num_workers=1))


def test_errors_while_joining_and_while_starting(start):
    with pytest.raises(RuntimeError, match="equal size") as caught:
        list(DataLoader([[1], [1, 2]], batch_size=2, num_workers=1))
    assert "(worker 0, batch 0, epoch 0)" in str(caught.value.__cause__)

    def fail(worker_id):
        raise LookupError(f"no scratch folder for {worker_id}")

    with pytest.raises(LookupError, match="no scratch folder for 0"):
        list(DataLoader(Squares(), num_workers=1, worker_init_fn=fail))


def test_errors_of_a_sampler_end_the_workers():
    def order():
        yield 0
        raise ArithmeticError("bad order")

    class Order:
        def __iter__(self):
            return order()

    with pytest.raises(ArithmeticError, match="bad order"):
        list(DataLoader(Squares(), sampler=Order(), num_workers=1))


def test_unpicklable_datasets_are_named():
    class Locked(Squares):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="the-other-thread")
    thread.start()
    try:
        with pytest.raises(
            RuntimeError, match=r"cannot be sent to worker processes: cannot pickle '_thread.lock'"
        ) as caught:
            list(DataLoader(Locked(), num_workers=1))
        assert "the process has other threads (the-other-thread), so that forking is unsafe" in str(caught.value)
        loader = DataLoader(Locked(), batch_size=20, num_workers=1, multiprocessing_context="fork")
        assert len(list(loader)) == 1
    finally:
        done.set()
        thread.join()


class Dying(Squares):
    def __init__(self, how):
        super().__init__(8)
        self.how = how

    def __getitem__(self, index):
        if index == 5 and get_worker_info().id == 1:
            self.how()
        return index


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (
            lambda: os.kill(os.getpid(), signal.SIGKILL),
            r"is killed by signal: SIGKILL; the system kills .* memory runs out",
        ),
        (lambda: os.kill(os.getpid(), signal.SIGALRM), r"is killed by signal: SIGALRM\."),
        (lambda: os._exit(3), r"exited unexpectedly with exit code 3\."),
    ],
    ids=["SIGKILL", "SIGALRM", "exit"],
)
def test_dead_workers_are_named(start, how, text):
    with pytest.raises(RuntimeError, match=rf"DataLoader worker 1 \(pid \d+\) {text}.* batch 5 of epoch 0"):
        list(DataLoader(Dying(how), num_workers=2))


def test_a_killed_worker_is_noticed_while_others_deliver():
    class Slow(Squares):
        def __getitem__(self, index):
            time.sleep(0.05)
            return get_worker_info().id, os.getpid()

    batches = iter(DataLoader(Slow(400), num_workers=2, prefetch_factor=20))
    _, victim = next(batches)
    os.kill(int(victim), signal.SIGKILL)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=rf"\(pid {int(victim)}\) is killed"):
        for _ in batches:
            pass
    assert time.monotonic() - begin < 10  # the whole would take over 10 s


def test_timeout(start, monkeypatch):
    monkeypatch.setattr("disttorch.utils.data._utils.pool.FINISH_SECONDS", 0.1)

    class Stuck(Squares):
        def __getitem__(self, index):
            time.sleep(60 if index == 1 else 0)
            return index

    batches = iter(DataLoader(Stuck(), num_workers=1, timeout=1.5))
    assert next(batches).item() == 0
    with pytest.raises(
        RuntimeError, match=r"DataLoader timed out after 1.5 seconds, waiting for batch 1 from worker 0"
    ):
        next(batches)


def test_a_stopped_worker_ends_with_its_loader(start, leftovers):
    class Pids(Squares):
        def __getitem__(self, index):
            return os.getpid()

    children, wait_until = leftovers
    before = children()
    batches = iter(DataLoader(Pids(100), num_workers=1))
    os.kill(int(next(batches)), signal.SIGSTOP)
    begin = time.monotonic()
    del batches
    gc.collect()
    assert wait_until(lambda: children() <= before)
    assert time.monotonic() - begin < FINISH_SECONDS + TERMINATE_SECONDS / 2


def test_nothing_is_left_of_abandoned_iterations(start, leftovers):
    children, wait_until = leftovers
    before = children()
    loader = DataLoader(Squares(100), num_workers=2)
    for _ in loader:
        break
    iterator = iter(loader)
    next(iterator)
    del iterator, loader
    gc.collect()
    assert wait_until(lambda: children() <= before)


def test_stubborn_workers_are_killed(monkeypatch, leftovers):
    monkeypatch.setattr("disttorch.utils.data._utils.pool.FINISH_SECONDS", 0.1)
    monkeypatch.setattr("disttorch.utils.data._utils.pool.TERMINATE_SECONDS", 0.3)
    children, wait_until = leftovers

    class Stubborn(Squares):
        def __getitem__(self, index):
            if index == 1:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(60)
            return index

    before = children()
    batches = iter(DataLoader(Stubborn(), num_workers=1))
    next(batches)
    time.sleep(0.3)
    del batches
    assert wait_until(lambda: children() <= before, 10)
