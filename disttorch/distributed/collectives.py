"""The collectives of `torch.distributed` on tensors and NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np

from disttorch.distributed import steps
from disttorch.distributed.call import Call
from disttorch.distributed.headers import DTYPES
from disttorch.distributed.process_group import Work
from disttorch.distributed.reduction import check_reducible
from disttorch.distributed.runtime import default
from disttorch.distributed.transport import Transport


class ReduceOp(Enum):
    """How `all_reduce` combines the ranks' values."""

    SUM = "SUM"
    AVG = "AVG"
    PRODUCT = "PRODUCT"
    MIN = "MIN"
    MAX = "MAX"


def all_reduce(tensor: Any, op: ReduceOp = ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Work | None:
    """Combine `tensor` (any shape and dtype, the same on every rank) over all ranks, in place.

    The order of the sum is a fixed binary tree over the ranks, so every rank gets the same bits;
    float16 and bfloat16 are summed in float32 and rounded once. AVG divides the sum once. Returns
    a Work if `async_op`. Raises TypeError for AVG of integers and MIN or MAX of complex numbers.
    """
    if not isinstance(op, ReduceOp):
        raise TypeError(f"all_reduce: op must be a ReduceOp, got {op!r}")
    array = array_of(tensor, "all_reduce")
    check_reducible(op.value, array.dtype)
    call = Call("all_reduce", array.dtype.name, array.shape, op.value, length=array.nbytes)

    def body(transport: Transport) -> None:
        flat = _flat(array)
        steps.all_reduce(transport, flat, op.value)
        _put_back(array, flat)
        _changed(tensor)

    return _with_result(default(group).collective(call, body, async_op), [tensor])


def broadcast(tensor: Any, src: int = 0, group: Any = None, async_op: bool = False) -> Work | None:
    """Copy rank `src`'s `tensor` to every rank's, which has the same shape and dtype. Returns a Work if `async_op`."""
    array = array_of(tensor, "broadcast")
    root = _check_rank(src, default(group).size, "broadcast: src")
    call = Call("broadcast", array.dtype.name, array.shape, root=root, length=array.nbytes)

    def body(transport: Transport) -> None:
        flat = _flat(array)
        steps.broadcast(transport, flat.view(np.uint8), root)
        if transport.rank != root:
            _put_back(array, flat)
            _changed(tensor)

    return _with_result(default(group).collective(call, body, async_op), [tensor])


def all_gather(tensor_list: Sequence[Any], tensor: Any, group: Any = None, async_op: bool = False) -> Work | None:
    """Put rank r's `tensor` into `tensor_list[r]` on every rank; all have one shape and dtype."""
    array = array_of(tensor, "all_gather")
    targets = [array_of(target, "all_gather") for target in tensor_list]
    size = default(group).size
    if len(targets) != size:
        raise ValueError(f"all_gather: tensor_list needs one tensor per rank ({size}), got {len(targets)}")
    for r, target in enumerate(targets):
        if (target.shape, target.dtype) != (array.shape, array.dtype):
            raise ValueError(
                f"all_gather: tensor_list[{r}] is {target.dtype.name}{list(target.shape)}, "
                f"the tensor is {array.dtype.name}{list(array.shape)}; they must be alike"
            )
    call = Call("all_gather", array.dtype.name, array.shape, length=array.nbytes)

    def body(transport: Transport) -> None:
        flats = [_flat(target) for target in targets]
        steps.all_gather(transport, [flat.view(np.uint8) for flat in flats], _flat(array).view(np.uint8))
        for target, flat, holder in zip(targets, flats, tensor_list, strict=True):
            _put_back(target, flat)
            _changed(holder)

    return _with_result(default(group).collective(call, body, async_op), list(tensor_list))


def barrier(
    group: Any = None,
    async_op: bool = False,
    device_ids: Any = None,
) -> Work | None:
    """Return when every rank has called this."""
    return default(group).collective(Call("barrier"), steps.barrier, async_op)


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Put rank r's `obj` into `object_list[r]` on every rank.

    Objects travel as msgpack, never as pickles: None, numbers, str, bytes, list, tuple, set, dict,
    arrays and tensors, nested in any way; TypeError for others.
    """
    from disttorch.distributed import objects

    size = default(group).size
    if len(object_list) != size:
        raise ValueError(f"all_gather_object: object_list needs one place per rank ({size}), got {len(object_list)}")
    own = np.frombuffer(objects.dumps(obj), np.uint8)
    gathered: list[np.ndarray] = []

    def body(transport: Transport) -> None:
        lengths = _gather_lengths(transport, own.size)
        gathered.extend(np.empty(length, np.uint8) for length in lengths)
        steps.all_gather(transport, gathered, own)

    default(group).collective(Call("all_gather", names=("objects",)), body)
    object_list[:] = [objects.loads(data.data) for data in gathered]


def broadcast_object_list(
    object_list: list[Any],
    src: int = 0,
    group: Any = None,
    device: Any = None,
) -> None:
    """Replace the objects of `object_list` by rank `src`'s; the lists are equally long. See `all_gather_object`."""
    from disttorch.distributed import objects

    own_group = default(group)
    root = _check_rank(src, own_group.size, "broadcast_object_list: src")
    sent = objects.dumps(list(object_list)) if own_group.rank == root else b""
    received: list[np.ndarray] = []

    def body(transport: Transport) -> None:
        length = _gather_lengths(transport, len(sent))[root]
        buffer = np.frombuffer(sent, np.uint8) if sent else np.empty(length, np.uint8)
        steps.broadcast(transport, buffer, root)
        received.append(buffer)

    call = Call("broadcast", shape=(len(object_list),), root=root, names=("objects",))
    own_group.collective(call, body)
    if own_group.rank != root:
        object_list[:] = objects.loads(received[0].data)


def array_of(tensor: Any, name: str) -> np.ndarray:
    """Return the NumPy array of a tensor or array; TypeError for what cannot be sent."""
    array = tensor if isinstance(tensor, np.ndarray) else getattr(tensor, "_a", None)
    if array is None:
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if not isinstance(array, np.ndarray):
        raise NotImplementedError(f"{name}: tensors on a GPU are not supported yet; pass tensor.cpu()")
    if array.dtype.name not in DTYPES:
        raise TypeError(f"{name}: tensors of {array.dtype.name} cannot be sent to other ranks")
    return array


def _with_result(work: Work | None, tensors: list[Any]) -> Work | None:
    """Tell a Work which tensors hold its result."""
    if work is not None:
        work.result()[:] = tensors
    return work


def _gather_lengths(transport: Transport, length: int) -> list[int]:
    lengths = [np.zeros(8, np.uint8) for _ in range(transport.size)]
    steps.all_gather(transport, lengths, np.frombuffer(length.to_bytes(8, "little"), np.uint8))
    return [int.from_bytes(data.tobytes(), "little") for data in lengths]


def _check_rank(rank: int, size: int, what: str) -> int:
    if not 0 <= rank < size:
        raise ValueError(f"{what} must be a rank from 0 to {size - 1}, got {rank}")
    return int(rank)


def _flat(array: np.ndarray) -> np.ndarray:
    """Return the elements in order, 1-D: the array's own memory if contiguous, else a copy."""
    return array.reshape(-1) if array.flags.c_contiguous else array.flatten()


def _put_back(array: np.ndarray, flat: np.ndarray) -> None:
    if not array.flags.c_contiguous:
        array[...] = flat.reshape(array.shape)


def _changed(tensor: Any) -> None:
    """Count the in-place change, so that autograd notices if the old value was saved."""
    counter = getattr(tensor, "_counter", None)
    if counter is not None:
        counter[0] += 1
