"""What is said about names that are not here, and that nothing else notices."""

from __future__ import annotations

import copy
import inspect
import pickle
import pydoc
import timeit
from typing import Any

import pytest

import disttorch as torch
from disttorch import _missing, nn

NEAREST = [
    ("disttorch", "zeros_lik", "torch.zeros_like"),
    ("disttorch", "relu6", "torch.nn.functional.relu6"),
    ("disttorch", "Linear", "torch.nn.Linear"),
    ("disttorch", "Adam", "torch.optim.Adam"),
    ("disttorch", "unsqueeze_copy", "torch.unsqueeze"),
    ("disttorch.nn", "Liner", "torch.nn.Linear"),
    ("disttorch.nn", "relu", "torch.relu"),
    ("disttorch.nn.functional", "soft_max", "torch.nn.functional.softmax"),
    ("disttorch.nn.init", "kaiming_unifrom_", "torch.nn.init.kaiming_uniform_"),
    ("disttorch.optim", "AdamX", "torch.optim.Adam"),
    ("disttorch.optim.lr_scheduler", "StepLr", "torch.optim.lr_scheduler.StepLR"),
    ("disttorch.autograd", "gradchek", "torch.autograd.gradcheck"),
    ("disttorch.utils.data", "Dataloader", "torch.utils.data.DataLoader"),
    ("disttorch.cuda", "is_avaliable", "torch.cuda.is_available"),
    ("disttorch.linalg", "retain_grad", "torch.Tensor.retain_grad"),
    ("disttorch.Tensor", "unsqueez", "torch.Tensor.unsqueeze"),
]


@pytest.mark.parametrize(("namespace", "name", "nearest"), NEAREST)
def test_the_nearest_name(namespace: str, name: str, nearest: str) -> None:
    assert _missing.advice(namespace, name).endswith(f"{name} is not in disttorch; the nearest that is: {nearest}")


@pytest.mark.parametrize("namespace", [n for n, _, _ in NEAREST if n != "disttorch.Tensor"])
def test_a_module_raises_attribute_error(namespace: str) -> None:
    module = pydoc.locate(namespace)
    with pytest.raises(AttributeError, match=f"module '{namespace}' has no attribute 'no_such': ") as caught:
        module.no_such
    assert caught.value.name == "no_such"
    assert not hasattr(module, "no_such")
    assert getattr(module, "no_such", 3) == 3


def test_a_name_that_is_near_nothing() -> None:
    assert _missing.advice("disttorch", "xyzzy_quux") == "torch.xyzzy_quux is not in disttorch"


def test_a_reason() -> None:
    with pytest.raises(AttributeError, match=r"torch\.compile is not in disttorch; there is no compiler: leave it out"):
        torch.compile
    with pytest.raises(AttributeError, match="there are no sparse tensors"):
        torch.ones(2).to_sparse()
    with pytest.raises(AttributeError, match="in storages"):
        torch.ones(2).untyped_storage()


def test_import_from() -> None:
    with pytest.raises(
        ImportError, match=r"cannot import name 'zeros_lik' from 'disttorch'.*nearest that is: torch.zeros_like"
    ):
        from disttorch import zeros_lik  # noqa: F401
    with pytest.raises(ImportError, match=r"nearest that is: torch\.nn\.functional\.relu"):
        from disttorch.nn.functional import rellu  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'disttorch\.no_such'"):
        import disttorch.no_such  # noqa: F401


def test_names_of_python_itself_are_looked_up_quietly() -> None:
    with pytest.raises(AttributeError) as caught:
        torch.__no_such__
    assert type(caught.value) is AttributeError
    assert "__wrapped__" not in dir(torch)
    assert inspect.unwrap(torch.sin) is torch.sin


def test_the_error_is_an_attribute_error_in_every_respect() -> None:
    with pytest.raises(AttributeError) as caught:
        nn.Liner
    kind = type(caught.value)
    assert (kind.__name__, kind.__qualname__, kind.__module__) == ("AttributeError", "AttributeError", "builtins")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is AttributeError
    assert str(again) == str(caught.value)


def test_data_parallel_is_still_loaded_when_asked_for() -> None:
    assert nn.DataParallel is nn.parallel.DataParallel


# -- tensors ------------------------------------------------------------------------------------------------------


def test_absent_methods_are_absent() -> None:
    x = torch.ones(2)
    for name in ("to_sparse", "storage", "q_scale"):
        assert not hasattr(x, name)
        assert not hasattr(torch.Tensor, name)
        assert getattr(x, name, None) is None
    with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'coalesce'"):
        x.coalesce()
    with pytest.raises(AttributeError, match="'Parameter' object has no attribute 'coalesce'"):
        nn.Parameter(x).coalesce()


def test_absent_names_can_be_set_on_a_tensor_and_defined_in_a_subclass() -> None:
    class Named(torch.Tensor):
        names = ("a", "b")

    x = torch.ones(2)
    x.names = ["n"]
    assert x.names == ["n"]
    assert Named([1.0]).names == ("a", "b")
    assert copy.deepcopy(x).names == ["n"]
    assert pickle.loads(pickle.dumps(x)).names == ["n"]


def test_every_absent_name_is_really_absent() -> None:
    bound = {n for n, v in vars(torch.Tensor).items() if isinstance(v, _missing._AbsentMember)}
    assert bound <= set(_missing._TENSOR_NAMES.split())
    assert not [n for n in bound if hasattr(torch.Tensor, n)]


def test_tensors_have_no_getattr() -> None:
    """With one, every attribute would be looked up more slowly."""
    assert "__getattr__" not in vars(torch.Tensor)
    assert type(torch.Tensor) is type


def test_a_miss_is_cheap() -> None:
    """Searching for the nearest name takes a millisecond, so it waits until the message is read."""
    places: list[Any] = []
    before = _missing.nearest
    _missing.nearest = lambda *a: places.append(a)  # type: ignore[assignment, func-returns-value]
    try:
        timeit.timeit(lambda: (hasattr(torch, "no_such"), hasattr(torch.ones(1), "to_sparse")), number=10)
    finally:
        _missing.nearest = before
    assert places == []
