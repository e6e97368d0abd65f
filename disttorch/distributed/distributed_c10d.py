"""The module in which PyTorch has most of `torch.distributed`, for scripts that import from it."""

from disttorch.distributed import *  # noqa: F403
from disttorch.distributed import get_global_rank as _get_global_rank
from disttorch.distributed.runtime import default as _get_default_group

__all__ = ["_get_default_group", "_get_global_rank"]
