"""Round trips through `save` and `load`, without PyTorch."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import types
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch import nn
from disttorch.core import dtypes
from disttorch.serialization import load, save


def saved(obj: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    save(obj, buffer, **options)
    return buffer.getvalue()


def again(obj: Any, **options: Any) -> Any:
    return load(io.BytesIO(saved(obj)), **options)


def array_of(tensor: Any) -> np.ndarray:
    return np.array(tensor.tolist())


class Scale(nn.Module):
    """A module of the user's own, with arrays that its code relies on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.tied = self.linear.weight
        self.factors = np.array([1.0, 2.0])
        self.count = np.int64(3)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3), (1, 1, 1)], ids=str)
def test_tensors_of_every_type(dtype: dtypes.dtype, shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype.numpy)
    found = again(disttorch.tensor(values))
    assert found.dtype is dtype
    assert found.shape == shape
    assert found.tolist() == values.tolist()


@pytest.mark.parametrize("special", [np.nan, -0.0, np.inf, np.float32(1e-45)], ids=["nan", "-0", "inf", "subnormal"])
def test_special_floats_keep_their_bits(special: float) -> None:
    values = np.array([special], np.float32)
    assert again(disttorch.tensor(values)).numpy().tobytes() == values.tobytes()


def test_views_of_one_memory_still_share_it() -> None:
    base = disttorch.arange(12.0).reshape(3, 4)
    views = {"base": base, "t": base.t(), "row": base[1], "odd": base[:, 1::2], "one": base[2, 3]}
    found = again(views)
    for name, view in views.items():
        assert found[name].stride() == view.stride(), name
        np.testing.assert_array_equal(found[name].numpy(), view.numpy(), err_msg=name)
    found["base"].fill_(-1)
    for name, view in found.items():
        assert (view.numpy() == -1).all(), f"'{name}' no longer shares memory with 'base'"


def test_overlapping_slices_without_their_base_share_what_they_overlap_in() -> None:
    base = disttorch.arange(10.0)
    low, high = again([base[2:6], base[4:9]])
    low[2] = -5
    assert high.tolist() == [-5, 5, 6, 7, 8]


def test_a_small_view_does_not_drag_its_whole_base_into_the_file() -> None:
    large = disttorch.zeros(100_000)
    assert len(saved(large[5:7])) < 4096


def test_tied_tensors_stay_tied() -> None:
    weight = nn.Parameter(disttorch.ones(2, 2))
    found = again({"encoder": weight, "decoder": weight, "detached": weight.detach()})
    assert found["encoder"] is found["decoder"]
    found["detached"].fill_(3)
    assert found["encoder"].tolist() == [[3, 3], [3, 3]]


def test_tied_parameters_of_a_state_dict_share_one_storage() -> None:
    net = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    net[1].weight = net[0].weight
    found = again(net.state_dict())
    found["0.weight"].fill_(2)
    assert (found["1.weight"].numpy() == 2).all()


def test_expanded_tensors_stay_small() -> None:
    wide = disttorch.tensor(7.0).expand(1000, 1000)
    data = saved(wide)
    assert len(data) < 4096
    found = load(io.BytesIO(data))
    assert found.shape == (1000, 1000)
    assert found.stride() == (0, 0)


def test_different_types_over_one_memory_are_refused() -> None:
    floats = np.ones(4, np.float32)
    pair = [disttorch.from_numpy(floats), disttorch.from_numpy(floats.view(np.int32))]
    with pytest.raises(RuntimeError, match=r"view the same data as different types.*clone"):
        saved(pair)


def test_requires_grad_is_kept_and_the_graph_is_not() -> None:
    leaf = disttorch.ones(2, requires_grad=True)
    found = again([leaf, leaf * 2, leaf.detach()])
    assert [t.requires_grad for t in found] == [True, True, False]
    assert all(t.is_leaf for t in found)


