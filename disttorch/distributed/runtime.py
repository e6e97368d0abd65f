"""The default process group: making it, asking about it, ending it."""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from disttorch.distributed import agent_link, meeting, members
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.errors import DistError
from disttorch.distributed.members import Members
from disttorch.distributed.opening import Opener
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.rendezvous import is_alone, meet
from disttorch.distributed.store import HashStore, Store, seconds
from disttorch.distributed.store_client import AgentStore
from disttorch.distributed.transport import LocalTransport
from disttorch.utils.data import sharding

DEFAULT_TIMEOUT = 600.0
NON_MEMBER = -100

BACKENDS = {"zmq": "zmq", "gloo": "gloo", "cpu:gloo": "gloo", "cpu:zmq": "zmq", "cpu:gloo,cuda:nccl": "gloo"}


@dataclass
class World:
    """What `init_process_group` has made: the group of all ranks, the store, the other groups by their names."""

    group: ProcessGroup
    store: Store
    opener: Opener | None
    backend: str
    owns_store: bool = True
    groups: dict[str, ProcessGroup] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


_world: World | None = None
_epoch = 0
_registered = False


def is_available() -> bool:
    """Say whether this platform has what the ranks need to reach each other: Linux has."""
    return sys.platform == "linux"


def is_initialized() -> bool:
    """Say whether `init_process_group` was called and not undone."""
    return _world is not None


def is_gloo_available() -> bool:
    """Say whether `backend="gloo"` is accepted; it means "zmq" here."""
    return is_available()


def is_nccl_available() -> bool:
    """Say whether `backend="nccl"` is accepted; it is not yet."""
    return False


def is_mpi_available() -> bool:
    """Say whether `backend="mpi"` is accepted; it is not yet."""
    return False


def is_launched() -> bool:
    """Say whether `disttorch-run` started this process, so that `init_process_group()` needs no arguments."""
    return agent_link.has_agent()


def is_torchelastic_launched() -> bool:
    """Say whether `disttorch-run` (or torchrun) started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: float | timedelta | None = None,
    world_size: int = -1,
    rank: int = -1,
    store: Store | None = None,
    group_name: str = "",
    pg_options: Any = None,
    device_id: Any = None,
) -> None:
    """Join the group of all ranks; every rank calls this, with the same arguments.

    backend: "zmq" (the default) or "gloo", which means the same here. timeout: how long a
    collective waits for a rank, in seconds or as a timedelta (default: what `disttorch-run
    --timeout` says, 600 s). Workers of `disttorch-run` need no more. Other processes of one host
    find each other as `init_method` says, see `rendezvous` (default: "env://"), or by `store`;
    then `timeout` also limits how long they wait for each other. rank, world_size: this process's
    number and how many there are. Raises ValueError if something is not given that is needed,
    StoreTimeout if not all ranks come, DistError when called twice.
    """
    global _world, _epoch
    if _world is not None:
        raise DistError("trying to initialize the default process group twice; call destroy_process_group() first")
    name = check_backend(backend)
    limit = None if timeout is None else seconds(timeout)
    if is_launched():
        link = agent_link.connect()
        _check_launched(link, rank, world_size)
        _world = _open_world(link, _epoch + 1, limit, store, name)
    elif is_alone(rank, world_size):
        alone = LocalTransport(None, members.alone(_epoch + 1))
        _world = World(ProcessGroup(None, alone, limit or DEFAULT_TIMEOUT), store or HashStore(), None, name)
    else:
        shared, link = meet(init_method, rank, world_size, store, limit)
        _world = _open_world(link, 1, limit, shared, name)
    _world.owns_store = store is None
    _epoch = _world.group.members.epoch
    from disttorch.distributed.data_sharding import GroupWorld

    sharding.set_world(GroupWorld(_world.group))
    _register_exit()


def _open_world(link: AgentLink, epoch: int, timeout: float | None, store: Store | None, name: str) -> World:
    """Open the group of all ranks; store: in place of the agent's."""
    link.start()
    welcome = link.welcome
    shared = store or AgentStore(link)
    opener = Opener(link, shared)
    ranks = tuple(range(welcome["world_size"]))
    everybody = Members(members.WORLD, epoch, ranks, welcome["rank"], tuple(welcome["hosts"]))
    return World(ProcessGroup(link, opener.open(everybody), timeout or welcome["timeout"]), shared, opener, name)


def destroy_process_group(group: Any = None) -> None:
    """Leave a group, by default all of them: finish what is under way and let go of memory and sockets."""
    global _world
    leaving = world()
    if isinstance(group, int) and group == NON_MEMBER:
        return
    if group is not None and group is not leaving.group:
        member = default(group)
        leaving.groups.pop(member.group_name, None)
        member.close()
        return
    sharding.set_world(None)
    _world = None
    for member in [*leaving.groups.values(), leaving.group]:
        member.close()
    meeting.leave()
    if leaving.owns_store:
        leaving.store.close()


def world() -> World:
    """Return what `init_process_group` has made; ValueError before it."""
    if _world is None:
        raise ValueError("Default process group has not been initialized, please make sure to call init_process_group.")
    return _world


def default(group: Any = None) -> ProcessGroup:
    """Return `group`, or the group of all ranks for None; ValueError before `init_process_group`."""
    made = world()
    if group is None or group is made.group:
        return made.group
    if not isinstance(group, ProcessGroup):
        raise ValueError(f"Invalid process group: expected one that new_group has returned to a member, got {group!r}")
    if made.groups.get(group.group_name) is not group:
        raise ValueError(f"Invalid process group: {group!r} was destroyed")
    return group


def default_store() -> Store:
    """Return the store that all ranks share."""
    return world().store


def get_rank(group: Any = None) -> int:
    """Return this process's number in a group, by default in that of all ranks; -1 if it is not in it."""
    return -1 if group == NON_MEMBER else default(group).rank()


def get_world_size(group: Any = None) -> int:
    """Return the number of ranks of a group, by default of all; -1 if this process is not in it."""
    return -1 if group == NON_MEMBER else default(group).size()


def get_backend(group: Any = None) -> str:
    """Return the name under which the backend was asked for: "zmq" (the default), or "gloo"."""
    default(group)
    return world().backend


def check_backend(backend: str | None) -> str:
    """Return the name of a backend, "zmq" for None; ValueError for one that there is not."""
    name = "zmq" if backend is None else str(backend).lower()
    if name not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not supported yet; use 'zmq' (or 'gloo', which means the same)")
    return BACKENDS[name]


def _check_launched(link: AgentLink, rank: int, world_size: int) -> None:
    size, own = link.welcome["world_size"], link.welcome["rank"]
    if rank not in (-1, own) or world_size not in (-1, size):
        raise ValueError(
            f"init_process_group got rank={rank}, world_size={world_size}, but disttorch-run "
            "started this process as "
            f"rank {own} of {size}; leave both out"
        )


def _register_exit() -> None:
    global _registered
    if not _registered:
        atexit.register(_at_exit, os.getpid())
        _registered = True


def _at_exit(pid: int) -> None:
    if _world is not None and os.getpid() == pid:
        destroy_process_group()
