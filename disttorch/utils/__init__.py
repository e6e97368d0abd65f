"""Helpers around training; `disttorch.utils.data` loads it."""

from disttorch.utils import data

__all__ = ["data"]