def test_parameters_and_attributes() -> None:
    parameter = nn.Parameter(disttorch.ones(2), requires_grad=False)
    parameter.note = "frozen"
    tensor = disttorch.ones(1)
    tensor.note = ["kept"]
    found = again([parameter, tensor])
    assert isinstance(found[0], nn.Parameter)
    assert not found[0].requires_grad
    assert found[0].note == "frozen"
    assert found[1].note == ["kept"]


def test_a_tensor_with_a_hook_is_saved_without_it_and_says_so() -> None:
    tensor = disttorch.ones(2, requires_grad=True)
    tensor.register_hook(lambda grad: grad)
    with pytest.warns(UserWarning, match="saved without it"):
        found = again(tensor)
    assert not vars(found)


def test_state_dict_with_its_metadata() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    state = net.state_dict()
    found = again(state)
    assert type(found) is OrderedDict
    assert list(found) == list(state)
    assert found._metadata == state._metadata
    copy = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    copy.load_state_dict(found)
    x = disttorch.ones(1, 2)
    assert copy(x).tolist() == net(x).tolist()


def test_state_of_an_optimizer_and_loose_ends_of_a_training_run() -> None:
    checkpoint = {
        "optimizer": {
            "state": {0: {"step": disttorch.tensor(3.0), "exp_avg": disttorch.zeros(2)}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0], "fused": None}],
        },
        "epoch": 3,
        "best": float("inf"),
    }
    found = again(checkpoint)
    assert found["optimizer"]["param_groups"] == checkpoint["optimizer"]["param_groups"]
    assert found["optimizer"]["state"][0]["step"].item() == 3.0
    assert found["epoch"] == 3
    assert found["best"] == float("inf")


