"""Loaders and samplers against PyTorch: the same seed gives the same samples in the same order."""

from __future__ import annotations

import collections
import random
from typing import NamedTuple

import numpy as np
import pytest

import disttorch
import disttorch.utils.data

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:This DataLoader will create")]

PACKAGES = (disttorch, torch)
SEEDS = (0, 7, 123456789012)


def _seeded(package, seed):
    package.manual_seed(seed)
    return package, package.utils.data


def _generator(package, seed):
    generator = package.Generator()
    generator.manual_seed(seed)
    return generator


def _plain(value):
    """Return nested data with tensors as (type name, shape, list)."""
    if isinstance(value, (torch.Tensor, disttorch.Tensor)):
        return str(value.dtype).removeprefix("torch."), tuple(value.shape), value.tolist()
    if isinstance(value, dict):
        return type(value).__name__, {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [_plain(v) for v in value]
    return value


def _same(function):
    """Call `function(package)` for both packages and return the result, which has to be equal."""
    ours, theirs = (function(package) for package in PACKAGES)
    assert _plain(ours) == _plain(theirs)
    return ours


SAMPLERS = {
    "sequential": lambda d, _: d.SequentialSampler(range(11)),
    "random": lambda d, _: d.RandomSampler(range(100)),
    "random twice": lambda d, _: d.RandomSampler(range(10), num_samples=25),
    "random with generator": lambda d, g: d.RandomSampler(range(10), generator=g),
    "replacement": lambda d, _: d.RandomSampler(range(10), replacement=True, num_samples=77),
    "replacement with generator": lambda d, g: d.RandomSampler(range(10), replacement=True, generator=g),
    "subset": lambda d, _: d.SubsetRandomSampler([3, 5, 8, 13]),
    "weighted": lambda d, _: d.WeightedRandomSampler([0.1, 0.9, 0.4, 0.7, 3.0, 0.6], 40),
    "weighted once each": lambda d, g: d.WeightedRandomSampler([0.9, 0.4, 0.05, 0.2], 3, False, g),
    "batches": lambda d, _: d.BatchSampler(d.RandomSampler(range(10)), 3, False),
    "whole batches": lambda d, _: d.BatchSampler(d.RandomSampler(range(10)), 3, True),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler(name, seed):
    def run(package):
        package, data = _seeded(package, seed)
        sampler = SAMPLERS[name](data, _generator(package, 5))
        return [list(sampler) for _ in range(3)], len(sampler), package.rand(1).item()

    _same(run)


@pytest.mark.parametrize(("n", "ranks"), [(10, 3), (12, 3), (2, 5), (7, 7), (9, 2)])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_distributed_sampler(n, ranks, shuffle, drop_last):
    def run(package):
        orders = []
        for rank in range(ranks):
            sampler = package.utils.data.distributed.DistributedSampler(
                range(n), ranks, rank, shuffle, seed=3, drop_last=drop_last
            )
            for epoch in (0, 4):
                sampler.set_epoch(epoch)
                orders.append((list(sampler), len(sampler)))
        return orders

    _same(run)


def test_random_split():
    def run(package):
        package, data = _seeded(package, 1)
        parts = data.random_split(range(10), [3, 7])
        parts += data.random_split(range(31), [0.3, 0.3, 0.4])
        parts += data.random_split(range(9), [4, 5], generator=_generator(package, 2))
        return [list(part) for part in parts], package.rand(1).item()

    _same(run)


LOADERS = {
    "sequential": {"batch_size": 4},
    "shuffled": {"batch_size": 4, "shuffle": True},
    "whole batches": {"batch_size": 4, "shuffle": True, "drop_last": True},
    "even": {"batch_size": 5, "shuffle": True},
    "single samples": {"batch_size": None, "shuffle": True},
    "default": {},
}


def _draws(package, data, options, workers=0, generator=None, persistent=False):
    dataset = data.TensorDataset(package.arange(15), package.arange(15).float() / 2)
    loader = data.DataLoader(
        dataset, num_workers=workers, generator=generator, persistent_workers=persistent, **options
    )
    batches = []
    for _ in range(3):
        batches.append([_plain(batch) for batch in loader])
        batches.append(package.rand(2).tolist())  # how much the loader has drawn
    if generator is not None:
        batches.append(package.rand(2, generator=generator).tolist())
    return batches, len(loader)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("given", [False, True], ids=["default generator", "own generator"])
@pytest.mark.parametrize("name", LOADERS)
def test_loader(name, given, seed):
    def run(package):
        package, data = _seeded(package, seed)
        return _draws(package, data, LOADERS[name], generator=_generator(package, 9) if given else None)

    _same(run)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("given", [False, True], ids=["default generator", "own generator"])
def test_loader_with_workers(given, persistent):
    def run(package):
        package, data = _seeded(package, 3)
        generator = _generator(package, 9) if given else None
        return _draws(package, data, LOADERS["shuffled"], 2, generator, persistent)

    _same(run)


def test_abandoned_epochs_draw_the_same():
    def run(package):
        package, data = _seeded(package, 3)
        generator = _generator(package, 9)
        loader = data.DataLoader(range(10), batch_size=5, shuffle=True, generator=generator)
        firsts = [next(iter(loader)).tolist() for _ in range(3)]
        return firsts, [batch.tolist() for batch in loader], package.rand(1).item()

    _same(run)


class Point(NamedTuple):
    x: float
    y: int


BATCHES = {
    "ints": [1, 2, 3],
    "bools": [True, False],
    "floats": [0.5, 1.5],
    "strings": ["a", "b"],
    "bytes": [b"a", b"b"],
    "tuples": [(1, 2.0, "x"), (3, 4.0, "y")],
    "lists": [[1, 2], [3, 4]],
    "dicts": [{"a": 1, "b": [1.0]}, {"a": 2, "b": [2.0]}],
    "named tuples": [Point(0.5, 1), Point(1.5, 2)],
    "ordered": [collections.OrderedDict(a=1), collections.OrderedDict(a=2)],
    "arrays": [np.arange(3), np.arange(3, 6)],
    "float32 arrays": [np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32)],
    "scalars": [np.float32(1), np.float32(2)],
    "doubles": [np.float64(1), np.float64(2)],
    "small ints": [np.int16(1), np.int16(2)],
    "truths": [np.bool_(True), np.bool_(False)],
    "zero-dimensional": [np.array(1.5), np.array(2.5)],
    "ranges": [range(2), range(2, 4)],
}


@pytest.mark.parametrize("name", BATCHES)
def test_default_collate(name):
    _same(lambda package: package.utils.data.default_collate(BATCHES[name]))


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "bfloat16"])
def test_default_collate_of_tensors(dtype):
    def run(package):
        kind = getattr(package, dtype)
        batch = package.utils.data.default_collate([(package.ones(2, dtype=kind), package.tensor(1)) for _ in range(3)])
        return [x.float() for x in batch], [str(x.dtype) for x in batch]

    _same(run)


