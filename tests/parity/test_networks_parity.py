"""The networks of the benchmarks train in both libraries alike."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import disttorch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

ROOT = Path(__file__).parents[2]
STEPS = 20
NAMES = ("LeNet", "CNN", "MLP", "LSTM", "ResNet-20", "GPT")


def imported(library: ModuleType) -> ModuleType:
    """Return the benchmarks' networks on one of the libraries, as the benchmarks import them."""
    names = ("disttorch", "disttorch.nn", "disttorch.nn.functional")
    standing_in = {name: importlib.import_module(name.replace("disttorch", library.__name__, 1)) for name in names}
    before = {name: sys.modules.pop(name, None) for name in (*names, "mnist_models")}
    path = list(sys.path)
    try:
        sys.modules.update(standing_in)
        spec = importlib.util.spec_from_file_location("networks", ROOT / "benchmarks" / "networks.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.TABLE = module.networks(library)
        return module
    finally:
        sys.path[:] = path
        sys.modules.pop("mnist_models", None)
        sys.modules.update({name: found for name, found in before.items() if found is not None})


@pytest.fixture(scope="module")
def both() -> dict[ModuleType, Any]:
    return {library: imported(library) for library in (disttorch, torch)}


@pytest.mark.parametrize("name", NAMES)
def test_first_loss_and_parameters(both: dict[ModuleType, Any], name: str) -> None:
    found = []
    for library, module in both.items():
        library.manual_seed(5)
        network = module.TABLE[name]
        model = network.build()
        step = network.step(model, 2)
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        found.append((shapes, step().item()))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_losses_of_gpt(both: dict[ModuleType, Any], tied: bool) -> None:
    losses = []
    for library, module in both.items():
        library.manual_seed(7)
        model = module.GPT(layers=2, width=32, heads=2, tied=tied)
        step = module.TABLE["GPT"].step(model, 4)
        losses.append([step().item() for _ in range(STEPS)])
    assert losses[1][-1] < losses[1][0] - 0.5
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_losses_of_resnet(both: dict[ModuleType, Any]) -> None:
    """In float64: with this step, rounding in float32 grows to some thousandths within ten steps."""
    losses = []
    for library, module in both.items():
        library.manual_seed(7)
        pictures, classes = (x.numpy() for x in module.TABLE["ResNet-20"].batch(8))
        batch = library.tensor(pictures[:, :, ::2, ::2], dtype=library.float64), library.tensor(classes)
        network = module.TABLE["ResNet-20"]._replace(batch=lambda size, batch=batch: batch)
        step = network.step(module.ResNet20(blocks=2, channels=8).double(), 8)
        losses.append([step().item() for _ in range(STEPS)])
    assert losses[1][-1] < losses[1][0] - 0.5
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
