"""The wire format: what it accepts, and that nothing else gets through."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disttorch.distributed import objects, wire
from disttorch.distributed.call import Call, call_site
from disttorch.distributed.errors import PeerFailed, ProtocolError
from disttorch.distributed.headers import HEADER, Header


def test_a_message_comes_back() -> None:
    message = wire.decode(wire.encode("abort", rank=1, reason="r", traceback="t"))
    assert message == {"type": "abort", "rank": 1, "reason": "r", "traceback": "t"}


@pytest.mark.parametrize(
    ("kind", "fields", "text"),
    [
        ("nonsense", {}, "unknown message type"),
        ("left", {}, r"needs exactly \['rank'\]"),
        ("left", {"rank": 1, "more": 2}, "needs exactly"),
        ("left", {"rank": "1"}, "'rank' of a 'left' message cannot be str"),
        ("left", {"rank": True}, "cannot be bool"),
        ("result", {"data": bytes(wire.MAX_MESSAGE)}, "may hold 65536 bytes"),
    ],
)
def test_what_the_schema_does_not_list_is_refused(kind: str, fields: dict, text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        wire.encode(kind, **fields)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_and_never_crash(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.decode(data)


@given(st.data())
def test_damaged_messages_decode_or_are_refused(data: st.DataObject) -> None:
    good = bytearray(wire.encode("waiting", what="x", missing=[1, 2], seconds=1.5, final=False))
    position = data.draw(st.integers(0, len(good) - 1))
    good[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        assert set(wire.decode(bytes(good))) == {"type", *wire.SCHEMAS["waiting"]}


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ProtocolError):
        wire.decode(b"\x91" * 50_000 + b"\x90")


def test_the_header_has_64_bytes_and_comes_back() -> None:
    header = Header(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2**64 - 1, 12)
    assert HEADER.size == 64
    assert Header.unpack(header.pack()) == header


@given(st.binary(max_size=80))
def test_other_headers_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Header.unpack(data)


def test_the_fingerprint_tells_calls_apart() -> None:
    base = Call("all_reduce", "float32", (4,), "SUM")
    same = Call("all_reduce", "float32", (4,), "SUM")
    assert base.header(1, 7) == same.header(1, 7)
    others = [
        Call("all_gather", "float32", (4,)),
        Call("all_reduce", "float64", (4,), "SUM"),
        Call("all_reduce", "float32", (2, 2), "SUM"),
        Call("all_reduce", "float32", (4,), "MAX"),
        Call("broadcast", "float32", (4,), root=1),
        Call("bucket", "float32", (4,), "SUM", names=("w",)),
    ]
    headers = {call.header(1, 7) for call in [base, *others]}
    assert len(headers) == len(others) + 1
    assert base.header(1, 8) not in headers
    assert base.header(2, 7) not in headers


def test_the_call_site_is_the_callers() -> None:
    file, line = call_site()
    assert file == __file__
    assert line > 0


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -(2**63),
        2**100,
        1.5,
        1 - 2j,
        "ü",
        b"\0",
        [1, [2]],
        (1, (2,)),
        {"a": (1,), 3: None},
        {1, 2},
    ],
    ids=repr,
)
def test_objects_come_back(value: object) -> None:
    got = objects.loads(objects.dumps(value))
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "float64", "complex64", "uint16", ">i4", "U3"])
def test_arrays_come_back(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).T.astype(dtype)
    got = objects.loads(objects.dumps([array, array[0, 0]]))
    np.testing.assert_array_equal(got[0], array)
    assert got[0].dtype == array.dtype
    assert got[0].flags.writeable
    assert got[1] == array[0, 0]


@pytest.mark.parametrize(
    "value",
    [object(), np.array([None]), print, [1, {2: lambda: 0}]],
    ids=["an object", "an array of objects", "a function", "a function in a dictionary"],
)
def test_what_would_need_pickle_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot send"):
        objects.dumps(value)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_reason_to_crash(data: bytes) -> None:
    try:
        found = objects.loads(data)
    except ValueError:
        return
    packed = objects.dumps(found)
    assert objects.dumps(objects.loads(packed)) == packed, "what random bytes were read as is no object of ours"


def test_peer_failed_says_who_and_why() -> None:
    error = PeerFailed(3, "raised ValueError: boom", "Traceback ...")
    assert str(error) == "rank 3 raised ValueError: boom\n\nTraceback ..."
    assert (error.rank, error.reason, error.traceback) == (
        3,
        "raised ValueError: boom",
        "Traceback ...",
    )
