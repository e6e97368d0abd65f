"""Less usual ways in which files describe tensors."""

from __future__ import annotations

import io
import pickle
from typing import Any

import pytest

import disttorch
from disttorch import nn
from disttorch.autograd.tensor import wrap
from disttorch.serialization import get_unsafe_globals_in_checkpoint, load, safe_globals, save
from disttorch.serialization.archive_writer import ArchiveWriter

HOOKS = b"ccollections\nOrderedDict\n)R"


class Image(disttorch.Tensor):
    """A class of tensors of the user's own."""


def archive_with(pickled: bytes, payload: bytes) -> io.BytesIO:
    out = io.BytesIO()
    writer = ArchiveWriter(out.write, "archive")
    for name, data in (("data.pkl", pickled), ("data/0", payload), ("version", b"3\n")):
        writer.add(name, data)
    writer.close()
    out.seek(0)
    return out


def plain(value: Any) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def storage(kind: str, count: int) -> bytes:
    module, _, name = kind.rpartition(".")
    return (
        b"(" + plain("storage") + f"c{module}\n{name}\n".encode()
        + plain("0") + plain("cpu") + plain(count) + b"tQ"
    )  # fmt: skip


def call(function: str, *args: bytes) -> bytes:
    module, _, name = function.rpartition(".")
    return f"c{module}\n{name}\n(".encode() + b"".join(args) + b"tR"


def loaded(expression: bytes, payload: bytes = bytes(range(16)), **options: Any) -> Any:
    return load(archive_with(b"\x80\x02" + expression + b".", payload), **options)


def test_the_first_form_has_no_gradient_and_no_hooks() -> None:
    args = (storage("torch.ByteStorage", 16), plain(1), plain((2, 2)), plain((4, 2)))
    assert loaded(call("torch._utils._rebuild_tensor", *args)).tolist() == [[1, 3], [5, 7]]


@pytest.mark.parametrize("kind", ["torch.storage.UntypedStorage", "torch.UntypedStorage"])
def test_bytes_with_a_type_of_their_own(kind: str) -> None:
    args = (storage(kind, 16), plain(1), plain((2,)), plain((1,)), b"\x89", HOOKS)
    found = loaded(call("torch._utils._rebuild_tensor_v3", *args, b"ctorch\nint32\n"))
    assert found.dtype is disttorch.int32
    assert found.tolist() == [0x07060504, 0x0B0A0908]


def test_one_storage_under_two_types_is_one_memory() -> None:
    rest = (plain(0), plain((2,)), plain((1,)), b"\x89", HOOKS)
    shorts = call("torch._utils._rebuild_tensor_v2", storage("torch.ShortStorage", 8), *rest)
    chars = call("torch._utils._rebuild_tensor_v2", storage("torch.CharStorage", 16), *rest)
    first, second = loaded(shorts + chars + b"\x86")
    assert first.tolist() == [0x0100, 0x0302]
    second.fill_(1)
    assert first.tolist() == [0x0101, 0x0302]


def test_bytes_that_are_no_bools_under_a_second_type() -> None:
    rest = (plain(0), plain((2,)), plain((1,)), b"\x89", HOOKS)
    chars = call("torch._utils._rebuild_tensor_v2", storage("torch.CharStorage", 16), *rest)
    bools = call("torch._utils._rebuild_tensor_v2", storage("torch.BoolStorage", 16), *rest)
    with pytest.raises(pickle.UnpicklingError, match="storage of bools"):
        loaded(chars + bools + b"\x86")


@pytest.mark.parametrize("weights_only", [True, False])
def test_an_integer_tensor_cannot_require_grad(weights_only: bool) -> None:
    args = (storage("torch.ByteStorage", 16), plain(0), plain((1,)), plain((1,)), b"\x88", HOOKS)
    with pytest.raises((pickle.UnpicklingError, RuntimeError), match="can require gradients"):
        loaded(call("torch._utils._rebuild_tensor_v2", *args), weights_only=weights_only)


@pytest.mark.parametrize("value", [b"N", b"K\1", b"]"])
def test_a_parameter_of_something_else(value: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError, match="a Parameter needs a tensor"):
        loaded(call("torch._utils._rebuild_parameter", value, b"\x88", HOOKS))
    with pytest.raises(pickle.UnpicklingError, match="a Parameter needs a tensor"):
        loaded(call("torch.nn.parameter.Parameter", value))


def test_metadata_other_than_lazy_bits() -> None:
    args = (storage("torch.FloatStorage", 4), plain(0), plain((1,)), plain((1,)), b"\x89", HOOKS)
    with pytest.raises(pickle.UnpicklingError, match="metadata other than"):
        loaded(call("torch._utils._rebuild_tensor_v2", *args, plain({"fancy": True})))


def test_classes_of_tensors() -> None:
    image = wrap(disttorch.arange(4.0)._a, Image)
    image.title = "sunset"
    buffer = io.BytesIO()
    save({"image": image, "tied": disttorch.from_numpy(image._a)}, buffer)
    name = f"{__name__}.Image"
    buffer.seek(0)
    assert get_unsafe_globals_in_checkpoint(buffer) == [name]
    buffer.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="Image was not an allowed global"):
        load(buffer)
    for options in ({"weights_only": True}, {"weights_only": False}):
        buffer.seek(0)
        with safe_globals([Image]):
            found = load(buffer, **options)
        assert type(found["image"]) is Image
        assert found["image"].title == "sunset"
        found["tied"].fill_(2)
        assert found["image"].tolist() == [2, 2, 2, 2]


def test_a_part_of_pytorch_that_does_not_exist_here() -> None:
    pickled = b"ctorch.nn.modules.nonsense\nNonsense\n)R"
    with pytest.raises(pickle.UnpicklingError, match=r"torch\.nn\.modules\.nonsense\.Nonsense, a part of PyTorch"):
        loaded(pickled, weights_only=False)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_unsafe_names_are_found_in_every_protocol(protocol: int) -> None:
    net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    buffer = io.BytesIO()
    save({"net": net, "again": [net], "text": "some.name"}, buffer, pickle_protocol=protocol)
    buffer.seek(0)
    assert get_unsafe_globals_in_checkpoint(buffer) == [
        "disttorch.nn.modules.container.Sequential",
        "disttorch.nn.modules.linear.Linear",
    ]


def test_unsafe_names_of_a_damaged_pickle() -> None:
    with pytest.raises(pickle.UnpicklingError, match="the pickle is damaged"):
        get_unsafe_globals_in_checkpoint(archive_with(b"\x80\x02cabc", b""))
