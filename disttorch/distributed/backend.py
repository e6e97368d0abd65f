"""Backends by name, and what else scripts ask `torch.distributed` about."""

from __future__ import annotations

import os
from datetime import timedelta
from enum import Enum
from typing import Any

from disttorch.distributed.reduce_op import ReduceOp
from disttorch.distributed.runtime import BACKENDS, DEFAULT_TIMEOUT, get_backend, is_available

default_pg_timeout = timedelta(seconds=DEFAULT_TIMEOUT)


class Backend(str):
    """The name of a backend, in lower case; ValueError for one that there is not.

    >>> Backend("GLOO") == "gloo"
    True
    """

    UNDEFINED, ZMQ, GLOO, NCCL, MPI = "undefined", "zmq", "gloo", "nccl", "mpi"
    backend_list = (UNDEFINED, ZMQ, GLOO, NCCL, MPI)

    def __new__(cls, name: str) -> Backend:
        if not isinstance(name, str):
            raise ValueError(f"the name of a backend is a string, got {name!r}")
        if name.lower() not in (*cls.backend_list, *BACKENDS):
            raise ValueError(f"unknown backend {name!r}; there are {', '.join(cls.backend_list)}")
        return str.__new__(cls, name.lower())


class DebugLevel(Enum):
    """How much is checked and said, as TORCH_DISTRIBUTED_DEBUG sets it; here the checks are always on."""

    OFF, INFO, DETAIL = 0, 1, 2


def is_backend_available(backend: str) -> bool:
    """Say whether `init_process_group` accepts a backend: "zmq" and "gloo"."""
    return is_available() and backend.lower() in ("zmq", "gloo")


def is_ucc_available() -> bool:
    """Say whether `backend="ucc"` is accepted; it is not."""
    return False


def is_xccl_available() -> bool:
    """Say whether `backend="xccl"` is accepted; it is not."""
    return False


def get_backend_config(group: Any = None) -> str:
    """Return the backend of each kind of device, such as "cpu:gloo,cuda:gloo"."""
    name = get_backend(group)
    return f"cpu:{name},cuda:{name}"


def get_default_backend_for_device(device: Any) -> str:
    """Return the backend for tensors on a device: "gloo" for every one, since it means disttorch's own."""
    return "gloo"


def get_node_local_rank(fallback_rank: int | None = None) -> int:
    """Return this process's number on its host, LOCAL_RANK; `fallback_rank` where nobody has set that."""
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    if fallback_rank is None:
        raise RuntimeError(
            "LOCAL_RANK is not in the environment: start the script with disttorch-run, or pass fallback_rank"
        )
    return int(fallback_rank)


def get_debug_level() -> DebugLevel:
    """Return what TORCH_DISTRIBUTED_DEBUG says."""
    name = os.environ.get("TORCH_DISTRIBUTED_DEBUG", "OFF").upper()
    return DebugLevel[name] if name in DebugLevel.__members__ else DebugLevel.OFF


def supports_complex(reduceOp: ReduceOp) -> bool:
    """Say whether a reduction is defined for complex tensors."""
    return reduceOp in (ReduceOp.SUM, ReduceOp.AVG, ReduceOp.PRODUCT)
