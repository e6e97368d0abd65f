"""Messages from one rank to another.

Each pair of ranks, direction and tag has a channel, a process group of the two that is made at the first message. A
message is a collective of that group in which both sides take part, so a receive of another shape or dtype than was
sent, a missing partner and a failed one are noticed and named as everywhere else. As with Gloo, a send is over when
the other side has received.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from disttorch.distributed import objects, steps
from disttorch.distributed.call import Call
from disttorch.distributed.collectives import root_of
from disttorch.distributed.errors import CollectiveTimeout
from disttorch.distributed.groups import member_of
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.runtime import world
from disttorch.distributed.tensors import Operand
from disttorch.distributed.transport import Transport
from disttorch.distributed.work import Work

_LOOK_SECONDS = 0.0005
_making = threading.Lock()


def send(tensor: Any, dst: int | None = None, group: Any = None, tag: int = 0, group_dst: int | None = None) -> None:
    """Send `tensor` to rank `dst` of the world (or `group_dst` of the group); returns when it is there."""
    work = isend(tensor, dst, group, tag, group_dst, _async=False)
    assert work is None


def isend(
    tensor: Any,
    dst: int | None = None,
    group: Any = None,
    tag: int = 0,
    group_dst: int | None = None,
    *,
    _async: bool = True,
) -> Work | None:
    """Send `tensor` in the background; it must not change until the Work is over. See `send`."""
    member = member_of(group, "isend" if _async else "send")
    if member is None:
        return None
    operand = Operand(tensor, "send", output=False)
    target = _partner(member, dst, group_dst, "destination")
    channel = _channel(member, member.rank(), target, tag)

    def body(transport: Transport) -> None:
        steps.broadcast(transport, operand.bytes(), 0)

    return channel.collective(_call(channel, operand, tag), body, _async, [tensor])


def recv(tensor: Any, src: int | None = None, group: Any = None, tag: int = 0, group_src: int | None = None) -> int:
    """Receive `tensor` (shape and dtype as it is sent) from rank `src`, or from any rank; return the sender's rank.

    -1 if this rank is not in the group.
    """
    member = member_of(group, "recv")
    if member is None:
        return -1
    if src is None and group_src is None:
        work = _from_any(member, tensor, tag)
        work.wait()
        return work.source_rank()
    source = _partner(member, src, group_src, "source")
    _receive(member, tensor, source, tag, async_op=False)
    return member.members.ranks[source]


def irecv(
    tensor: Any, src: int | None = None, group: Any = None, tag: int = 0, group_src: int | None = None
) -> Work | None:
    """Receive `tensor` in the background; see `recv`. `Work.source_rank` is the sender."""
    member = member_of(group, "irecv")
    if member is None:
        return None
    if src is None and group_src is None:
        return _from_any(member, tensor, tag)
    return _receive(member, tensor, _partner(member, src, group_src, "source"), tag, async_op=True)


class P2POp:
    """One message of `batch_isend_irecv`: op is `isend` or `irecv`."""

    def __init__(
        self,
        op: Callable[..., Work | None],
        tensor: Any,
        peer: int | None = None,
        group: Any = None,
        tag: int = 0,
        group_peer: int | None = None,
    ) -> None:
        if op not in (isend, irecv):
            raise ValueError(
                "Invalid ``op``. Expected ``op`` to be of type ``torch.distributed.isend`` or "
                "``torch.distributed.irecv``."
            )
        if peer is None and group_peer is None:
            raise ValueError("P2POp needs the rank of the other side: give peer or group_peer")
        self.op, self.tensor, self.peer, self.group, self.tag, self.group_peer = (
            op,
            tensor,
            peer,
            group,
            tag,
            group_peer,
        )


def batch_isend_irecv(p2p_op_list: Sequence[P2POp]) -> list[Work]:
    """Start several messages in any order and return their Works."""
    if not p2p_op_list or not all(isinstance(op, P2POp) for op in p2p_op_list):
        raise ValueError("batch_isend_irecv needs a list of P2POp that is not empty")
    started = [op.op(op.tensor, op.peer, op.group, op.tag, op.group_peer) for op in p2p_op_list]
    return [work for work in started if work is not None]


def send_object_list(
    object_list: Sequence[Any],
    dst: int | None = None,
    group: Any = None,
    device: Any = None,
    group_dst: int | None = None,
    use_batch: bool = False,
) -> None:
    """Send the objects of a list to rank `dst`; what can be sent, says `all_gather_object`."""
    member = member_of(group, "send_object_list")
    if member is None:
        return
    target = _partner(member, dst, group_dst, "destination")
    data = np.frombuffer(objects.dumps(list(object_list)), np.uint8)
    channel = _channel(member, member.rank(), target, _OBJECTS)

    def body(transport: Transport) -> None:
        steps.gather_lengths(transport, [data.size])
        steps.broadcast(transport, data, 0)

    channel.collective(_object_call(channel, len(object_list)), body)


def recv_object_list(
    object_list: list[Any],
    src: int | None = None,
    group: Any = None,
    device: Any = None,
    group_src: int | None = None,
    use_batch: bool = False,
) -> int:
    """Replace the objects of a list by those that rank `src` sends, as many; return the sender's rank."""
    member = member_of(group, "recv_object_list")
    if member is None:
        return -1
    if src is None and group_src is None:
        raise ValueError("recv_object_list: give the rank of the sender, src or group_src")
    source = _partner(member, src, group_src, "source")
    channel = _channel(member, source, member.rank(), _OBJECTS)
    received: list[np.ndarray] = []

    def body(transport: Transport) -> None:
        buffer = np.empty(int(steps.gather_lengths(transport, [0])[0, 0]), np.uint8)
        steps.broadcast(transport, buffer, 0)
        received.append(buffer)

    channel.collective(_object_call(channel, len(object_list)), body)
    object_list[:] = objects.loads(received[0].data)
    return member.members.ranks[source]


