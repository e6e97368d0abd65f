"""Data-parallel training: process groups, collectives, the gradient reducer. See docs/distributed.md."""

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
from disttorch.distributed.gradient_buckets import BuiltinCommHookType, GradBucket
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
    is_gloo_available,
    is_initialized,
    is_launched,
    is_mpi_available,
    is_nccl_available,
    is_torchelastic_launched,
)
from disttorch.distributed.store import Store

__all__ = [
    "BuiltinCommHookType",
    "CollectiveMismatch",
    "CollectiveTimeout",
    "DistError",
    "GradBucket",
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
    "is_gloo_available",
    "is_initialized",
    "is_launched",
    "is_mpi_available",
    "is_nccl_available",
    "is_torchelastic_launched",
]

_NOT_YET = (
    "all_gather_into_tensor", "all_to_all", "all_to_all_single", "gather", "irecv", "isend",
    "monitored_barrier", "new_group", "recv", "reduce", "reduce_scatter", "reduce_scatter_tensor",
    "scatter", "send",
)  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _NOT_YET:
        raise AttributeError(
            f"disttorch.distributed.{name} is not supported yet; there are all_reduce, broadcast, "
            "all_gather, barrier, all_gather_object and broadcast_object_list"
        )
    raise AttributeError(f"module 'disttorch.distributed' has no attribute '{name}'")
