"""Every operator and a training loop on a real GPU, where CuPy finds one."""

from __future__ import annotations

import pytest

import disttorch as torch
from disttorch import nn
from disttorch.core.device import device
from disttorch.testing.on_device import check_sample
from disttorch.testing.sample import Sample
from disttorch.testing.samples import SAMPLES

pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("CuPy is not installed or finds no CUDA device", allow_module_level=True)

BY_NAME: dict[str, list[Sample]] = {}
for _sample in SAMPLES:
    BY_NAME.setdefault(_sample.name, []).append(_sample)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_samples(name: str) -> None:
    for sample in BY_NAME[name]:
        check_sample(sample, device("cuda", 0))


def test_training_is_that_of_the_cpu() -> None:
    losses = []
    for place in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)).double()
        x, y = torch.randn(16, 1, 8, 8, dtype=torch.float64), torch.randint(3, (16,))
        model, x, y = model.to(place), x.to(place), y.to(place)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-8)


def test_page_locked_memory() -> None:
    x = torch.arange(6.0).reshape(2, 3).t()
    y = x.pin_memory()
    assert (x.is_pinned(), y.is_pinned(), y.stride()) == (False, True, x.stride())
    assert y.cuda(non_blocking=True).tolist() == x.tolist()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.arange(6)), batch_size=3, pin_memory=True)
    assert [(batch.is_pinned(), batch.cuda().tolist()) for (batch,) in loader] == [(True, [0, 1, 2]), (True, [3, 4, 5])]
