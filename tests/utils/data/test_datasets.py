"""Datasets and `random_split`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import disttorch as torch
from disttorch.utils.data import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)


class Count(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))

    def __len__(self):
        return self.n


def _tensors(n=5, offset=0):
    return TensorDataset(torch.arange(offset, offset + n), torch.arange(n).float())


def test_tensor_dataset():
    dataset = _tensors()
    a, b = dataset[3]
    assert len(dataset) == 5
    assert (a.item(), b.item()) == (3, 3.0)
    assert dataset[-1][0].item() == 4
    assert [x.tolist() for x in dataset[1:3]] == [[1, 2], [1.0, 2.0]]


def test_tensor_dataset_checks_its_arguments():
    with pytest.raises(AssertionError, match=r"Size mismatch between tensors: .* \[2, 3\]"):
        TensorDataset(torch.ones(2), torch.ones(3))
    with pytest.raises(TypeError, match=r"got ndarray; convert arrays with torch\.from_numpy"):
        TensorDataset(np.ones(3))


def test_base_classes_ask_for_methods():
    with pytest.raises(NotImplementedError, match="__getitem__"):
        Dataset()[0]
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(IterableDataset())


def test_concatenation():
    joined = _tensors(3) + _tensors(2, 100) + _tensors(1, 200)
    assert isinstance(joined, ConcatDataset)
    assert [joined[i][0].item() for i in range(6)] == [0, 1, 2, 100, 101, 200]
    assert (len(joined), joined[-6][0].item(), joined[-1][0].item()) == (6, 0, 200)
    with pytest.raises(IndexError, match="index 6 is out of range for a ConcatDataset of 6 samples"):
        joined[6]
    with pytest.raises(ValueError, match="absolute value"):
        joined[-7]
    with pytest.raises(AssertionError, match="empty"):
        ConcatDataset([])
    with pytest.raises(AssertionError, match="IterableDataset"):
        ConcatDataset([Count(1)])


def test_chain():
    chained = Count(2) + Count(3)
    assert isinstance(chained, ChainDataset)
    assert list(chained) == [0, 1, 0, 1, 2]
    assert len(chained) == 5
    with pytest.raises(AssertionError, match="got TensorDataset"):
        list(ChainDataset([_tensors()]))


def test_stack():
    pairs = StackDataset(range(3), "abc")
    assert (pairs[1], len(pairs), pairs.__getitems__([2, 0])) == ((1, "b"), 3, [(2, "c"), (0, "a")])
    named = StackDataset(x=range(3), y="abc")
    assert (named[1], named.__getitems__([1])) == ({"x": 1, "y": "b"}, [{"x": 1, "y": "b"}])
    with pytest.raises(ValueError, match=r"Size mismatch between datasets: their lengths are \[2, 3\]"):
        StackDataset(range(2), range(3))
    with pytest.raises(ValueError, match="both types are given"):
        StackDataset(range(2), x=range(2))
    with pytest.raises(ValueError, match="At least one dataset"):
        StackDataset()


def test_stack_checks_batches_of_nested_datasets():
    class Short:
        def __len__(self):
            return 3

        def __getitems__(self, indices):
            return indices[1:]

    with pytest.raises(ValueError, match="Expected 2, got 1"):
        StackDataset(range(3), Short()).__getitems__([0, 1])


def test_subset():
    part = Subset(_tensors(), [4, 2])
    assert (len(part), part[0][0].item(), part[[0, 1]][0].tolist()) == (2, 4, [4, 2])
    assert [x[0].item() for x in part.__getitems__([1, 0])] == [2, 4]

    class Changed(Subset):
        def __getitem__(self, idx):
            return 0

    with pytest.raises(NotImplementedError, match="Changed overrides __getitem__ but not __getitems__"):
        Changed(range(3), [0])


@pytest.mark.parametrize("lengths", [[4, 6], [0.4, 0.6], [1.0], [10], [0.33, 0.33, 0.34]])
def test_random_split_covers_the_data(lengths):
    torch.manual_seed(0)
    parts = random_split(range(10), lengths)
    taken = list(itertools.chain.from_iterable(parts))
    assert sorted(taken) == list(range(10))
    assert taken != sorted(taken)


def test_random_split_deals_out_the_rest():
    assert [len(p) for p in random_split(range(11), [0.3, 0.3, 0.4])] == [4, 3, 4]


def test_random_split_checks_lengths():
    with pytest.raises(ValueError, match=r"Sum of input lengths .* sum to 9, the dataset has 10"):
        random_split(range(10), [4, 5])
    with pytest.raises(ValueError, match="Fraction at index 0 is not between 0 and 1"):
        random_split(range(10), [-0.5, 1.5])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(range(2), [0.9, 0.1])
