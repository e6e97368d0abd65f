"""Checkpoints go both ways between PyTorch and disttorch."""

from __future__ import annotations

import io
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch import nn
from disttorch.core import dtypes
from disttorch.serialization import get_unsafe_globals_in_checkpoint, load, save

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


def to_torch(obj: Any, **options: Any) -> Any:
    buffer = io.BytesIO()
    save(obj, buffer)
    buffer.seek(0)
    return torch.load(buffer, **options)


def from_torch(obj: Any, **options: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(obj, buffer)
    buffer.seek(0)
    return load(buffer, **options)


def same_tensor(ours: Any, theirs: Any) -> None:
    assert repr(ours.dtype) == repr(theirs.dtype)
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert tuple(ours.stride()) == tuple(theirs.stride()) or not ours.numel()
    assert ours.requires_grad == theirs.requires_grad
    assert ours.is_leaf
    assert theirs.is_leaf
    assert isinstance(ours, nn.Parameter) == isinstance(theirs, torch.nn.Parameter)
    width = {1: "u1", 2: "u2", 4: "u4", 8: "u8", 16: "u8"}[ours.element_size()]
    bits = torch.uint8 if theirs.dtype == torch.bool else getattr(torch, f"int{8 * int(width[1])}")
    raw = theirs.detach().contiguous().view(-1).view(bits).numpy().view(width)
    np.testing.assert_array_equal(np.ascontiguousarray(ours._a).reshape(-1).view(width), raw)


def same(ours: Any, theirs: Any) -> None:
    """Compare an object of ours with PyTorch's, all the way down."""
    if isinstance(ours, disttorch.Tensor):
        same_tensor(ours, theirs)
    elif isinstance(ours, dict):
        assert type(ours) is type(theirs)
        assert list(ours) == list(theirs)
        for key, value in ours.items():
            same(value, theirs[key])
        assert getattr(ours, "_metadata", None) == getattr(theirs, "_metadata", None)
    elif isinstance(ours, (list, tuple)):
        assert type(ours).__name__ == type(theirs).__name__
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    elif isinstance(ours, (disttorch.device, dtypes.dtype)):
        assert repr(ours) == repr(theirs)
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs


def storages(obj: Any) -> list[int]:
    """Return, for each of PyTorch's tensors in a flat dict, the address of its storage."""
    return [t.untyped_storage().data_ptr() for t in obj.values()]


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
@pytest.mark.parametrize("shape", [(3, 4), (), (0, 2), (1, 5, 1)], ids=str)
def test_every_type_both_ways(dtype: dtypes.dtype, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 100, shape).astype(dtype.numpy)
    tensor = disttorch.tensor(values)
    theirs = to_torch(tensor)
    same(tensor, theirs)
    same(from_torch(theirs), theirs)


def test_views_share_memory_in_pytorch() -> None:
    base = disttorch.arange(12.0).reshape(3, 4)
    views = {"base": base, "t": base.t(), "row": base[1], "odd": base[:, 1::2], "one": base[2, 3]}
    theirs = to_torch(views)
    same(views, theirs)
    assert len(set(storages(theirs))) == 1
    theirs["base"].fill_(5)
    assert theirs["odd"].tolist() == [[5, 5]] * 3


@pytest.mark.parametrize("seed", range(20))
def test_random_views_of_random_memory(seed: int) -> None:
    """Slices, transposes and expansions of a few bases: values, strides and sharing survive."""
    random = np.random.default_rng(seed)
    theirs: dict[str, Any] = {}
    for i in range(4):
        shape = [int(n) for n in random.integers(1, 6, random.integers(1, 4))]
        base = torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape)
        for j in range(4):
            view = base
            for dim in range(view.dim()):
                begin = int(random.integers(0, view.shape[dim]))
                view = view.narrow(dim, begin, int(random.integers(1, view.shape[dim] - begin + 1)))
                step = int(random.integers(1, 3))
                view = view[(slice(None),) * dim + (slice(None, None, step),)]
            view = view.permute(*random.permutation(view.dim()).tolist())
            theirs[f"{i}.{j}"] = view.expand(2, *view.shape) if random.random() < 0.2 else view
    ours = from_torch(theirs)
    same(ours, theirs)
    again = to_torch(ours)
    same(ours, again)
    for collection in (theirs, again):
        for name in list(collection)[::4]:
            collection[name].fill_(-1)
    for name, view in ours.items():
        if name.endswith(".0"):
            view._a[...] = -1
    same(ours, theirs)
    same(ours, again)


