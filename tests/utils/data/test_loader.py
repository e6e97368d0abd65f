"""`DataLoader` in one process. Orders are compared with PyTorch in tests/parity."""

from __future__ import annotations

import itertools
import pickle
import warnings

import numpy as np
import pytest

import disttorch as torch
from disttorch.utils.data import DataLoader, IterableDataset, StackDataset, Subset, TensorDataset, sample_rng


class Rows:
    """A dataset like `TensorDataset` that the loader cannot see through."""

    def __init__(self, *tensors):
        self.tensors = tensors

    def __len__(self):
        return len(self.tensors[0])

    def __getitem__(self, index):
        assert type(index) is int
        return tuple(tensor[index] for tensor in self.tensors)


class Count(IterableDataset):
    def __init__(self, n, said=None):
        self.n, self.said = n, said

    def __iter__(self):
        return iter(range(self.n))

    def __len__(self):
        if self.said is None:
            raise TypeError("no length")
        return self.said


def _tensors(n=23):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.standard_normal((n, 3, 2)).astype(np.float32)), torch.arange(n)


def _lists(loader):
    return [[part.tolist() for part in batch] for batch in loader]


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": True, "drop_last": True}], ids=str)
def test_tensor_datasets_are_read_at_once_with_the_same_result(options):
    results = []
    for dataset in (TensorDataset(*_tensors()), Rows(*_tensors())):
        torch.manual_seed(3)
        results.append(_lists(DataLoader(dataset, batch_size=5, **options)))
    assert results[0] == results[1]
    assert len(results[0]) == (4 if options.get("drop_last") else 5)


def test_subsets_of_tensors_are_read_at_once_with_the_same_result():
    part = [20, 3, 5, 7, 11]
    fast = DataLoader(Subset(Subset(TensorDataset(*_tensors()), part), [4, 0, 2]), batch_size=2)
    slow = DataLoader(Subset(Subset(Rows(*_tensors()), part), [4, 0, 2]), batch_size=2)
    assert _lists(fast) == _lists(slow)
    assert [y for _, y in _lists(fast)] == [[11, 20], [5]]


def test_batches_of_tensor_datasets_have_memory_of_their_own():
    x, y = _tensors()
    batch = next(iter(DataLoader(TensorDataset(x, y), batch_size=4)))
    batch[0].fill_(7)
    assert not (x == 7).any()


def test_tensors_that_require_grad_stay_in_the_graph():
    x = torch.ones(4, 2, requires_grad=True)
    for (batch,) in DataLoader(TensorDataset(x), batch_size=2):
        batch.sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0]] * 4


def test_indices_of_a_sampler_are_checked():
    loader = DataLoader(TensorDataset(torch.arange(5)), batch_size=2, sampler=[0, -1, 2, 5])
    batches = iter(loader)
    assert next(batches)[0].tolist() == [0, 4]
    with pytest.raises(IndexError, match="index 5 is out of bounds for dimension 0 with size 5"):
        next(batches)


def test_lists_of_any_index_reach_the_dataset():
    data = {"a": 1, "b": 2, "c": 3}
    assert [b.tolist() for b in DataLoader(data, batch_size=2, sampler=["c", "a", "b"])] == [[3, 1], [2]]
    batches = DataLoader(TensorDataset(torch.arange(6)), batch_sampler=[[0, 5], torch.tensor([1, 2]), [3]])
    assert [b[0].tolist() for b in batches] == [[0, 5], [1, 2], [3]]


def test_getitems_is_used():
    class Together:
        def __len__(self):
            return 4

        def __getitems__(self, indices):
            assert type(indices) is list
            return [10 * i for i in indices]

    assert [b.tolist() for b in DataLoader(Together(), batch_size=3)] == [[0, 10, 20], [30]]
    stacked = DataLoader(StackDataset(a=range(4), b=Together()), batch_size=3)
    assert next(iter(stacked))["b"].tolist() == [0, 10, 20]


