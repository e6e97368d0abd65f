"""Signal processing: `torch.signal`."""

from disttorch.signal import windows

__all__ = ["windows"]
