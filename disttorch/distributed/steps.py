"""Collectives in terms of a transport's steps. Every rank runs the same one with the same arguments.

Memory that is given and received is uint8, 1-D and contiguous; memory that is reduced has its own type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from disttorch.distributed.reduction import Reduction
from disttorch.distributed.transport import NOTHING, Bucket, Transport, slice_bounds

# Below this a bucket is summed whole by every rank after one step; above it each rank sums its
# slice of the rows.
RESIDENT_BYTES = 32 * 1024
# From here on, each rank sums its own slice only, and the ranks exchange the results.
SLICED_BYTES = 64 * 1024


def all_reduce(transport: Transport, flat: np.ndarray, op: str) -> None:
    """Reduce `flat` (1-D, contiguous, equally long everywhere) over all ranks, in place."""
    if transport.size == 1 or transport.all_reduce(flat, op):
        return
    reduction = transport.reduction(op, flat.dtype)
    if flat.nbytes >= SLICED_BYTES:
        for part in _chunks(flat, transport.cell * transport.size):
            _reduce_sliced(transport, part, reduction)
    else:
        for part in _chunks(flat, transport.chunk):
            rows = transport.share(part.view(np.uint8), [part.nbytes] * transport.size)
            reduction.into([part], [row.view(part.dtype) for row in rows])


def reduce_bucket(transport: Transport, bucket: Bucket, flat: np.ndarray, op: str) -> None:
    """Reduce `flat`, the beginning of `bucket.row`, over all ranks, in place."""
    if bucket.rows is None or flat.nbytes < RESIDENT_BYTES or transport.size == 1:
        all_reduce(transport, flat, op)
    else:
        transport.reduce_resident(bucket, flat.dtype, flat.nbytes, op)


def reduce(transport: Transport, flat: np.ndarray, op: str, root: int) -> None:
    """Reduce `flat` over all ranks into rank `root`'s, in place; the others' stay as they are."""
    if transport.size == 1:
        return
    reduction = transport.reduction(op, flat.dtype)
    for part in _chunks(flat, transport.cell):
        rows = _to_root(transport, part.view(np.uint8), [part.nbytes] * transport.size, root)
        if transport.rank == root:
            reduction.into([part], [row.view(part.dtype) for row in rows])


def reduce_scatter(transport: Transport, output: np.ndarray, inputs: Sequence[np.ndarray], op: str) -> None:
    """Reduce `inputs[r]` of all ranks into rank r's `output`; all are 1-D, of one type, `inputs[r]` as long as that."""
    reduction = transport.reduction(op, output.dtype)
    longest = max(part.size for part in inputs)
    step = transport.cell // output.itemsize
    for start in range(0, longest, step) if longest else (0,):
        parts = [whole[start : start + step] for whole in inputs]
        own = parts[transport.rank]
        rows = transport.exchange([part.view(np.uint8) for part in parts], [own.nbytes] * transport.size)
        if own.size:
            reduction.into([output[start : start + step]], [row.view(output.dtype) for row in rows])


def broadcast(transport: Transport, flat: np.ndarray, root: int) -> None:
    """Copy rank `root`'s bytes `flat` to everybody's."""
    if transport.size == 1:
        return
    for part in _chunks(flat, transport.chunk):
        sizes = [part.size if r == root else 0 for r in range(transport.size)]
        rows = transport.share(part if transport.rank == root else NOTHING, sizes)
        if transport.rank != root:
            part[:] = rows[root]


def all_gather(transport: Transport, outputs: Sequence[np.ndarray], flat: np.ndarray) -> None:
    """Copy every rank's bytes `flat` to `outputs[r]`, which are as long as that rank's `flat`."""
    for start in _starts(max(out.size for out in outputs), transport.chunk):
        spans = [out[start : start + transport.chunk] for out in outputs]
        part = flat[start : start + transport.chunk]
        for span, row in zip(spans, transport.share(part, [span.size for span in spans]), strict=True):
            span[:] = row


def gather(transport: Transport, outputs: Sequence[np.ndarray], flat: np.ndarray, root: int, longest: int) -> None:
    """Copy every rank's bytes `flat` to `outputs[r]` of rank `root`; `outputs` is empty elsewhere.

    longest: the most bytes that any rank gives.
    """
    for start in _starts(longest, transport.cell):
        spans = [out[start : start + transport.cell] for out in outputs]
        sizes = [span.size for span in spans] or [0] * transport.size
        rows = _to_root(transport, flat[start : start + transport.cell], sizes, root)
        for span, row in zip(spans, rows):
            span[:] = row


def scatter(transport: Transport, output: np.ndarray, inputs: Sequence[np.ndarray], root: int, longest: int) -> None:
    """Copy `inputs[r]` of rank `root` to rank r's bytes `output`; `inputs` is empty elsewhere.

    longest: the most bytes that any rank gets.
    """
    for start in _starts(longest, transport.cell):
        span = output[start : start + transport.cell]
        parts = [whole[start : start + transport.cell] for whole in inputs] or [NOTHING] * transport.size
        sizes = [span.size if r == root else 0 for r in range(transport.size)]
        span[:] = transport.exchange(parts, sizes)[root]


def all_to_all(transport: Transport, outputs: Sequence[np.ndarray], inputs: Sequence[np.ndarray], longest: int) -> None:
    """Copy `inputs[r]` of every rank to rank r's `outputs`, in bytes; longest: the most that any rank gives another."""
    for start in _starts(longest, transport.cell):
        spans = [out[start : start + transport.cell] for out in outputs]
        parts = [whole[start : start + transport.cell] for whole in inputs]
        for span, row in zip(spans, transport.exchange(parts, [span.size for span in spans]), strict=True):
            span[:] = row


def barrier(transport: Transport) -> None:
    """Return when every rank has come here."""
    transport.share(NOTHING, [0] * transport.size)


def gather_lengths(transport: Transport, lengths: Sequence[int]) -> np.ndarray:
    """Tell everybody some numbers; return those of all ranks, int64 [ranks, numbers]."""
    own = np.array(lengths, np.int64)
    everybody = np.empty((transport.size, own.size), np.int64)
    all_gather(transport, list(everybody.view(np.uint8)), own.view(np.uint8))
    return everybody


def _to_root(transport: Transport, part: np.ndarray, sizes: Sequence[int], root: int) -> list[np.ndarray]:
    parts = [part if r == root else NOTHING for r in range(transport.size)]
    return transport.exchange(parts, sizes if transport.rank == root else [0] * transport.size)


def _chunks(flat: np.ndarray, nbytes: int) -> Iterator[np.ndarray]:
    step = nbytes // flat.itemsize
    for start in _starts(flat.size, step):
        yield flat[start : start + step]


def _starts(length: int, step: int) -> Sequence[int]:
    """Return where chunks begin: one empty chunk for no data, since the ranks compare their calls in a step."""
    return range(0, length, step) if length else (0,)


def _reduce_sliced(transport: Transport, part: np.ndarray, reduction: Reduction) -> None:
    rank, size = transport.rank, transport.size
    slices = [part[start:stop] for start, stop in pairwise(slice_bounds(part.size, part.itemsize, size))]
    own = slices[rank]
    rows = transport.exchange([piece.view(np.uint8) for piece in slices], [own.nbytes] * size)
    reduction.into([own], [row.view(part.dtype) for row in rows])
    for piece, row in zip(slices, transport.share(own.view(np.uint8), [piece.nbytes for piece in slices])):
        piece.view(np.uint8)[:] = row
