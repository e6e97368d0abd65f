"""Discrete Fourier transforms: `torch.fft`."""

from disttorch.ops.fourier import *  # noqa: F403
