"""Loaders that divide their data among ranks by themselves. The ranks run one after the other in this process."""

from __future__ import annotations

import itertools

import pytest

import disttorch as torch
from disttorch.utils.data import DataLoader, DistributedSampler, TensorDataset, sharding


def _dataset(n):
    return TensorDataset(torch.arange(n))


def _epochs(loader, count=2):
    return [[batch[0].tolist() for batch in loader] for _ in range(count)]


def _together(per_rank):
    """Return the batches of all ranks joined in the order of the data: round by round, sample by sample."""
    joined = []
    for batches in itertools.zip_longest(*per_rank, fillvalue=[]):
        samples = itertools.zip_longest(*batches)
        joined.append([i for row in samples for i in row if i is not None])
    return joined


def _seeded(rank, n=23, **options):
    torch.manual_seed(5 if rank == 0 else 1000 + rank)
    return DataLoader(_dataset(n), shuffle=True, **options)


@pytest.mark.parametrize(("ranks", "n"), [(2, 23), (3, 23), (3, 24), (4, 7), (5, 8)])
def test_ranks_divide_the_batches_of_one_loader(on_ranks, ranks, n):
    alone = _epochs(_seeded(0, n, batch_size=2 * ranks))
    shares = on_ranks(ranks, lambda rank: _epochs(_seeded(rank, n, batch_size=2)))
    for epoch in range(2):
        assert _together([share[epoch] for share in shares]) == alone[epoch]


def test_counts_differ_by_at_most_one_sample(on_ranks):
    shares = on_ranks(4, lambda rank: sum(map(len, _epochs(_seeded(rank, 27, batch_size=2), 1)[0])))
    assert shares == [7, 7, 7, 6]


def test_drop_last_gives_every_rank_the_same_number_of_batches(on_ranks):
    def run(rank):
        loader = _seeded(rank, 23, batch_size=3, drop_last=True)
        return _epochs(loader, 1)[0], len(loader)

    shares = on_ranks(2, run)
    assert [(len(batches), length) for batches, length in shares] == [(3, 3), (3, 3)]
    assert {len(batch) for batches, _ in shares for batch in batches} == {3}


def test_length_is_that_of_the_rank(on_ranks):
    def run(rank):
        loader = _seeded(rank, 9, batch_size=2)
        return len(loader), len(_epochs(loader, 1)[0])

    assert on_ranks(4, run) == [(1, 1)] * 4  # the ninth sample joins rank 0's only batch


def test_workers_get_the_share_of_their_rank(on_ranks):
    alone = on_ranks(2, lambda rank: _epochs(_seeded(rank, batch_size=3)))
    assert on_ranks(2, lambda rank: _epochs(_seeded(rank, batch_size=3, num_workers=2))) == alone


def test_a_generator_is_agreed_on_too(on_ranks):
    def run(rank):
        generator = torch.Generator()
        generator.manual_seed(rank)
        return _epochs(DataLoader(_dataset(20), 5, shuffle=True, generator=generator))

    shares = on_ranks(2, run)
    for epoch in range(2):
        assert sorted(itertools.chain(*shares[0][epoch], *shares[1][epoch])) == list(range(20))
    assert shares[0][0] != shares[0][1]


def test_it_is_said_once_on_rank_0(on_ranks, capsys, monkeypatch):
    monkeypatch.setattr(sharding, "_announced", False)
    on_ranks(2, lambda rank: (_epochs(_seeded(rank)), _epochs(_seeded(rank))))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "divides its samples among the 2 ranks" in said
    assert "shard=False" in said


def test_sharding_can_be_turned_off_and_on(on_ranks, capsys):
    everything = [list(range(8))]
    assert on_ranks(2, lambda _: _epochs(DataLoader(_dataset(8), 8), 1)) == [[everything], [everything]]
    whole = on_ranks(2, lambda rank: sorted(_epochs(_seeded(rank, 8, batch_size=8, shard=False), 1)[0][0]))
    assert whole == [list(range(8))] * 2
    forced = on_ranks(2, lambda _: _epochs(DataLoader(_dataset(8), 8, shard=True), 1))
    assert forced == [[[[0, 2, 4, 6]]], [[[1, 3, 5, 7]]]]
    assert capsys.readouterr().err == ""


def test_a_given_order_is_left_alone(on_ranks):
    samplers = {
        "sampler": lambda: {"sampler": range(4)},
        "batch_sampler": lambda: {"batch_sampler": [[0, 1], [2, 3]]},
    }
    for options in samplers.values():
        shares = on_ranks(
            2, lambda _, options=options: [i for b in _epochs(DataLoader(_dataset(4), **options()), 1)[0] for i in b]
        )
        assert shares == [[0, 1, 2, 3]] * 2
    shares = on_ranks(
        2, lambda _: _epochs(DataLoader(_dataset(4), sampler=DistributedSampler(range(4), shuffle=False)), 1)
    )
    assert shares == [[[[0], [2]]], [[[1], [3]]]]
    with pytest.raises(ValueError, match="shard=True divides the loader's own order"):
        DataLoader(_dataset(4), sampler=range(4), shard=True)


def test_single_samples_are_divided_too(on_ranks):
    def run(rank):
        torch.manual_seed(rank)
        return [int(x[0]) for x in DataLoader(_dataset(5), batch_size=None, shuffle=True)]

    first, second = on_ranks(2, run)
    assert (len(first), len(second)) == (2, 2)  # the ranks take equally many steps
    assert len(set(first + second)) == 4


def test_set_epoch_makes_the_order_a_function_of_the_number(on_ranks):
    def run(rank, numbers):
        loader = _seeded(rank, 12, batch_size=12)
        orders = []
        for number in numbers:
            loader.set_epoch(number)
            orders.append(tuple(_epochs(loader, 1)[0][0]))
        return orders

    shares = on_ranks(2, lambda rank: run(rank, [0, 1, 2, 1]))
    for order in shares:
        assert order[1] == order[3]
        assert len(set(order)) == 3
    assert sorted(shares[0][2] + shares[1][2]) == list(range(12))
    # A run that starts later in the sequence sees the same epoch 2, alone or not.
    assert on_ranks(2, lambda rank: run(rank, [2]))[0][0] == shares[0][2]
    whole = run(0, [2])[0]
    assert whole[::2] == shares[0][2]


def test_set_epoch_reaches_a_given_sampler():
    sampler = DistributedSampler(range(10), 2, 0)
    loader = DataLoader(_dataset(10), sampler=sampler)
    loader.set_epoch(3)
    assert sampler.epoch == 3
