"""Collections of samples: by index (`Dataset`), as a stream (`IterableDataset`), and combinations of them."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from disttorch.autograd.tensor import Tensor
from disttorch.random import Generator, default_generator

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """A collection of samples that are found by index.

    A subclass defines `__getitem__(index)` and, for samplers and `len(loader)`, `__len__()`. It may define
    `__getitems__(indices)`, which returns the list of samples of a whole batch at once.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """A stream of samples; a subclass defines `__iter__`.

    Each worker of a loader iterates over a copy of its own: `get_worker_info()` tells which part it is to give.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")

    def __add__(self, other: Dataset[T_co]) -> ChainDataset[T_co]:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples cut from tensors: sample i is the tuple of each tensor's row i.

    The tensors have the same length in their first dimension; AssertionError if not. With the default collation a
    `DataLoader` takes each batch of such a dataset in one step per tensor.

    >>> import disttorch as torch
    >>> dataset = TensorDataset(torch.arange(3), torch.tensor([10, 20, 30]))
    >>> dataset[1]
    (tensor(1), tensor(20))
    """

    def __init__(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"TensorDataset expects tensors, got {type(tensor).__name__}; convert arrays with torch.from_numpy()"
                )
        if any(tensor._a.shape[0] != tensors[0]._a.shape[0] for tensor in tensors):
            raise AssertionError(
                "Size mismatch between tensors: the lengths of their first dimensions are "
                f"{[tensor._a.shape[0] for tensor in tensors]}"
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple([tensor[index] for tensor in self.tensors])

    def __len__(self) -> int:
        return self.tensors[0]._a.shape[0]


class StackDataset(Dataset[Any]):
    """Datasets of equal length side by side.

    `StackDataset(images, labels)[i]` is a tuple, `StackDataset(image=images, label=labels)[i]` a dict.
    Raises ValueError for no dataset, for both forms at once, or for different lengths.
    """

    datasets: tuple[Dataset[Any], ...] | dict[str, Dataset[Any]]

    def __init__(self, *args: Dataset[Any], **kwargs: Dataset[Any]) -> None:
        if args and kwargs:
            raise ValueError(
                "Supported either ``tuple``- (via ``args``) or``dict``- (via ``kwargs``) like input/output, but both types "
                "are given."
            )
        if not args and not kwargs:
            raise ValueError("At least one dataset should be passed")
        self.datasets = args or kwargs
        lengths = [len(dataset) for dataset in self._members()]  # type: ignore[arg-type]
        if any(length != lengths[0] for length in lengths):
            raise ValueError(f"Size mismatch between datasets: their lengths are {lengths}")
        self._length = lengths[0]

    def _members(self) -> list[Dataset[Any]]:
        return list(self.datasets.values() if isinstance(self.datasets, dict) else self.datasets)

    def _sample(self, parts: Sequence[Any]) -> Any:
        return dict(zip(self.datasets, parts)) if isinstance(self.datasets, dict) else tuple(parts)

    def __getitem__(self, index: Any) -> Any:
        return self._sample([dataset[index] for dataset in self._members()])

    def __getitems__(self, indices: list[Any]) -> list[Any]:
        columns = [_samples_of(dataset, indices) for dataset in self._members()]
        for column in columns:
            if len(column) != len(indices):
                raise ValueError(f"Nested dataset's output size mismatch. Expected {len(indices)}, got {len(column)}")
        return [self._sample(parts) for parts in zip(*columns)]

    def __len__(self) -> int:
        return self._length


def _samples_of(dataset: Dataset[Any], indices: list[Any]) -> list[Any]:
    batched = getattr(dataset, "__getitems__", None)
    return batched(indices) if callable(batched) else [dataset[i] for i in indices]


class ConcatDataset(Dataset[T_co]):
    """Datasets one behind the other; also `first + second`.

    Raises AssertionError for no dataset and for an `IterableDataset`.
    """

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise AssertionError("ConcatDataset does not support IterableDataset; use ChainDataset")
        self.cumulative_sizes = self.cumsum(self.datasets)

    @staticmethod
    def cumsum(sequence: Iterable[Any]) -> list[int]:
        """Return the number of samples up to and with each dataset."""
        return list(itertools.accumulate(len(dataset) for dataset in sequence))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        if index < 0:
            if -index > len(self):
                raise ValueError("absolute value of index should not exceed dataset length")
            index += len(self)
        k = bisect.bisect_right(self.cumulative_sizes, index)
        if k == len(self.datasets):
            raise IndexError(f"index {index} is out of range for a ConcatDataset of {len(self)} samples")
        return self.datasets[k][index - (self.cumulative_sizes[k - 1] if k else 0)]


class ChainDataset(IterableDataset[T_co]):
    """Streams one behind the other; also `first + second`."""

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = datasets

    def _streams(self) -> Iterator[IterableDataset[T_co]]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise AssertionError(f"ChainDataset only supports IterableDataset, got {type(dataset).__name__}")
            yield dataset

    def __iter__(self) -> Iterator[T_co]:
        return itertools.chain.from_iterable(self._streams())

    def __len__(self) -> int:
        lengths: list[int] = [len(dataset) for dataset in self._streams()]  # type: ignore[arg-type]
        return sum(lengths)


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`.

    A subclass that changes `__getitem__` must change `__getitems__` as well, since loaders call the latter.
    """

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        cls = type(self)
        if cls.__getitem__ is not Subset.__getitem__ and cls.__getitems__ is Subset.__getitems__:
            raise NotImplementedError(
                f"{cls.__name__} overrides __getitem__ but not __getitems__, which DataLoader calls for a whole batch; "
                "define it too, for example as: return [self[i] for i in indices]"
            )
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, idx: Any) -> T_co:
        if isinstance(idx, list):
            return self.dataset[[self.indices[i] for i in idx]]
        return self.dataset[self.indices[idx]]

    def __getitems__(self, indices: list[int]) -> list[T_co]:
        return _samples_of(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


def random_split(
    dataset: Dataset[T_co],
    lengths: Sequence[float],
    generator: Generator | None = default_generator,
) -> list[Subset[T_co]]:
    """Split a dataset at random into parts that do not overlap, the parts that PyTorch makes of the same seed.

    `lengths` are numbers of samples that sum to `len(dataset)`, or fractions that sum to 1: each part then gets
    floor(fraction * len(dataset)) samples and the rest is dealt out one by one, first part first.
    Raises ValueError for a fraction outside [0, 1] and for lengths that do not sum to the dataset's.
    """
    total = len(dataset)  # type: ignore[arg-type]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        lengths = _whole_lengths(total, lengths)
    if sum(lengths) != total:
        raise ValueError(
            "Sum of input lengths does not equal the length of the input dataset! "
            f"The lengths {list(lengths)} sum to {sum(lengths)}, the dataset has {total} samples"
        )
    stream = (generator or default_generator)._stream
    order = stream.randperm(total).tolist()
    sizes = [int(n) for n in lengths]
    return [Subset(dataset, order[end - n : end]) for end, n in zip(itertools.accumulate(sizes), sizes)]


def _whole_lengths(total: int, fractions: Sequence[float]) -> list[int]:
    for i, fraction in enumerate(fractions):
        if not 0 <= fraction <= 1:
            raise ValueError(f"Fraction at index {i} is not between 0 and 1: {fraction}")
    lengths = [math.floor(total * fraction) for fraction in fractions]
    for i in range(total - sum(lengths)):
        lengths[i % len(lengths)] += 1
    for i, length in enumerate(lengths):
        if length == 0:
            warnings.warn(
                f"Length of split at index {i} is 0. This might result in an empty dataset.",
                stacklevel=3,
            )
    return lengths
