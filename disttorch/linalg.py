"""Linear algebra: `torch.linalg`."""

from disttorch.ops.factor import *  # noqa: F403
from disttorch.ops.solve import *  # noqa: F403
