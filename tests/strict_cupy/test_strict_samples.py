"""Every operator on the strict double of CuPy: the same values and derivatives as on NumPy, nothing converted."""

from __future__ import annotations

import importlib.util
import json

import pytest
import record
from strict_exceptions import EXCEPTIONS

from disttorch.core.device import device
from disttorch.testing.on_device import check_sample
from disttorch.testing.sample import Sample
from disttorch.testing.samples import SAMPLES

BY_NAME: dict[str, list[Sample]] = {}
for _sample in SAMPLES:
    BY_NAME.setdefault(_sample.name, []).append(_sample)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_samples(name: str) -> None:
    failures = []
    for sample in BY_NAME[name]:
        try:
            check_sample(sample, device("cuda", 0))
        except Exception as error:
            failures.append(f"{sample}: {type(error).__name__}: {error}")
    if name in EXCEPTIONS:
        assert failures, f"{name} runs on the double now: take it out of strict_exceptions.py"
        return
    assert not failures, "\n".join(failures[:3])


def test_the_exceptions_are_operators() -> None:
    assert sorted(EXCEPTIONS.keys() - BY_NAME.keys()) == []


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
def test_the_recorded_names_are_those_of_the_installed_cupy() -> None:
    assert record.recorded() == json.loads(record.PLACE.read_text(encoding="utf-8")), "run record.py again"
