"""Going on in mid-epoch with `state_dict` and `load_state_dict`."""

from __future__ import annotations

import io
import itertools
import random

import pytest

import disttorch as torch
from disttorch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

N = 23


class Count(IterableDataset):
    def __iter__(self):
        return iter(range(N))


def _dataset(n=N):
    return TensorDataset(torch.arange(n))


def _generator(seed):
    generator = torch.Generator()
    generator.manual_seed(seed)
    return generator


KINDS = {
    "sequential": dict,
    "shuffled": lambda: {"shuffle": True},
    "shuffled from a generator": lambda: {"shuffle": True, "generator": _generator(4)},
    "sampler": lambda: {"sampler": RandomSampler(range(N))},
    "sampler with generator": lambda: {
        "sampler": RandomSampler(range(N), generator=_generator(4)),
        "generator": _generator(5),
    },
    "weighted": lambda: {"sampler": WeightedRandomSampler(range(1, N + 1), N)},
    "distributed": lambda: {"sampler": DistributedSampler(range(2 * N - 1), 2, 0)},
    "stream": dict,
}


def _loader(kind, workers):
    dataset = Count() if kind == "stream" else _dataset(2 * N if kind == "distributed" else N)
    return DataLoader(dataset, batch_size=4, num_workers=workers, **KINDS[kind]())


def _values(batch):
    return (batch[0] if isinstance(batch, list) else batch).tolist()


