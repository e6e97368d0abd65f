"""Linear algebra: `torch.linalg`."""

from disttorch.ops.eigen import *  # noqa: F403
from disttorch.ops.factor import *  # noqa: F403
from disttorch.ops.linalg import matmul as matmul
from disttorch.ops.matrix import matrix_exp as matrix_exp
from disttorch.ops.products import matrix_power as matrix_power
from disttorch.ops.solve import *  # noqa: F403
from disttorch.ops.vectors import *  # noqa: F403
