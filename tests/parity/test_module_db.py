"""Every module that both libraries have against PyTorch's module database: its samples, and what must raise."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import disttorch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_modules import module_db

from oracle import compare, translate  # noqa: E402

MOST_SAMPLES = 24  # of a module with more of them, some at equal distances
OF_MODULES = {"TransformerEncoder"}  # takes a module: compared in test_attention_modules_parity.py
ENTRIES = {
    entry.module_cls.__name__: entry
    for entry in module_db
    if entry.module_cls.__name__ in set(disttorch.nn.modules.__all__) - OF_MODULES
}
NAMES = sorted(ENTRIES)


def given(sample: Any) -> tuple[Any, Any]:
    return list(sample.args), dict(sample.kwargs)


def pair_of_modules(name: str, sample: Any) -> tuple[Any, Any]:
    """Build a module in both libraries, with the same random parameters and buffers."""
    args, kwargs = given(sample.constructor_input)
    theirs = ENTRIES[name].module_cls(*args, **kwargs).double()
    generator = np.random.default_rng(3)
    with torch.no_grad():
        for value in theirs.state_dict().values():
            if value.is_floating_point():  # positive, as variances and weights of losses are
                value.copy_(torch.from_numpy(np.asarray(0.2 + generator.random(tuple(value.shape)))))
    ours = getattr(disttorch.nn, name)(*translate.value(args), **translate.value(kwargs)).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(translate.value(dict(theirs.state_dict())))
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    return ours, theirs


def leaves(value: Any) -> list[Any]:
    return [x for x in compare.flat(value) if getattr(x, "requires_grad", False)]


def compare_calls(name: str, sample: Any, training: bool) -> None:
    ours, theirs = pair_of_modules(name, sample)
    assert repr(ours) == repr(theirs)
    inputs = given(sample.forward_input)
    our_inputs = translate.arguments(inputs)
    results = []
    for library, module, (args, kwargs) in ((disttorch, ours, our_inputs), (torch, theirs, inputs)):
        library.manual_seed(9)
        module.train(training)
        results.append(compare.flat(module(*args, **kwargs)))
    for k, (y, z) in enumerate(zip(*results, strict=True)):
        compare.assert_same(y, z, f"result {k}", layout=False)
    for (key, y), z in zip(ours.state_dict().items(), theirs.state_dict().values()):
        compare.assert_same(y, z, key, layout=False)
    compare_gradients(results, (leaves(our_inputs), leaves(inputs)), (ours, theirs))


def compare_gradients(results: Any, inputs: Any, modules: Any) -> None:
    losses = []
    for values in results:
        weighted = []
        for k, value in enumerate(values):
            if getattr(value, "requires_grad", False):
                weights = np.random.default_rng(k).standard_normal(tuple(value.shape)).astype("float64")
                library = torch if isinstance(value, torch.Tensor) else disttorch
                weighted.append((value * library.from_numpy(np.asarray(weights)).to(value.dtype)).sum())
        losses.append(sum(weighted))
    if not isinstance(losses[1], torch.Tensor):
        assert not isinstance(losses[0], disttorch.Tensor)
        return
    wanted = [[*x, *module.parameters()] for x, module in zip(inputs, modules)]
    found = disttorch.autograd.grad(losses[0], wanted[0], allow_unused=True)
    expected = torch.autograd.grad(losses[1], wanted[1], allow_unused=True)
    for k, (g, h) in enumerate(zip(found, expected, strict=True)):
        assert (g is None) == (h is None), f"gradient {k}"
        if h is not None:
            compare.assert_close(compare.elements(g), compare.elements(h), h.dtype, f"gradient {k}", scale=5.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", NAMES)
def test_samples(name: str, training: bool) -> None:
    entry = ENTRIES[name]
    torch.manual_seed(7)
    samples = entry.module_inputs_func(entry, "cpu", torch.float64, requires_grad=True, training=training)
    assert samples
    for number, sample in list(enumerate(samples))[:: -(-len(samples) // MOST_SAMPLES)]:
        if given(sample.constructor_input)[1].get("proj_size"):
            continue  # refused by LSTM
        with np.errstate(all="ignore"):
            try:
                compare_calls(name, sample, training)
            except Exception as error:
                raise AssertionError(f"sample {number}, {sample.desc!r}: {error}") from error


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in NAMES if ENTRIES[name].module_error_inputs_func])
def test_errors(name: str) -> None:
    entry = ENTRIES[name]
    for error in entry.module_error_inputs_func(entry, "cpu", torch.float64, requires_grad=False, training=False):
        sample = error.module_error_input
        with pytest.raises(error.error_type):
            construct_and_call(name, sample)


def construct_and_call(name: str, sample: Any) -> None:
    args, kwargs = translate.value(given(sample.constructor_input))
    module = getattr(disttorch.nn, name)(*args, **kwargs)
    args, kwargs = translate.arguments(given(sample.forward_input))
    module(*args, **kwargs)
