"""The order of an epoch: which indices make up each batch, on this rank and from a given position on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from disttorch.core.stream import Stream
from disttorch.random import Generator
from disttorch.utils.data.sampler import draw_seed


@dataclass
class Epoch:
    """One pass over the data, as far as it is needed to go on with it elsewhere.

    `position` counts the samples that all ranks together had consumed when this pass began, `batches`
    those that this rank had; both are 0 unless resumed. The order of a shuffling loader is that of
    `seed`, or of a generator in `state`. `seeded`: the base seed of workers was drawn for this pass.
    `begun`: the first indices have been asked for; `drained`: the last ones have, and all that PyTorch
    draws for an order has been drawn.
    """

    number: int
    base_seed: int
    seed: int | None = None
    state: np.ndarray | None = None
    position: int = 0
    batches: int = 0
    seeded: bool = True
    begun: bool = False
    drained: bool = False


@dataclass(frozen=True)
class Share:
    """The part of the order that this rank takes: every `size`-th index from the `rank`-th on."""

    rank: int = 0
    size: int = 1


class OrderSeeds:
    """Where the seeds of a loader's shuffled orders come from.

    By default each is drawn anew, as in PyTorch; once `by_number` is set, it is the first one plus the epoch's number.
    """

    def __init__(self, generator: Generator | None) -> None:
        self.generator = generator
        self.first: int | None = None
        self.by_number = False

    def draw(self, number: int, agree: Callable[[int], int] | None) -> int:
        """Return the seed of epoch `number`; `agree` makes it that of rank 0 where ranks share an order."""
        if self.by_number and self.first is not None:
            return (self.first + number) % 2**63
        seed = draw_seed(self.generator)
        if agree is not None:
            seed = agree(seed)
        if self.first is None:
            self.first = seed
        return (seed + number) % 2**63 if self.by_number else seed


class OwnOrder:
    """Batches of indices in the order of a loader that was given no sampler.

    The batches of all ranks, taken together, are consecutive pieces of one order. Iterating gives int64 arrays, or
    single Python ints without a batch size.
    """

    def __init__(
        self,
        dataset: Sized,
        epoch: Epoch,
        share: Share,
        batch_size: int | None,
        drop_last: bool,
        shuffle: bool,
        generator: Generator | None,
        draw_seed: Callable[[], int] | None,
    ) -> None:
        self.dataset = dataset
        self.epoch = epoch
        self.share = share
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.shuffle = shuffle
        self.generator = generator
        self.draw_seed = draw_seed

    def __len__(self) -> int:
        return len(self._pieces(0))

    def __iter__(self) -> Iterator[Any]:
        pieces = self._pieces(self.epoch.position)
        order = self._permutation() if self.shuffle else None
        size = self.batch_size
        for k, piece in enumerate(pieces):
            if k == len(pieces) - 1 and len(piece) < (size or 1):
                self._finish_permutation()
            if order is None:
                indices = np.arange(piece.start, piece.stop, piece.step)
            else:
                indices = order[piece.start : piece.stop : piece.step]
            yield indices if size else int(indices[0])
        if not self.epoch.drained:
            self._finish_permutation()

    def _pieces(self, start: int) -> list[range]:
        """Return this rank's positions in the order, from the global position `start` on, cut into batches.

        Ranks that train together must take equally many steps. Where the last batch of all ranks together would not give
        each rank a sample, its samples join the batches before it (single samples, without a batch size, are left out).
        """
        own, size = self._positions(start), self.batch_size or 1
        count = -(-len(own) // size)
        if self.shuffle and self.share.size > 1:
            left = max(len(self.dataset) - start, 0)
            if not start and left < self.share.size:
                raise ValueError(
                    f"DataLoader cannot divide {left} samples among {self.share.size} ranks: expected at least one for each; "
                    "use fewer workers, or shard=False"
                )
            whole = size * self.share.size
            count = left // whole + (not self.drop_last and left % whole >= self.share.size)
        pieces = [own[k * size : (k + 1) * size] for k in range(count)]
        if pieces and self.batch_size:
            pieces[-1] = own[(count - 1) * size :]
        return pieces

    def _positions(self, start: int) -> range:
        """Return this rank's positions in the order, from the global position `start` on."""
        stop = len(self.dataset)
        if self.drop_last:
            whole = (self.batch_size or 1) * self.share.size
            stop = start + max(stop - start, 0) // whole * whole
        return range(start + self.share.rank, stop, self.share.size)

    def _permutation(self) -> np.ndarray:
        n, epoch = len(self.dataset), self.epoch
        if epoch.seed is None and epoch.state is None:
            if self.draw_seed is not None:
                epoch.seed = self.draw_seed()
            else:
                assert self.generator is not None
                epoch.state = self.generator._stream.get_state()
                return self.generator._stream.randperm(n)
        stream = Stream(epoch.seed or 0)
        if epoch.state is not None:
            stream.set_state(epoch.state)
        return stream.randperm(n)

    def _finish_permutation(self) -> None:
        # PyTorch's sampler draws one more permutation from a generator that it was given, of which
        # it uses nothing.
        epoch = self.epoch
        if self.generator is not None and epoch.state is not None and not epoch.drained:
            self.generator._stream.randperm(len(self.dataset))
        epoch.drained = True


class GivenOrder:
    """Batches of indices of a sampler that the user gave, without the first ones where an epoch goes on."""

    def __init__(self, sampler: Iterable[Any], skipped: int) -> None:
        self.sampler = sampler
        self.skipped = skipped

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(iter(self.sampler), self.skipped, None)


class Endless:
    """The order of a stream: the size of a batch, for ever."""

    def __init__(self, size: int | None) -> None:
        self.size = size or 1

    def __iter__(self) -> Iterator[int]:
        return itertools.repeat(self.size)
