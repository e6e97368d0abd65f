"""Collectives of Python objects.

Objects travel as msgpack, never as pickles: None, numbers, str, bytes, list, tuple, set, dict, arrays and tensors, nested
in any way; TypeError for others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from disttorch.distributed import objects, steps
from disttorch.distributed.call import Call
from disttorch.distributed.collectives import root_of
from disttorch.distributed.groups import member_of
from disttorch.distributed.transport import Transport

_WHAT = ("objects",)


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Put rank r's `obj` into `object_list[r]` on every rank.

    Objects travel as msgpack, never as pickles: None, numbers, str, bytes, list, tuple, set, dict,
    arrays and tensors, nested in any way; TypeError for others.
    """
    member = member_of(group, "all_gather_object")
    if member is None:
        return
    size = member.size()
    if len(object_list) != size:
        raise ValueError(f"all_gather_object: object_list needs one place per rank ({size}), got {len(object_list)}")
    own = np.frombuffer(objects.dumps(obj), np.uint8)
    gathered: list[np.ndarray] = []

    def body(transport: Transport) -> None:
        lengths = steps.gather_lengths(transport, [own.size])[:, 0]
        gathered.extend(np.empty(length, np.uint8) for length in lengths)
        steps.all_gather(transport, gathered, own)

    member.collective(Call("all_gather", names=_WHAT), body)
    object_list[:] = [objects.loads(data.data) for data in gathered]


def gather_object(
    obj: Any,
    object_gather_list: list[Any] | None = None,
    dst: int | None = None,
    group: Any = None,
    group_dst: int | None = None,
) -> None:
    """Put rank r's `obj` into `object_gather_list[r]` on rank `dst` (default 0). See `all_gather_object`."""
    member = member_of(group, "gather_object")
    if member is None:
        return
    size, root = member.size(), root_of(member, dst, group_dst, "gather_object: dst")
    at_root = member.rank() == root
    if at_root and (object_gather_list is None or len(object_gather_list) != size):
        raise ValueError(f"gather_object: rank {root} needs an object_gather_list with one place per rank ({size})")
    own = np.frombuffer(objects.dumps(obj), np.uint8)
    gathered: list[np.ndarray] = []

    def body(transport: Transport) -> None:
        lengths = steps.gather_lengths(transport, [own.size])[:, 0]
        if at_root:
            gathered.extend(np.empty(length, np.uint8) for length in lengths)
        steps.gather(transport, gathered, own, root, int(lengths.max()))

    member.collective(Call("gather", root=root, names=_WHAT), body)
    if at_root and object_gather_list is not None:
        object_gather_list[:] = [objects.loads(data.data) for data in gathered]


def broadcast_object_list(
    object_list: list[Any],
    src: int | None = None,
    group: Any = None,
    device: Any = None,
    group_src: int | None = None,
) -> None:
    """Replace the objects of `object_list` by rank `src`'s; the lists are equally long. See `all_gather_object`."""
    member = member_of(group, "broadcast_object_list")
    if member is None:
        return
    root = root_of(member, src, group_src, "broadcast_object_list: src")
    sent = objects.dumps(list(object_list)) if member.rank() == root else b""
    received: list[np.ndarray] = []

    def body(transport: Transport) -> None:
        length = steps.gather_lengths(transport, [len(sent)])[root, 0]
        buffer = np.frombuffer(sent, np.uint8) if sent else np.empty(length, np.uint8)
        steps.broadcast(transport, buffer, root)
        received.append(buffer)

    member.collective(Call("broadcast", shape=(len(object_list),), root=root, names=_WHAT), body)
    if member.rank() != root:
        object_list[:] = objects.loads(received[0].data)


def scatter_object_list(
    scatter_object_output_list: list[Any],
    scatter_object_input_list: list[Any] | None = None,
    src: int | None = None,
    group: Any = None,
    group_src: int | None = None,
) -> None:
    """Put object r of rank `src`'s input list into the first place of rank r's output list. See `all_gather_object`."""
    member = member_of(group, "scatter_object_list")
    if member is None:
        return
    if not isinstance(scatter_object_output_list, list) or not scatter_object_output_list:
        raise ValueError("Expected argument scatter_object_output_list to be a list of size at least 1.")
    size, root = member.size(), root_of(member, src, group_src, "scatter_object_list: src")
    given: list[np.ndarray] = []
    if member.rank() == root:
        if scatter_object_input_list is None or len(scatter_object_input_list) != size:
            raise ValueError(f"scatter_object_list: rank {root} needs an input list with one object per rank ({size})")
        given = [np.frombuffer(objects.dumps(obj), np.uint8) for obj in scatter_object_input_list]
    received: list[np.ndarray] = []

    def body(transport: Transport) -> None:
        lengths = steps.gather_lengths(transport, [part.size for part in given] or [0] * size)[root]
        received.append(np.empty(lengths[transport.rank], np.uint8))
        steps.scatter(transport, received[0], given, root, int(lengths.max()))

    member.collective(Call("scatter", root=root, names=_WHAT), body)
    scatter_object_output_list[0] = objects.loads(received[0].data)
