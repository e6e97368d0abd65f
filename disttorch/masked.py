"""Reductions over the elements that a mask selects: `torch.masked`."""

from disttorch.ops.masked import *  # noqa: F403
