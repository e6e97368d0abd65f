"""Samplers: what they give, their lengths and their errors. Orders are compared with PyTorch in tests/parity."""

from __future__ import annotations

import pytest

import disttorch as torch
from disttorch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)


def test_sequential():
    sampler = SequentialSampler("abc")
    assert (list(sampler), len(sampler)) == ([0, 1, 2], 3)


def test_random_gives_a_permutation():
    torch.manual_seed(1)
    first, second = (list(RandomSampler(range(50))) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_random_with_more_samples_than_data():
    sampler = RandomSampler(range(4), num_samples=10)
    order = list(sampler)
    assert len(order) == len(sampler) == 10
    assert sorted(order[:4]) == sorted(order[4:8]) == [0, 1, 2, 3]


def test_random_with_replacement():
    order = list(RandomSampler(range(3), replacement=True, num_samples=100))
    assert len(order) == 100
    assert set(order) == {0, 1, 2}


def test_random_follows_the_length_of_the_data():
    data = [1, 2]
    sampler = RandomSampler(data)
    data.append(3)
    assert (len(sampler), sorted(sampler)) == (3, [0, 1, 2])


def test_random_checks_its_arguments():
    with pytest.raises(TypeError, match="replacement should be a boolean value, but got replacement=1"):
        RandomSampler(range(3), replacement=1)
    with pytest.raises(ValueError, match="num_samples should be a positive integer value, but got num_samples=0"):
        RandomSampler([])


def test_subset():
    sampler = SubsetRandomSampler([7, 8, 9])
    assert (sorted(sampler), len(sampler)) == ([7, 8, 9], 3)


def test_weighted():
    order = list(WeightedRandomSampler([0.0, 1.0, 3.0], 2000))
    assert set(order) == {1, 2}
    assert 0.7 < order.count(2) / 2000 < 0.8
    assert sorted(WeightedRandomSampler([1, 2, 3], 3, replacement=False)) == [0, 1, 2]
    with pytest.raises(ValueError, match="num_samples should be a positive integer"):
        WeightedRandomSampler([1.0], True)
    with pytest.raises(ValueError, match="replacement should be a boolean"):
        WeightedRandomSampler([1.0], 1, replacement=None)
    with pytest.raises(ValueError, match=r"1d sequence but given weights have shape \(1, 2\)"):
        WeightedRandomSampler([[1.0, 2.0]], 1)


def test_batches():
    assert list(BatchSampler(iter(range(5)), 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert len(BatchSampler(range(5), 2, drop_last=True)) == 2
    assert len(BatchSampler(range(5), 2, drop_last=False)) == 3
    with pytest.raises(ValueError, match="batch_size should be a positive integer value, but got batch_size=0"):
        BatchSampler(range(5), 0, False)
    with pytest.raises(ValueError, match="drop_last should be a boolean value, but got drop_last=1"):
        BatchSampler(range(5), 1, 1)


def test_base_class_asks_for_iter():
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(Sampler())


def test_distributed_pads_or_cuts():
    def orders(**options):
        return [list(DistributedSampler(range(7), 3, rank, **options)) for rank in range(3)]

    padded = orders(shuffle=False)
    assert padded == [[0, 3, 6], [1, 4, 0], [2, 5, 1]]
    assert orders(shuffle=False, drop_last=True) == [[0, 3], [1, 4], [2, 5]]
    shuffled = orders(seed=4)
    assert {i for order in shuffled for i in order} == set(range(7))


def test_distributed_repeats_epochs_until_told():
    sampler = DistributedSampler(range(20), 2, 0)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_distributed_takes_the_process_group(on_ranks):
    samplers = on_ranks(3, lambda _: DistributedSampler(range(9)))
    assert [(s.rank, s.num_replicas) for s in samplers] == [(0, 3), (1, 3), (2, 3)]


def test_distributed_checks_its_arguments():
    with pytest.raises(ValueError, match="Default process group has not been initialized"):
        DistributedSampler(range(3))
    with pytest.raises(ValueError, match=r"Invalid rank 2, rank should be in the interval \[0, 1\]"):
        DistributedSampler(range(3), num_replicas=2, rank=2)