PLAIN = [
    None,
    True,
    -(2**31),
    2**31,
    2**70,
    -(2**300),
    0.1,
    1 - 2j,
    "",
    "text ü \N{SNOWMAN}",
    "\ud800",
    b"",
    b"a\xff",
    bytearray(),
    bytearray(b"xy"),
    (),
    (1,),
    (1, 2, 3, 4),
    [],
    [[], [[]]],
    {},
    {1: {2: {}}},
    set(),
    {1, 2.5},
    frozenset((1, 2)),
    Counter("aab"),
    OrderedDict(b=1, a=2),
    disttorch.Size([]),
    disttorch.Size([2, 3]),
    disttorch.device("cpu"),
    disttorch.device("cuda:1"),
    disttorch.bfloat16,
    disttorch.bool,
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_objects(value: Any, protocol: int) -> None:
    found = load(io.BytesIO(saved({"value": value, "again": value}, pickle_protocol=protocol)))
    assert type(found["value"]) is type(value)
    assert found["value"] == value
    if value is not None and not isinstance(value, (int, float, complex)):
        assert found["again"] is found["value"] or not value


def test_every_protocol_carries_tensors() -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        state = {"w": nn.Parameter(disttorch.ones(2)), "long": "x" * 70_000}
        found = load(io.BytesIO(saved(state, pickle_protocol=protocol)))
        assert found["w"].tolist() == [1, 1], protocol


def test_objects_that_contain_themselves() -> None:
    loop: list[Any] = [disttorch.ones(1)]
    loop.append((loop, {"loop": loop}))
    found = again(loop)
    assert found[1][0] is found
    assert found[1][1]["loop"] is found


def test_numpy_values_and_paths_become_plain_ones() -> None:
    found = again(
        {
            "scalars": [np.float64(0.5), np.float32(0.5), np.int16(3), np.bool_(True), np.str_("s")],
            "complex": np.complex64(1j),
            "array": np.arange(6).reshape(2, 3).T,
            "swapped": np.array([1, 2], ">f4"),
            "reversed": np.arange(4)[::-1],
            "path": Path("runs/one"),
            np.int64(5): "key",
        }
    )
    assert found["scalars"] == [0.5, 0.5, 3, True, "s"]
    assert [type(v) for v in found["scalars"]] == [float, float, int, bool, str]
    assert found["complex"] == 1j
    assert found["array"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["swapped"].tolist() == [1, 2]
    assert found["reversed"].tolist() == [3, 2, 1, 0]
    assert found["path"] == "runs/one"
    assert found[5] == "key"


def test_one_array_in_two_places_becomes_one_tensor() -> None:
    array = np.ones(3)
    first, second, tensor = again([array, array, disttorch.from_numpy(array)])
    assert first is second
    tensor.fill_(4)
    assert first.tolist() == [4, 4, 4]


@pytest.mark.parametrize("array", [np.array([1], np.uint16), np.array(["a"]), np.array([None])], ids=str)
def test_arrays_that_no_tensor_can_hold_are_pickled_as_they_are(array: np.ndarray) -> None:
    data = saved([array])
    with pytest.raises(pickle.UnpicklingError, match=r"numpy.*weights_only=False"):
        load(io.BytesIO(data))
    found = load(io.BytesIO(data), weights_only=False)[0]
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()


def test_a_whole_module() -> None:
    net = Scale()
    found = again(net, weights_only=False)
    assert type(found) is Scale
    assert found.tied is found.linear.weight
    x = disttorch.ones(1, 2)
    assert found.linear(x).tolist() == net.linear(x).tolist()
    assert type(found.factors) is np.ndarray, "the module's own array must stay an array"
    assert type(found.count) is np.int64


def test_a_whole_module_is_refused_by_default_with_the_way_out() -> None:
    with pytest.raises(pickle.UnpicklingError) as caught:
        again(nn.Linear(2, 2))
    for part in ("disttorch.nn.modules.linear.Linear", "add_safe_globals", "weights_only=False"):
        assert part in str(caught.value)


def test_equal_objects_give_equal_files() -> None:
    def build(names: list[str]) -> dict[str, Any]:
        return {name: disttorch.arange(5.0) for name in names}

    one = saved(build(["layer", "layer2"]))
    other = saved(build(["".join(("lay", "er")), "layer" + str(2)]))
    assert one == other
    found = load(io.BytesIO(one))
    assert saved(found) == one


def test_paths_path_objects_and_open_files(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    save(disttorch.ones(2), path)
    assert load(str(path)).tolist() == [1, 1]
    with open(path, "rb") as file:
        assert load(file).tolist() == [1, 1]
    with open(path, "wb", buffering=0) as file:
        save(disttorch.zeros(2), file)
    assert load(path).tolist() == [0, 0]


def test_a_file_that_takes_a_part_at_a_time_and_cannot_seek() -> None:
    class Narrow(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += bytes(data[:7])
            return min(7, len(data))

    narrow = Narrow()
    save({"w": disttorch.arange(10)}, narrow)
    assert load(io.BytesIO(narrow.data))["w"].tolist() == list(range(10))


def test_a_file_object_that_can_only_read_and_seek() -> None:
    buffer = io.BytesIO(saved(disttorch.arange(3)))
    plain = types.SimpleNamespace(read=buffer.read, seek=buffer.seek, tell=buffer.tell)
    assert load(plain).tolist() == [0, 1, 2]


def test_an_archive_behind_other_data_in_a_file() -> None:
    buffer = io.BytesIO(b"header" + saved(disttorch.arange(3)))
    buffer.seek(6)
    assert load(buffer).tolist() == [0, 1, 2]


def test_mapped_loading_shares_pages_and_never_writes_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    state = {"a": disttorch.arange(1000.0), "flag": disttorch.tensor([True, False])}
    save(state, path)
    before = path.read_bytes()
    found = load(path, mmap=True)
    assert found["a"].tolist() == state["a"].tolist()
    assert found["flag"].tolist() == [True, False]
    found["a"].fill_(0)
    assert path.read_bytes() == before
    save(found, path)
    assert found["a"].numpy().sum() == 0
    assert load(path)["a"].numpy().sum() == 0


def test_mapping_needs_a_path() -> None:
    with pytest.raises(ValueError, match="must be a file path"):
        load(io.BytesIO(saved(1)), mmap=True)


def test_saving_does_not_copy_large_arrays(tmp_path: Path) -> None:
    tensor = disttorch.zeros(1 << 23)
    tracemalloc.start()
    try:
        save({"all": tensor, "part": tensor[:100].reshape(10, 10).t()}, tmp_path / "large.pt")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20, f"saving a 32 MiB tensor took {peak >> 20} MiB more"


def test_loading_reads_straight_into_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    save({"a": disttorch.zeros(1 << 22), "b": disttorch.zeros(1 << 22)}, path)
    tracemalloc.start()
    try:
        found = load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found["b"].shape == (1 << 22,)
    assert peak < 36 << 20, f"loading 32 MiB took {peak >> 20} MiB"


def test_a_pickle_module_written_in_python() -> None:
    class Pickler(pickle._Pickler):  # type: ignore[name-defined]
        """Stands for dill's: counts what it saves."""

        def save(self, obj: Any, save_persistent_id: bool = True) -> None:
            calls.append(type(obj))
            super().save(obj, save_persistent_id)

    calls: list[type] = []
    module = types.ModuleType("fancy")
    module.Pickler, module.Unpickler = Pickler, pickle.Unpickler  # type: ignore[attr-defined]
    data = saved({"w": disttorch.ones(2)}, pickle_module=module)
    assert dict in calls
    assert load(io.BytesIO(data), pickle_module=module)["w"].tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="explicit pickle_module"):
        load(io.BytesIO(data), pickle_module=module, weights_only=True)


def test_a_pickle_module_written_in_c_is_refused() -> None:
    module = types.ModuleType("swift")
    module.Pickler = pickle.Pickler  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="written in Python; got 'swift'"):
        saved(1, pickle_module=module)


@pytest.mark.parametrize("protocol", [0, 1, 99])
def test_unusable_protocols(protocol: int) -> None:
    with pytest.raises(ValueError, match="pickle_protocol must be from 2"):
        saved(1, pickle_protocol=protocol)


def test_the_old_format_is_not_written() -> None:
    with pytest.raises(ValueError, match=r"only the zip format of PyTorch 1\.6"):
        saved(1, _use_new_zipfile_serialization=False)


def test_unpickler_options_need_trust() -> None:
    data = saved({"a": 1})
    with pytest.warns(UserWarning, match="only works if `weights_only=False`"):
        load(io.BytesIO(data), encoding="latin1")
    assert load(io.BytesIO(data), weights_only=False, encoding="latin1") == {"a": 1}


@pytest.mark.parametrize("target", [3, None, object()], ids=["int", "None", "object"])
def test_what_is_neither_path_nor_file(target: Any) -> None:
    with pytest.raises(AttributeError, match="file-like object with a 'write' attribute"):
        save(1, target)
    with pytest.raises(AttributeError, match="file-like object with a 'read' attribute"):
        load(target)


def test_text_files_and_streams_are_refused_clearly() -> None:
    with pytest.raises(TypeError, match=r"binary mode \('wb'\)"):
        save(1, io.StringIO())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"binary mode \('rb'\)"):
        load(io.StringIO())  # type: ignore[arg-type]
    stream = types.SimpleNamespace(read=lambda n: b"", seekable=lambda: False)
    with pytest.raises(AttributeError, match=r"can seek.*io\.BytesIO"):
        load(stream)  # type: ignore[arg-type]


def test_nesting_too_deep_to_pickle() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(RecursionError, match="nested too deeply to save; flatten it"):
        saved(nested)


def test_what_cannot_be_pickled_writes_nothing(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save({"f": lambda: None}, buffer)
    assert not buffer.getvalue()
    path = tmp_path / "model.pt"
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save({"f": lambda: None}, path)
    assert not list(tmp_path.iterdir())
