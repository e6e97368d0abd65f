"""`torch.multiprocessing`: Python's `multiprocessing`, and `spawn` for the ranks of a group.

Tensors go to other processes as copies, through queues, pipes and arguments.
"""

import multiprocessing
from multiprocessing import *  # noqa: F403

from disttorch.multiprocessing.spawn import (
    ENV_VAR_PARALLEL_START,
    ProcessContext,
    ProcessException,
    ProcessExitedException,
    ProcessRaisedException,
    SpawnContext,
    spawn,
    start_processes,
)

__all__ = [
    *multiprocessing.__all__,
    "ENV_VAR_PARALLEL_START",
    "ProcessContext",
    "ProcessException",
    "ProcessExitedException",
    "ProcessRaisedException",
    "SpawnContext",
    "get_all_sharing_strategies",
    "get_sharing_strategy",
    "set_sharing_strategy",
    "spawn",
    "start_processes",
]


def get_all_sharing_strategies() -> set[str]:
    """Return the names of PyTorch's ways of sharing tensors on Linux; here tensors are copied."""
    return {"file_descriptor", "file_system"}


def get_sharing_strategy() -> str:
    """Return PyTorch's default; here tensors are copied."""
    return "file_descriptor"


def set_sharing_strategy(new_strategy: str) -> None:
    """Check the name; nothing else happens, since tensors are copied."""
    if new_strategy not in get_all_sharing_strategies():
        raise AssertionError(
            f"expected a sharing strategy among 'file_descriptor', 'file_system', got {new_strategy!r}"
        )
