"""Special functions: `torch.special`."""

from disttorch.ops.bessel import *  # noqa: F403
from disttorch.ops.polynomials import *  # noqa: F403