# The tag of the channel for objects; a user's are from 0.
_OBJECTS = -(1 << 40)


def _partner(member: ProcessGroup, rank: int | None, group_rank: int | None, what: str) -> int:
    if rank is None and group_rank is None:
        raise ValueError(f"give the {what} rank")
    found = root_of(member, rank, group_rank, what)
    if found == member.rank():
        raise ValueError(f"Invalid {what} rank: {what} rank should not be the same as the rank of the current process.")
    return found


def _channel(member: ProcessGroup, source: int, target: int, tag: int) -> ProcessGroup:
    if tag < 0 and tag != _OBJECTS:
        raise ValueError(f"a tag is a number from 0, got {tag}")
    opener = world().opener
    assert opener is not None  # a group of one has no partner
    return member.channel(source, target, tag, opener.open_channel)


def _call(channel: ProcessGroup, operand: Operand, tag: int) -> Call:
    source, target = channel.members.ranks
    way = f"rank {source} to rank {target}" + (f", tag {tag}" if tag else "")
    return Call("send", operand.dtype_name, operand.shape, names=(way,), length=operand.nbytes)


def _object_call(channel: ProcessGroup, count: int) -> Call:
    source, target = channel.members.ranks
    return Call("send", shape=(count,), names=(f"{count} objects", f"rank {source} to rank {target}"))


def _receive(member: ProcessGroup, tensor: Any, source: int, tag: int, async_op: bool) -> Work | None:
    operand = Operand(tensor, "recv")
    channel = _channel(member, source, member.rank(), tag)

    def body(transport: Transport) -> None:
        flat = operand.bytes()
        steps.broadcast(transport, flat, 0)
        operand.put(flat)

    call = _call(channel, operand, tag)
    return channel.collective(call, body, async_op, [tensor], source=member.members.ranks[source])


class _AnySource:
    """The receives from any rank of one group, one after another in a thread of their own."""

    def __init__(self, member: ProcessGroup) -> None:
        self._member = member
        self._peers = [rank for rank in range(member.size()) if rank != member.rank()]
        self._asked: queue.SimpleQueue[tuple[Work, Any, int]] = queue.SimpleQueue()
        if not self._peers:
            raise ValueError("recv: there is no other rank to receive from")
        threading.Thread(target=self._serve, name="disttorch-receive", daemon=True).start()

    def receive(self, tensor: Any, tag: int) -> Work:
        """Receive from the rank that sends first, after what was asked for before."""
        operand = Operand(tensor, "recv")
        call = Call("send", operand.dtype_name, operand.shape, names=("any rank",), length=operand.nbytes)
        work = Work(call, 0, lambda transport: None, [tensor], group=self._member.members.number)
        self._asked.put((work, tensor, tag))
        return work

    def _serve(self) -> None:
        while True:
            work, tensor, tag = self._asked.get()
            try:
                source = self._await_sender(tag)
                _receive(self._member, tensor, source, tag, async_op=False)
                work.came_from(self._member.members.ranks[source])
            except BaseException as error:
                work.end(error)
            else:
                work.end()

    def _await_sender(self, tag: int) -> int:
        member = self._member
        deadline = time.monotonic() + member.timeout
        while time.monotonic() < deadline:
            for source in self._peers:
                if _channel(member, source, member.rank(), tag).has_come(0):
                    return source
            time.sleep(_LOOK_SECONDS)
        raise CollectiveTimeout(f"recv from any rank: nobody has sent anything within {member.timeout:g} s")


def _from_any(member: ProcessGroup, tensor: Any, tag: int) -> Work:
    with _making:
        if member.any_source is None:
            member.any_source = _AnySource(member)
    work: Work = member.any_source.receive(tensor, tag)
    return work
