"""With `weights_only=True` a file reaches nothing but the fixed table and what the user allowed."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import sys
import tracemalloc
import types
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import disttorch
from disttorch.serialization import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    get_unsafe_globals_in_checkpoint,
    load,
    safe_globals,
    save,
)
from disttorch.serialization.archive_writer import ArchiveWriter
from disttorch.serialization.globals import known_globals, makers


@pytest.fixture(autouse=True)
def nothing_allowed() -> Iterator[None]:
    clear_safe_globals()
    yield
    clear_safe_globals()


def archive_with(pickled: bytes, payload: bytes = bytes(64)) -> io.BytesIO:
    """Return a checkpoint with any pickle, and one storage of 64 bytes."""
    out = io.BytesIO()
    writer = ArchiveWriter(out.write, "archive")
    for name, data in (("data.pkl", pickled), ("data/0", payload), ("version", b"3\n")):
        writer.add(name, data)
    writer.close()
    out.seek(0)
    return out


def refusal(pickled: bytes) -> str:
    with pytest.raises(pickle.UnpicklingError) as caught:
        load(archive_with(pickled))
    return str(caught.value)


STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\20tQ"  # 16 floats


def tensor_pickle(offset: int, size: Any, stride: Any, extra: bytes = b"") -> bytes:
    def plain(value: Any) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE
        + plain(offset) + plain(size) + plain(stride) + b"\x89ccollections\nOrderedDict\n)R"
        + extra + b"tR."
    )  # fmt: skip


class Point:
    """A class of the user's own."""

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y


class Slotted:
    __slots__ = ("x",)