@pytest.mark.parametrize(("workers", "consumed"), [(0, 0), (0, 1), (0, 4), (0, 6), (2, 0), (2, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_rest_of_the_epoch_and_the_next_ones_are_the_same(kind, consumed, workers):
    torch.manual_seed(1)
    loader = _loader(kind, workers)
    list(loader)
    batches = iter(loader)
    for _ in range(consumed):
        next(batches)
    state, rng = loader.state_dict(), torch.get_rng_state()
    own = None if loader.generator is None else loader.generator.get_state()
    expected = [_values(b) for b in batches], [_values(b) for b in loader], torch.rand(1).item()

    torch.manual_seed(999)
    again = _loader(kind, workers)
    again.load_state_dict(state)
    torch.set_rng_state(rng)
    if own is not None:
        again.generator.set_state(own)
    rest = [_values(b) for b in again]
    if kind == "sampler with generator":  # its generator is not the loader's to restore
        assert len(rest) == len(expected[0])
        return
    assert (rest, [_values(b) for b in again], torch.rand(1).item()) == expected


def test_between_epochs_the_next_one_is_whole():
    torch.manual_seed(1)
    loader = DataLoader(_dataset(), 4, shuffle=True)
    list(loader)
    state = loader.state_dict()
    assert (state["epoch"], state["position"], state["base_seed"]) == (1, 0, None)
    again = DataLoader(_dataset(), 4, shuffle=True)
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert sorted(i for b in again for i in _values(b)) == list(range(N))
    assert again.state_dict()["epoch"] == 2


def _ranks_from(on_ranks, ranks, state, batch_size, take=None):
    def run(rank):
        torch.manual_seed(50 + rank)
        loader = DataLoader(_dataset(), batch_size, shuffle=True)
        if state is not None:
            loader.load_state_dict(state)
        batches = [_values(b) for b in itertools.islice(loader, take)]
        return batches, loader.state_dict(), [_values(b) for b in loader]

    return on_ranks(ranks, run)


def _together(per_rank):
    joined = []
    for batches in itertools.zip_longest(*per_rank, fillvalue=[]):
        joined += [i for row in itertools.zip_longest(*batches) for i in row if i is not None]
    return joined


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("batch_size", [2, 3])
def test_at_another_world_size_and_batch_size(on_ranks, before, after, batch_size):
    torch.manual_seed(50)
    order = [i for b in DataLoader(_dataset(), 1, shuffle=True) for i in _values(b)]
    saved = _ranks_from(on_ranks, before, None, 2, take=2)
    assert _together([batches for batches, _, _ in saved]) == order[: 4 * before]
    states = [state for _, state, _ in saved]
    assert {state["position"] for state in states} == {4 * before}
    assert len({state["epoch_seed"] for state in states}) == 1
    resumed = _ranks_from(on_ranks, after, states[-1], batch_size)
    assert _together([batches for batches, _, _ in resumed]) == order[4 * before :]
    assert sorted(_together([following for _, _, following in resumed])) == list(range(N))


def test_what_workers_have_prepared_does_not_count():
    loader = DataLoader(_dataset(), 4, shuffle=True, num_workers=1, prefetch_factor=4)
    batches = iter(loader)
    next(batches)
    assert loader.state_dict()["position"] == 4


def test_a_batch_that_failed_counts_once_the_iteration_goes_on():
    class Broken:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            if index == 1:
                raise OSError("unreadable")
            return index

    loader = DataLoader(Broken())
    batches = iter(loader)
    next(batches)
    with pytest.raises(OSError, match="unreadable"):
        next(batches)
    assert loader.state_dict()["position"] == 1
    next(batches)
    assert loader.state_dict()["position"] == 3


def test_resuming_twice_goes_on_from_the_second_place():
    torch.manual_seed(2)
    loader = DataLoader(_dataset(), 4, shuffle=True)
    batches = iter(loader)
    expected = [_values(b) for b in batches]
    torch.manual_seed(2)
    state = None
    for k in range(3):
        loader = DataLoader(_dataset(), 4, shuffle=True)
        if state is not None:
            loader.load_state_dict(state)
        batches = iter(loader)
        assert _values(next(batches)) == expected[k]
        state = loader.state_dict()
    assert state["batches"] == 3


def test_numbered_epochs_go_on(on_ranks):
    def run(loader, numbers):
        for number in numbers:
            loader.set_epoch(number)
            yield [_values(b) for b in loader]

    torch.manual_seed(3)
    loader = DataLoader(_dataset(), 4, shuffle=True)
    expected = list(run(loader, range(4)))
    torch.manual_seed(3)
    loader = DataLoader(_dataset(), 4, shuffle=True)
    list(run(loader, range(2)))
    torch.manual_seed(77)
    again = DataLoader(_dataset(), 4, shuffle=True)
    again.load_state_dict(loader.state_dict())
    assert list(run(again, [2, 3])) == expected[2:]


def test_states_can_be_saved():
    loader = DataLoader(_dataset(), 4, shuffle=True, generator=_generator(1))
    next(iter(loader))
    file = io.BytesIO()
    torch.save(loader.state_dict(), file)
    file.seek(0)
    again = DataLoader(_dataset(), 4, shuffle=True, generator=_generator(2))
    again.load_state_dict(torch.load(file))
    assert again.state_dict()["position"] == 4


def test_loading_after_iter_raises():
    loader = DataLoader(_dataset(), 4, shuffle=True)
    state = loader.state_dict()
    iter(loader)
    with pytest.raises(RuntimeError, match=r"load_state_dict\(\) was called after iter\(\)"):
        loader.load_state_dict(state)
    list(loader)
    loader.load_state_dict(state)


def test_states_of_other_loaders_are_refused():
    state = DataLoader(_dataset(), 4, shuffle=True).state_dict()
    with pytest.raises(ValueError, match="whose order is 'shuffled', but it is 'sequential' in this one"):
        DataLoader(_dataset(), 4).load_state_dict(state)
    with pytest.raises(ValueError, match="whose number of samples is 23, but it is 9 in this one"):
        DataLoader(_dataset(9), 4, shuffle=True).load_state_dict(state)
    two, three = (DataLoader(_dataset(), sampler=DistributedSampler(range(N), ranks, 0)) for ranks in (2, 3))
    with pytest.raises(ValueError, match="whose number of replicas is 2, but it is 3 in this one"):
        three.load_state_dict(two.state_dict())
    for wrong in ({}, None, {**state, "version": 2}):
        with pytest.raises(ValueError, match="expects what state_dict"):
            DataLoader(_dataset(), 4, shuffle=True).load_state_dict(wrong)
    with pytest.raises(ValueError, match="generator_state of a DataLoader's state"):
        DataLoader(_dataset(), 4, shuffle=True).load_state_dict({**state, "generator_state": [1]})


def test_random_state_of_python_is_left_alone():
    random.seed(1)
    expected = random.random()
    random.seed(1)
    list(DataLoader(_dataset(), 4, shuffle=True))
    assert random.random() == expected
