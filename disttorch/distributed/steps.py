"""Collectives in terms of a transport's steps. Every rank runs the same one with the same arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from disttorch.distributed.reduction import Summation
from disttorch.distributed.transport import Bucket, Transport, slice_bounds

# Below this a bucket is summed whole by every rank after one step; above it each rank sums its
# slice of the rows.
RESIDENT_BYTES = 32 * 1024
# From here on, summing only the own slice saves more than the second step costs.
SLICED_BYTES = 512 * 1024
SLICED_BYTES_OF_MANY = 64 * 1024
MANY_RANKS = 4


def all_reduce(transport: Transport, flat: np.ndarray, op: str) -> None:
    """Reduce `flat` (1-D, contiguous, equally long everywhere) over all ranks, in place."""
    if transport.size == 1:
        return
    summation = transport.summation(op, flat.dtype)
    sliced = flat.nbytes >= (SLICED_BYTES if transport.size < MANY_RANKS else SLICED_BYTES_OF_MANY)
    for part in _chunks(flat, transport.chunk):
        if sliced:
            _reduce_sliced(transport, part, summation)
        else:
            _reduce_whole(transport, part, summation)


def reduce_bucket(transport: Transport, bucket: Bucket, flat: np.ndarray, op: str) -> None:
    """Reduce `flat`, the beginning of `bucket.row`, over all ranks, in place."""
    if bucket.rows is None or flat.nbytes < RESIDENT_BYTES or transport.size == 1:
        all_reduce(transport, flat, op)
    else:
        transport.reduce_resident(bucket, flat.dtype, flat.nbytes, op)


def broadcast(transport: Transport, flat: np.ndarray, root: int) -> None:
    """Copy rank `root`'s bytes `flat` (uint8) to everybody's."""
    if transport.size == 1:
        return
    for part in _chunks(flat, transport.chunk):
        if transport.rank == root:
            transport.outbox(part.size)[:] = part
        rows = transport.exchange([part.size if r == root else 0 for r in range(transport.size)])
        if transport.rank != root:
            part[:] = rows[root]


def all_gather(transport: Transport, outputs: Sequence[np.ndarray], flat: np.ndarray) -> None:
    """Copy every rank's bytes `flat` (uint8) to `outputs[r]`, uint8 arrays as long as that rank's `flat`."""
    length = max(out.size for out in outputs)
    for start in range(0, length, transport.chunk) if length else (0,):
        part = flat[start : start + transport.chunk]
        transport.outbox(part.size)[:] = part
        spans = [out[start : start + transport.chunk] for out in outputs]
        for span, row in zip(spans, transport.exchange([span.size for span in spans]), strict=True):
            span[:] = row


def barrier(transport: Transport) -> None:
    """Return when every rank has come here."""
    transport.exchange([0] * transport.size)


def _chunks(flat: np.ndarray, nbytes: int) -> Iterator[np.ndarray]:
    step = nbytes // flat.itemsize
    for start in range(0, flat.size, step) if flat.size else (0,):
        yield flat[start : start + step]


def _reduce_whole(transport: Transport, part: np.ndarray, summation: Summation) -> None:
    np.copyto(transport.outbox(part.nbytes).view(part.dtype), part)
    rows = transport.exchange([part.nbytes] * transport.size)
    summation.into([part], [row.view(part.dtype) for row in rows])


def _reduce_sliced(transport: Transport, part: np.ndarray, summation: Summation) -> None:
    size, rank, itemsize = transport.size, transport.rank, part.itemsize
    bounds = slice_bounds(part.size, itemsize, size)
    np.copyto(transport.outbox(part.nbytes).view(part.dtype), part)
    rows = transport.scatter([bound * itemsize for bound in bounds])
    own = transport.outbox((bounds[rank + 1] - bounds[rank]) * itemsize).view(part.dtype)
    summation.into([own], [row.view(part.dtype) for row in rows])
    sizes = [(stop - start) * itemsize for start, stop in pairwise(bounds)]
    for r, row in enumerate(transport.exchange(sizes)):
        part[bounds[r] : bounds[r + 1]] = row.view(part.dtype)
