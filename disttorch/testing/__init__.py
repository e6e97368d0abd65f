"""Comparing tensors in tests: `disttorch.testing.assert_close`."""

from disttorch.testing.assert_close import assert_close

__all__ = ["assert_close"]
