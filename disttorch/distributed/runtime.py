"""The default process group: making it, asking about it, ending it."""

from __future__ import annotations

import atexit
import os
import sys
from datetime import timedelta
from typing import Any

from disttorch.distributed import agent_link, futex, meeting
from disttorch.distributed.agent_link import AgentLink
from disttorch.distributed.errors import DistError
from disttorch.distributed.process_group import ProcessGroup
from disttorch.distributed.rendezvous import is_alone, meet
from disttorch.distributed.store import HashStore, Store, seconds
from disttorch.distributed.store_client import AgentStore
from disttorch.distributed.transport import Transport
from disttorch.utils.data import sharding

DEFAULT_TIMEOUT = 600.0
SHM_VARIABLE = "DISTTORCH_SHM"

_BACKENDS = {"zmq": "zmq", "gloo": "zmq", "cpu:gloo": "zmq", "cpu:zmq": "zmq"}

_group: ProcessGroup | None = None
_store: Store | None = None
_own_store = False
_epoch = 0
_registered = False


class group:
    """`group.WORLD`, the group of all ranks."""

    WORLD = None


def is_available() -> bool:
    """Say whether this platform has what the ranks need to reach each other: Linux has."""
    return sys.platform == "linux"


def is_initialized() -> bool:
    """Say whether `init_process_group` was called and not undone."""
    return _group is not None


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
    global _group, _store, _own_store, _epoch
    if _group is not None:
        raise DistError("trying to initialize the default process group twice; call destroy_process_group() first")
    _check_arguments(backend)
    limit = None if timeout is None else seconds(timeout)
    link: AgentLink | None = None
    given, size, own = store, 1, 0
    if is_launched():
        link = agent_link.connect()
        size, own = _launched_size(link, rank, world_size)
    elif not is_alone(rank, world_size):
        store, link = meet(init_method, rank, world_size, store, limit)
        size, own, _epoch = link.welcome["world_size"], link.welcome["rank"], 0
    _epoch += 1
    transport = _open_transport(link, own, size)
    default = DEFAULT_TIMEOUT if link is None else link.welcome["timeout"]
    _group = ProcessGroup(link, transport, limit or default, _epoch)
    _store = store or (HashStore() if link is None else AgentStore(link))
    _own_store = given is None
    from disttorch.distributed.data_sharding import GroupWorld

    sharding.set_world(GroupWorld(_group))
    _register_exit()


def destroy_process_group(group: Any = None) -> None:
    """Leave the group: finish what is under way and let go of memory and sockets."""
    global _group, _store
    default(group)
    sharding.set_world(None)
    leaving, _group = _group, None
    held, _store = _store, None
    assert leaving is not None
    assert held is not None
    leaving.close()
    meeting.leave()
    if _own_store:
        held.close()


def default(group: Any = None) -> ProcessGroup:
    """Return the group of all ranks; ValueError before `init_process_group`."""
    if _group is None:
        raise ValueError("Default process group has not been initialized, please make sure to call init_process_group.")
    if group is not None and group is not _group:
        raise NotImplementedError("groups other than the group of all ranks are not supported yet; pass group=None")
    return _group


def default_store() -> Store:
    """Return the store that all ranks share."""
    default()
    assert _store is not None
    return _store


def get_rank(group: Any = None) -> int:
    """Return this process's rank."""
    return default(group).rank


def get_world_size(group: Any = None) -> int:
    """Return the number of ranks."""
    return default(group).size


def get_backend(group: Any = None) -> str:
    """Return the name of the backend in use, "zmq"."""
    default(group)
    return "zmq"


def _check_arguments(backend: str | None) -> None:
    if backend is not None and str(backend).lower() not in _BACKENDS:
        raise ValueError(f"backend {backend!r} is not supported yet; use 'zmq' (or 'gloo', which means the same)")


def _launched_size(link: AgentLink, rank: int, world_size: int) -> tuple[int, int]:
    size, own = link.welcome["world_size"], link.welcome["rank"]
    if rank not in (-1, own) or world_size not in (-1, size):
        raise ValueError(
            f"init_process_group got rank={rank}, world_size={world_size}, but disttorch-run "
            "started this process as "
            f"rank {own} of {size}; leave both out"
        )
    return size, own


def _open_transport(link: AgentLink | None, rank: int, size: int) -> Transport:
    if link is not None:
        link.start()
        if size > 1 and os.environ.get(SHM_VARIABLE, "1") != "0" and futex.available():
            from disttorch.distributed.shared_memory import SharedMemoryTransport

            return SharedMemoryTransport(link, rank, size, _epoch)
    from disttorch.distributed.messages import MessageTransport

    return MessageTransport(link, rank, size, _epoch)


def _register_exit() -> None:
    global _registered
    if not _registered:
        atexit.register(_at_exit, os.getpid())
        _registered = True


def _at_exit(pid: int) -> None:
    if _group is not None and os.getpid() == pid:
        destroy_process_group()