class Bomb:
    """Makes a folder when it is loaded carelessly."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "builtins getattr",
        "builtins object",
        "builtins type",
        "builtins __import__",
        "__builtin__ exec",
        "subprocess Popen",
        "disttorch load",
        "disttorch.serialization.checkpoint load",
        "torch load",
        "torch.storage _load_from_bytes",
        "torch.serialization load",
        "torch._utils __builtins__",
        "collections OrderedDict.__init__",
        "collections namedtuple",
        "_codecs lookup",
        "functools partial",
        "numpy ndarray",
    ],
)
def test_names_outside_of_the_table(name: str) -> None:
    module, _, attribute = name.partition(" ")
    message = refusal(f"\x80\x02c{module}\n{attribute}\n.".encode("latin-1"))
    shown = f"{module.replace('__builtin__', 'builtins')}.{attribute}"
    assert f"GLOBAL {shown} was not an allowed global" in message
    assert "add_safe_globals" in message
    assert "weights_only=False" in message


@pytest.mark.parametrize("module", ["os", "sys", "posix", "nt", "os.path"])
def test_modules_that_are_always_blocked(module: str) -> None:
    add_safe_globals([(os.system, f"{module}.system")])
    message = refusal(f"\x80\x02c{module}\nsystem\n(X\1\0\0\0xtR.".encode("latin-1"))
    assert "always blocked" in message


def test_nothing_is_imported_whatever_the_file_names() -> None:
    for module in ("this", "wsgiref.simple_server", "disttorch.absent"):
        sys.modules.pop(module, None)
        refusal(f"\x80\x02c{module}\nname\n.".encode("latin-1"))
        assert module not in sys.modules, f"{module} was imported"


def test_no_encoding_is_looked_up() -> None:
    pickled = b"\x80\x02c_codecs\nencode\nX\1\0\0\0aX\3\0\0\0bz2\x86R."
    assert "_codecs.encode" in refusal(pickled)


def test_an_exploit_by_reduce_does_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    buffer = io.BytesIO()
    save(Bomb(str(folder)), buffer)
    buffer.seek(0)
    with pytest.raises(pickle.UnpicklingError, match=r"(posix|nt)\.mkdir, whose module is always blocked"):
        load(buffer)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["QInt8Storage", "QUInt4x2Storage", "StrangeStorage"])
@pytest.mark.parametrize("weights_only", [True, False])
def test_unknown_storage_types(name: str, weights_only: bool) -> None:
    with pytest.raises(pickle.UnpicklingError, match=rf"unknown storage type torch\.{name}"):
        load(archive_with(f"\x80\x02ctorch\n{name}\n.".encode("latin-1")), weights_only=weights_only)


@pytest.mark.parametrize(
    "value", [disttorch.Tensor, disttorch.float32, rb"FloatStorage"], ids=["class", "dtype", "type"]
)
def test_what_the_table_holds_cannot_all_be_called(value: Any) -> None:
    name = {disttorch.Tensor: "Tensor", disttorch.float32: "float32"}.get(value, "FloatStorage")
    assert "may not call" in refusal(f"\x80\x02ctorch\n{name}\n(J\0\0\0\x7ftR.".encode("latin-1"))


def test_every_call_in_the_table_survives_wrong_arguments() -> None:
    """Whatever a file passes, only UnpicklingError comes out."""
    values = [b"N", b"K\1", b"J\xff\xff\xff\x7f", b"]", b"}", b")", b"X\1\0\0\0a", b"\x89", STORAGE]
    values.append(b"(K\1K\2t")
    for path, value in known_globals().items():
        if id(value) not in makers():
            continue
        module, _, name = path.rpartition(".")
        for first in values:
            for second in ([], *([v] for v in values)):
                args = b"".join([first, *second])
                pickled = f"\x80\x02c{module}\n{name}\n(".encode() + args + b"tR."
                try:
                    load(archive_with(pickled))
                except pickle.UnpicklingError:
                    pass
                except Exception as error:
                    pytest.fail(f"{path} with {args!r} raised {error!r}")


@pytest.mark.parametrize(
    ("target", "what"),
    [
        (b"ctorch\nTensor\n", "type"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n", "function"),
        (b"ctorch\nfloat32\n", "dtype"),
        (b"]", "list"),
        (b"}", "dict"),
    ],
)
def test_attributes_of_table_objects_cannot_be_set(target: bytes, what: str) -> None:
    pickled = b"\x80\x02" + target + b"N}X\4\0\0\0nameX\1\0\0\0xs\x86b."
    assert f"may not set attributes of a {what}" in refusal(pickled)


@pytest.mark.parametrize("name", ["items", "__class__", "keys", "pop", "__dict__"])
def test_methods_of_an_ordered_dict_cannot_be_hidden(name: str) -> None:
    state = pickle.dumps({name: 1}, 2)[2:-1]
    pickled = b"\x80\x02ccollections\nOrderedDict\n)R" + state + b"b."
    assert f"may not set the attribute '{name}'" in refusal(pickled)


@pytest.mark.parametrize("name", ["_a", "_counter", "add", "__add__", "_hooks", "__dict__", "grad"])
def test_a_tensors_own_attributes_cannot_be_set(name: str) -> None:
    args = tensor_pickle(0, (2,), (1,))[len(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n") : -2]
    pickled = (
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\n"
        b"ctorch\nTensor\n" + args + pickle.dumps({name: 1}, 2)[2:-1] + b"tR."
    )
    assert f"may not set the attribute '{name}'" in refusal(pickled)


def test_newobj_of_a_table_class() -> None:
    assert "may not make a Tensor" in refusal(b"\x80\x02ctorch\nTensor\nJ\0\0\0\x7f\x85\x81.")


@pytest.mark.parametrize(
    ("offset", "size", "stride", "message"),
    [
        (0, (17,), (1,), "does not lie within its storage of 16"),
        (15, (2,), (1,), "does not lie within"),
        (0, (2, 2), (15, 1), "does not lie within"),
        (2**62, (1,), (1,), "does not lie within"),
        (2**64, (1,), (1,), "whole numbers"),
        (-1, (2,), (1,), "whole numbers"),
        (0, (-2,), (1,), "whole numbers"),
        (0, (2,), (-1,), "whole numbers"),
        (0, (2.0,), (1,), "whole numbers"),
        (0, (True,), (1,), "whole numbers"),
        (0, ("2",), (1,), "whole numbers"),
        (0, 2, 1, "whole numbers"),
        (0, (1,) * 65, (1,) * 65, "at most 64 dimensions"),
        (0, (2, 3), (1,), "cannot have strides"),
        (0, (2**40, 2**40), (0, 0), "larger than the address space"),
        (0, (2**62, 0), (0, 0), "larger than the address space"),
        (0, (2**62,), (2**62,), "larger than the address space"),
    ],
)
def test_tensors_outside_of_their_storage(offset: int, size: Any, stride: Any, message: str) -> None:
    assert message in refusal(tensor_pickle(offset, size, stride))


def test_the_last_element_of_a_storage_is_reached() -> None:
    found = load(archive_with(tensor_pickle(1, (2, 8), (7, 1))))
    assert found.shape == (2, 8)
    assert found.stride() == (7, 1)
    assert found.storage_offset() == 1


@pytest.mark.parametrize(
    "identity",
    [
        ("storage", 1, "0", "cpu", 16),
        ("module", None, "0", "cpu", 16),
        ("storage",),
        "storage",
        None,
        [1],
    ],
    ids=repr,
)
def test_wrong_storage_identities(identity: Any) -> None:
    pickled = pickle.dumps(identity, 2)[:-1] + b"Q."
    assert "names a storage as PyTorch does not" in refusal(pickled)


def test_a_storage_key_is_no_path() -> None:
    key = "../../../etc/passwd"
    pickled = STORAGE.replace(b"X\1\0\0\0000", b"X" + struct.pack("<I", len(key)) + key.encode("latin-1"))
    with pytest.raises(RuntimeError, match=r"has no record 'data/../../../etc/passwd'"):
        load(archive_with(b"\x80\x02" + pickled + b"."))


def peak_of_loading(pickled: bytes) -> int:
    archive = archive_with(pickled)
    tracemalloc.start()
    try:
        with contextlib.suppress(pickle.UnpicklingError):
            load(archive)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MEMORY_BOMBS = {
    "memo index": b"\x80\x02]r\xff\xff\xff\xff.",
    "long text": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "long number": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "bytearray of a number": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "bytes of a number": b"\x80\x02cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.",
    "tensor of a shape": b"\x80\x02ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R.",
    "conjugate of a wide view": tensor_pickle(
        0, (2**28,), (0,), extra=pickle.dumps({"neg": True}, 2)[2:-1]
    ),
    "sets of one long list": b"\x80\x02]q\0(" + b"".join(
        b"J" + struct.pack("<i", i) for i in range(5000)
    ) + b"e" + b"cbuiltins\nset\nh\0\x85R" * 10_000 + b".",
}  # fmt: skip


@pytest.mark.parametrize("name", MEMORY_BOMBS)
def test_small_files_that_ask_for_much_memory(name: str) -> None:
    pickled = MEMORY_BOMBS[name]
    assert peak_of_loading(pickled) < (160 << 20) + 300 * len(pickled)


def test_a_key_that_is_endless_to_hash() -> None:
    doubled = b")q\0000" + b"h\0h\0\x86q\0000" * 60 + b"h\0"
    assert "too many parts" in refusal(b"\x80\x02}" + doubled + b"K\1s.")
    assert "too many parts" in refusal(b"\x80\x04\x8f(" + doubled + b"\x90.")
    assert "too many parts" in refusal(b"\x80\x02})" + b"\x85" * 100_000 + b"K\1s.")


def test_deep_nesting_needs_no_deep_stack() -> None:
    found = load(archive_with(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."))
    depth = 0
    while found:
        found = found[0]
        depth += 1
    assert depth == 49_999


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02t.",
        b"\x80\x02\x86.",
        b"\x80\x02h\7.",
        b"\x80\x02]K\1K\2s.",
        b"\x80\x02(]}e.",
        b"\x80\x02}](K\1u.",
        b"\x80\x02}]K\1s.",
        b"\x80\x02}(K\1u.",
        b"\x80\x02X\1\0\0\0\xff.",
        b"\x80\x02cabc",
        b"\x80\x02c\xff\n\xff\n.",
        b"\x80\x02NR.",
        b"\x80\x02N)R.",
        b"\x80\x02N)b.",
        b"\x80\x63N.",
        b"\x80\x04NN\x93.",
        b"\x80\x02I1\n.",
        b"\x80\x02P1\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02i1\n2\n.",
    ],
)
def test_damaged_pickles(pickled: bytes) -> None:
    refusal(pickled)


def point_file() -> io.BytesIO:
    buffer = io.BytesIO()
    save({"points": [Point(1, 2), Point(3, 4)]}, buffer)
    buffer.seek(0)
    return buffer


def test_allowing_a_class() -> None:
    assert get_unsafe_globals_in_checkpoint(point_file()) == [f"{__name__}.Point"]
    with pytest.raises(pickle.UnpicklingError, match=r"GLOBAL \S+\.Point was not"):
        load(point_file())
    add_safe_globals([Point])
    assert get_safe_globals() == [Point]
    assert get_unsafe_globals_in_checkpoint(point_file()) == []
    assert [p.y for p in load(point_file())["points"]] == [2, 4]
    clear_safe_globals()
    assert get_safe_globals() == []
    with pytest.raises(pickle.UnpicklingError):
        load(point_file())


def test_allowing_within_a_with_statement() -> None:
    add_safe_globals([Slotted])
    with safe_globals([Point, Slotted]):
        assert load(point_file())["points"][0].x == 1
        add_safe_globals([OrderedDict])
    assert get_safe_globals() == [Slotted, OrderedDict]


def test_allowing_under_another_name() -> None:
    renamed = archive_with(b"\x80\x02cold.place\nSpot\n)\x81}(X\1\0\0\0xK\1X\1\0\0\0yK\2ub.")
    with safe_globals([(Point, "old.place.Spot")]):
        found = load(renamed)
    assert type(found) is Point
    assert found.y == 2


def test_allowed_classes_with_slots_and_containers() -> None:
    slotted = Slotted()
    slotted.x = 5  # type: ignore[attr-defined]
    table = defaultdict(list, a=[1])
    buffer = io.BytesIO()
    save([slotted, table], buffer)
    buffer.seek(0)
    with safe_globals([Slotted, defaultdict, list]):
        found = load(buffer)
    assert found[0].x == 5
    assert found[1] == table
    assert found[1]["new"] == []


def test_errors_of_allowed_code_are_its_own() -> None:
    def careless() -> None:
        raise KeyError("mine")

    pickled = b"\x80\x02cthere\ncareless\n)R."
    with safe_globals([(careless, "there.careless")]), pytest.raises(KeyError, match="mine"):
        load(archive_with(pickled))


def test_numpy_scalars_when_allowed() -> None:
    pickled = pickle.dumps(np.float64(0.5), 2)
    function, (dtype, _) = np.float64(0.5).__reduce__()[:2]
    with safe_globals([function, np.dtype, type(dtype)]):
        assert load(archive_with(pickled)) == 0.5


@pytest.mark.parametrize("item", [3, (Point,), (Point, 3), (3, "a.b"), types.SimpleNamespace()])
def test_what_cannot_be_allowed(item: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a|has no full name"):
        add_safe_globals([item])
    assert get_safe_globals() == []