def test_models_optimizers_and_loose_ends() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        OrderedDict(conv=torch.nn.Conv2d(1, 2, 3), norm=torch.nn.BatchNorm2d(2), head=torch.nn.Linear(2, 2))
    )
    net.head.weight.requires_grad_(False)
    optimizer = torch.optim.AdamW((p for p in net.parameters() if p.requires_grad), lr=0.1)
    net.norm(net.conv(torch.ones(2, 1, 5, 5))).sum().backward()
    optimizer.step()
    theirs = {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "parameters": list(net.parameters()),
        "rng": torch.get_rng_state(),
        "best": (0.5, None, True, "text ü", b"\x00\xff", 2**70, -1, float("inf"), 1j),
        "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16,
        "device": torch.device("cuda", 1),
        "counter": Counter("hello"),
        "set": {1, 2},
        "bytes": bytearray(b"abc"),
    }
    ours = from_torch(theirs)
    same(ours, theirs)
    same(ours, to_torch(ours))


def test_what_disttorch_trained_loads_into_pytorch() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    other = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    other.load_state_dict(to_torch(net.state_dict()))
    values = np.random.default_rng(0).standard_normal((5, 4), np.float32)
    ours = net(disttorch.from_numpy(values)).detach().numpy()
    theirs = other(torch.from_numpy(values)).detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_tied_parameters_stay_tied_in_pytorch() -> None:
    weight = nn.Parameter(disttorch.ones(2))
    theirs = to_torch({"a": weight, "b": weight, "c": weight.detach()})
    assert theirs["a"] is theirs["b"]
    assert len(set(storages(theirs))) == 1


def test_attributes_of_tensors_both_ways() -> None:
    tensor, parameter = disttorch.ones(2), nn.Parameter(disttorch.ones(1))
    tensor.note, parameter.note = "t", "p"
    theirs = to_torch([tensor, parameter])
    assert [t.note for t in theirs] == ["t", "p"]
    assert [t.note for t in from_torch(theirs)] == ["t", "p"]


def test_numpy_values_that_pytorch_would_refuse() -> None:
    theirs = to_torch({"f": np.float64(0.5), "i": np.int32(3), "a": np.arange(3), "p": Path("x/y"), "e": b""})
    assert theirs["f"] == 0.5
    assert theirs["i"] == 3
    assert theirs["a"].tolist() == [0, 1, 2]
    assert theirs["p"] == "x/y"
    assert theirs["e"] == b""


@pytest.mark.parametrize("mapped", [False, True])
def test_files_and_mapping_both_ways(tmp_path: Path, mapped: bool) -> None:
    state = {"w": disttorch.arange(1000.0), "b": disttorch.tensor(True), "e": disttorch.zeros(0)}
    path = tmp_path / "model.v1.pt"
    save(state, path)
    theirs = torch.load(path, mmap=mapped)
    same(state, theirs)
    back = tmp_path / "back.pt"  # PyTorch writes over the file that it has mapped, and crashes
    torch.save(theirs, back)
    same(load(back, mmap=mapped), theirs)


def test_pytorch_files_without_checksums() -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        same(from_torch(torch.arange(5)), torch.arange(5))
    finally:
        torch.serialization.set_crc32_options(before)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols_that_pytorch_was_told_to_use(protocol: int) -> None:
    buffer = io.BytesIO()
    theirs = {"w": torch.ones(2), "text": "x" * 1000, "set": {1}, "p": torch.nn.Parameter(torch.ones(1))}
    torch.save(theirs, buffer, pickle_protocol=protocol)
    buffer.seek(0)
    same(load(buffer), theirs)
    ours = io.BytesIO()
    save({"w": disttorch.ones(2), "text": "x" * 1000}, ours, pickle_protocol=protocol)
    ours.seek(0)
    assert torch.load(ours, weights_only=False)["w"].tolist() == [1, 1]


def test_conjugated_and_negated_tensors() -> None:
    values = torch.tensor([[1 + 2j, 3 - 4j]])
    negated = values.clone().conj().imag
    theirs = [values.conj(), negated, values, torch.tensor(1j).conj()]
    ours = from_torch(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.tolist() == other.tolist()


def test_the_same_names_are_found_unsafe(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    theirs = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    assert get_unsafe_globals_in_checkpoint(path) == sorted(theirs)


def test_a_whole_module_of_pytorch_becomes_ours() -> None:
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(18, 2))
    ours = from_torch(theirs, weights_only=False)
    assert isinstance(ours[0], nn.Conv2d)
    values = np.random.default_rng(0).standard_normal((2, 1, 5, 5), np.float32)
    np.testing.assert_allclose(
        ours(disttorch.from_numpy(values)).detach().numpy(),
        theirs(torch.from_numpy(values)).detach().numpy(),
        rtol=1e-5,
        atol=1e-6,
    )


def test_records_are_those_of_pytorch() -> None:
    """Without the two records that make PyTorch compute offsets as its own writer would."""
    names = []
    for module in (torch, disttorch):
        buffer = io.BytesIO()
        module.save({"w": module.ones(2), "v": module.zeros(3)}, buffer)
        with zipfile.ZipFile(buffer) as archive:
            names.append(set(archive.namelist()))
    theirs, ours = names
    left_out = {"archive/.format_version", "archive/.storage_alignment", "archive/.data/serialization_id"}
    assert theirs - ours == left_out
    assert ours <= theirs
