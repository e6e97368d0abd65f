"""From indices to a batch: reading the samples and joining them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from disttorch.autograd.tensor import Tensor, wrap
from disttorch.backends import backend_of
from disttorch.utils.data._utils.collate import allocate, default_collate
from disttorch.utils.data._utils.sample_rng import context
from disttorch.utils.data.dataset import Dataset, IterableDataset, Subset, TensorDataset

Collate = Callable[[Any], Any]


def make_fetcher(dataset: Any, batched: bool, collate_fn: Collate, drop_last: bool) -> Callable[[Any], Any]:
    """Return the function that loads a batch (a single sample unless `batched`) of a dataset.

    It takes indices, an int64 array or what a sampler gave. For an `IterableDataset` it takes the number of samples and
    raises StopIteration at the end.
    """
    if isinstance(dataset, IterableDataset):
        return StreamFetcher(dataset, batched, collate_fn, drop_last)
    if batched and collate_fn is default_collate:
        tensors, selection = _as_tensors(dataset)
        if tensors:
            return TensorFetcher(tensors, selection, MapFetcher(dataset, batched, collate_fn))
    return MapFetcher(dataset, batched, collate_fn)


class MapFetcher:
    """Reads samples by index."""

    def __init__(self, dataset: Any, batched: bool, collate_fn: Collate) -> None:
        self.dataset = dataset
        self.batched = batched
        self.collate_fn = collate_fn

    def __call__(self, indices: Any) -> Any:
        data = self._samples(indices) if self.batched else self._sample(indices)
        context.sample = None
        return self.collate_fn(data)

    def _sample(self, index: Any) -> Any:
        context.sample = index
        return self.dataset[index]

    def _samples(self, indices: Any) -> Any:
        listed = indices.tolist() if isinstance(indices, np.ndarray) else indices
        together = getattr(self.dataset, "__getitems__", None)
        if together:
            context.sample = listed
            return together(listed)
        samples, dataset = [], self.dataset
        for i in listed:
            context.sample = i
            samples.append(dataset[i])
        return samples


class TensorFetcher:
    """Reads a whole batch of a `TensorDataset` at once; the result is that of `MapFetcher` with `default_collate`."""

    def __init__(self, tensors: tuple[Tensor, ...], selection: np.ndarray | None, general: MapFetcher) -> None:
        self.tensors = tensors
        self.selection = selection
        self.general = general

    def __call__(self, indices: Any) -> Any:
        if not isinstance(indices, np.ndarray):
            given, indices = (
                indices,
                np.asarray(indices) if all(type(i) is int for i in indices) else None,
            )
            if indices is None or not indices.size:
                return self.general(given)
        context.sample = None
        if self.selection is not None:
            indices = self.selection[indices]
        return [wrap(take_rows(tensor._a, indices)) for tensor in self.tensors]


class StreamFetcher:
    """Reads the next samples of a stream: as many as it is called with, a single one unless `batched`."""

    def __init__(self, dataset: Any, batched: bool, collate_fn: Collate, drop_last: bool) -> None:
        self.samples: Iterator[Any] = iter(dataset)
        self.batched = batched
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.ended = False

    def __call__(self, count: int) -> Any:
        if self.ended:
            raise StopIteration
        if not self.batched:
            return self.collate_fn(next(self.samples))
        data = list(itertools.islice(self.samples, count))
        self.ended = len(data) < count
        if not data or (self.drop_last and self.ended):
            raise StopIteration
        return self.collate_fn(data)


def take_rows(array: Any, indices: np.ndarray) -> Any:
    """Return the rows `array[indices]` in new memory, in a worker's slot if there is one.

    Raises IndexError for an index out of range.
    """
    n = array.shape[0]
    if indices.size and not (-n <= indices.min() and indices.max() < n):
        wrong = next(i for i in indices.tolist() if not -n <= i < n)
        raise IndexError(f"index {wrong} is out of bounds for dimension 0 with size {n}")
    if type(array) is np.ndarray:
        out = allocate((len(indices), *array.shape[1:]), array.dtype)
        # Any mode but the default one writes to `out` without a buffer in between.
        return np.take(array, indices, axis=0, out=out, mode="wrap")
    namespace = backend_of(array).namespace
    return namespace.take(array, namespace.asarray(indices), axis=0)


def _as_tensors(dataset: Dataset[Any]) -> tuple[tuple[Tensor, ...], np.ndarray | None]:
    """Return the tensors below a dataset and the rows that it selects (None: all); no tensors if it is something else."""
    selection: np.ndarray | None = None
    while type(dataset) is Subset:
        try:
            indices = np.asarray(dataset.indices)
        except (TypeError, ValueError):
            return (), None
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            return (), None
        selection = indices if selection is None else take_rows(indices, selection)
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or any(tensor.requires_grad for tensor in dataset.tensors):
        return (), None
    return dataset.tensors, selection