def test_single_samples():
    loader = DataLoader([np.arange(2), "text", (1, np.float32(2))], batch_size=None)
    a, b, c = loader
    assert (a.tolist(), b, c[0], c[1].item()) == ([0, 1], "text", 1, 2.0)
    assert len(loader) == 3


def test_collate_fn():
    assert list(DataLoader(range(5), batch_size=2, collate_fn=sum)) == [1, 5, 4]
    assert list(DataLoader(range(3), batch_size=None, collate_fn=str)) == ["0", "1", "2"]


def test_streams():
    assert [b.tolist() for b in DataLoader(Count(5), batch_size=2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in DataLoader(Count(5), batch_size=2, drop_last=True)] == [[0, 1], [2, 3]]
    assert list(DataLoader(Count(2), batch_size=None)) == [0, 1]
    assert len(DataLoader(Count(5, said=5), batch_size=2)) == 3
    assert len(DataLoader(Count(5, said=5), batch_size=2, drop_last=True)) == 2
    with pytest.raises(TypeError, match="no length"):
        len(DataLoader(Count(5)))


def test_streams_longer_than_they_said():
    loader = DataLoader(Count(3, said=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(loader)) == 3
    assert len(loader) == 1
    with pytest.warns(UserWarning, match="was reported to be 1 .* but 2 samples have been fetched"):
        list(itertools.islice(loader, 2))


@pytest.mark.parametrize("option", ["shuffle", "sampler", "batch_sampler", "shard"])
def test_streams_have_an_order_of_their_own(option):
    with pytest.raises(ValueError, match=f"expected unspecified {option} option"):
        DataLoader(Count(3), **{option: True})


def test_iterators():
    loader = DataLoader(range(4), batch_size=2)
    one, two = iter(loader), iter(loader)
    assert next(one).tolist() == next(two).tolist() == [0, 1]
    assert len(one) == len(loader) == 2
    assert len(list(one)) == 1
    with pytest.raises(StopIteration):
        next(one)
    with pytest.raises(NotImplementedError, match="SingleProcessIterator cannot be pickled"):
        pickle.dumps(two)


def test_iteration_goes_on_after_an_error():
    class Broken:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return 1 / (index - 1)

    batches = iter(DataLoader(Broken()))
    next(batches)
    with pytest.raises(ZeroDivisionError):
        next(batches)
    assert next(batches).item() == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_pin_memory_without_a_device():
    loader = DataLoader(range(2), pin_memory=True)
    with pytest.warns(UserWarning, match="'pin_memory' argument is set as true but no accelerator is found"):
        assert [b.item() for b in loader] == [0, 1]


def test_too_many_workers_are_worth_a_warning():
    with pytest.warns(UserWarning, match="will create 4096 worker processes in total"):
        DataLoader(range(2), num_workers=4096)


def test_loaders_can_be_copied_and_annotated():
    loader: DataLoader[int] = DataLoader(range(4), batch_size=2)
    again = pickle.loads(pickle.dumps(loader))
    assert [b.tolist() for b in again] == [[0, 1], [2, 3]]
    assert DataLoader[int] is not None


def test_sample_rng_belongs_to_the_sample():
    class Noisy:
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return index, sample_rng().integers(1 << 30)

    def noise(batch_size, seed):
        torch.manual_seed(seed)
        loader = DataLoader(Noisy(), batch_size=batch_size, shuffle=True)
        return [{int(i): int(v) for batch in loader for i, v in zip(*batch, strict=True)} for _ in range(2)]

    assert noise(2, 0) == noise(6, 0)
    first, second = noise(2, 0)
    assert len({*first.values(), *second.values(), *noise(2, 1)[0].values()}) == 18


def test_sample_rng_needs_a_loader_and_an_index():
    with pytest.raises(RuntimeError, match="only while a DataLoader loads a sample"):
        sample_rng()

    class Together:
        def __len__(self):
            return 1

        def __getitems__(self, indices):
            return [sample_rng(i).random() for i in indices] + [sample_rng().random()]

    with pytest.raises(RuntimeError, match=r"the loader is loading list; call sample_rng\(index\)"):
        list(DataLoader(Together()))
