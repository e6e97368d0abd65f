"""What PyTorch's database does for every sample and nobody needs here: two fifths of the time of the comparison."""

from __future__ import annotations

from typing import Any

import torch
from torch.testing._internal import common_utils
from torch.testing._internal.opinfo import core


def _no_seed(_seed: int) -> None:
    """Seed no device: there is none."""


def _no_test() -> Any:
    """Find no method of a `unittest.TestCase` that runs: these tests are functions."""


def leave_out() -> None:
    """Keep no seed for devices that are absent (each with a formatted stack), and search no stack for a test's method."""
    for devices in (torch.cuda, torch.xpu, torch.mtia):
        if not devices.is_available():
            devices.manual_seed_all = _no_seed
    for module in (common_utils, core):
        module.extract_test_fn = _no_test