def test_default_collate_promotes():
    def run(package):
        tensors = [package.tensor([1, 2]), package.tensor([0.5, 1.5])]
        return package.utils.data.default_collate(tensors)

    _same(run)


@pytest.mark.parametrize(
    "value",
    [1, 2.5, "a", b"b", None, np.arange(3), np.float32(1), [np.arange(2), 3], (np.arange(2), "x"), {"a": np.ones(1)},
     Point(np.array(0.5), 1), np.array(["a"]), np.str_("b")],
    ids=repr,
)  # fmt: skip
def test_default_convert(value):
    ours, theirs = (package.utils.data.default_convert(value) for package in PACKAGES)
    assert repr(_plain(ours)) == repr(_plain(theirs))


class RandomPerWorker:
    """A dataset of the first random numbers that a worker draws."""

    def __init__(self, package):
        self.package = package

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return random.random(), self.package.rand(1).item(), np.random.random()


def test_workers_draw_the_same_random_numbers():
    def run(package):
        package, data = _seeded(package, 11)
        return list(data.DataLoader(RandomPerWorker(package), batch_size=2, num_workers=2))

    _same(run)


def test_streams_come_in_the_same_order():
    def run(package):
        data = package.utils.data

        class Count(data.IterableDataset):
            def __iter__(self):
                worker = data.get_worker_info()
                return iter(range(7) if worker is None else range(worker.id, 7, worker.num_workers))

        return [
            list(data.DataLoader(Count(), batch_size=size, num_workers=workers, drop_last=drop))
            for size, drop in ((2, False), (2, True), (None, False))
            for workers in (0, 2)
        ]

    _same(run)


def test_datasets():
    def run(package):
        data = package.utils.data
        first = data.TensorDataset(package.arange(4))
        second = data.TensorDataset(package.arange(10, 13))
        joined = first + second
        stacked = data.StackDataset(first, joined.datasets[0])
        named = data.StackDataset(a=first, b=first)
        part = data.Subset(joined, [6, 0, 3])
        return (
            [joined[i] for i in (0, 3, 4, -1)], len(joined), stacked[1], named[2], list(part), part.__getitems__([2, 0]),
            named.__getitems__([0, 1]),
        )  # fmt: skip

    _same(run)


def _message(function):
    with pytest.raises(Exception) as caught:  # noqa: PT011  the type is compared
        function()
    return caught.type, str(caught.value)


WRONG = {
    "workers": {"num_workers": -1},
    "timeout": {"timeout": -1},
    "persistent": {"persistent_workers": True},
    "shuffle": {"shuffle": True, "sampler": range(3)},
    "batch size": {"batch_size": 0},
    "batch size type": {"batch_size": 2.0},
    "no batch": {"batch_size": None, "drop_last": True},
    "batch sampler": {"batch_sampler": [[0]], "batch_size": 3},
    "context": {"multiprocessing_context": "fork"},
    "context name": {"multiprocessing_context": "spoon", "num_workers": 1},
    "context type": {"multiprocessing_context": 3, "num_workers": 1},
}


@pytest.mark.parametrize("name", WRONG)
def test_argument_errors(name):
    ours, theirs = (
        _message(lambda package=package: package.utils.data.DataLoader(range(5), **WRONG[name])) for package in PACKAGES
    )
    assert ours == theirs


def test_fixed_attributes():
    def run(package):
        loader = package.utils.data.DataLoader(range(5))
        return _message(lambda: setattr(loader, "batch_size", 3))

    ours, theirs = run(disttorch), run(torch)
    assert ours[0] is theirs[0]
    assert ours[1].startswith(theirs[1])
