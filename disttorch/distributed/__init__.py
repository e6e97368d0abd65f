"""Data-parallel training: process groups, collectives, the gradient reducer. See
docs/distributed.md.
"""

from disttorch.distributed.collectives import (
    ReduceOp,
    all_gather,
    all_gather_object,
    all_reduce,
    barrier,
    broadcast,
    broadcast_object_list,
)
from disttorch.distributed.errors import (
    CollectiveMismatch,
    CollectiveTimeout,
    DistError,
    PeerFailed,
    ProtocolError,
    StoreTimeout,
)
from disttorch.distributed.process_group import ProcessGroup, Work
from disttorch.distributed.reducer import Reducer
from disttorch.distributed.runtime import (
    default_store,
    destroy_process_group,
    get_backend,
    get_rank,
    get_world_size,
    group,
    init_process_group,
    is_available,
    is_initialized,
    is_launched,
    is_torchelastic_launched,
)
from disttorch.distributed.store import Store

__all__ = [
    "CollectiveMismatch",
    "CollectiveTimeout",
    "DistError",
    "PeerFailed",
    "ProcessGroup",
    "ProtocolError",
    "ReduceOp",
    "Reducer",
    "Store",
    "StoreTimeout",
    "Work",
    "all_gather",
    "all_gather_object",
    "all_reduce",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "default_store",
    "destroy_process_group",
    "get_backend",
    "get_rank",
    "get_world_size",
    "group",
    "init_process_group",
    "is_available",
    "is_initialized",
    "is_launched",
    "is_torchelastic_launched",
]
