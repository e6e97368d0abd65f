"""The wire format of control messages.

A control message is one msgpack map with a `type` and exactly the fields that `SCHEMAS` lists for
it, at most `MAX_MESSAGE` bytes long. Nothing on the wire is ever unpickled.
"""

from __future__ import annotations

from typing import Any

from disttorch.distributed.errors import ProtocolError

MAX_MESSAGE = 64 * 1024
MAX_STORE_MESSAGE = 64 * 1024 * 1024

_STR, _INT, _BYTES, _BOOL, _LIST, _FLOAT = (str,), (int,), (bytes,), (bool,), (list,), (int, float)

SCHEMAS: dict[str, dict[str, tuple[type, ...]]] = {
    # agent -> worker
    "welcome": {
        "run": _STR,
        "secret": _BYTES,
        "transport": _STR,
        "hosts": _LIST,
        "rank": _INT,
        "world_size": _INT,
        "local_rank": _INT,
        "local_world_size": _INT,
        "store": _STR,
        "store_key": _BYTES,
        "timeout": _FLOAT,
        "oversubscribed": _BOOL,
    },
    "segment": {"key": _STR, "size": _INT, "error": _STR},
    "abort": {"rank": _INT, "reason": _STR, "traceback": _STR},
    "left": {"rank": _INT},
    # worker -> agent
    "ready": {},
    "segment_request": {"key": _STR, "size": _INT, "users": _INT},
    "failed": {"reason": _STR, "traceback": _STR, "cause": _INT},
    "unwinding": {},
    "waiting": {"what": _STR, "missing": _LIST, "seconds": _FLOAT, "final": _BOOL},
    "progress": {"steps": _INT, "samples": _INT, "waited": _FLOAT, "phase": _STR, "collective": _STR},
    "result": {"data": _BYTES},
    # store
    "store_request": {
        "id": _INT,
        "op": _STR,
        "keys": _LIST,
        "value": _BYTES,
        "expected": _BYTES,
        "amount": _INT,
        "timeout": _FLOAT,
    },
    "store_reply": {"id": _INT, "value": _BYTES, "amount": _INT, "error": _STR},
    # first rank -> host of a meeting, and back
    "meet": {"token": _BYTES, "world_size": _INT, "timeout": _FLOAT},
    "meeting": {"address": _STR, "error": _STR},
    # rank -> host of a meeting, and back
    "join": {"token": _BYTES, "rank": _INT, "world_size": _INT},
    "refused": {"why": _STR, "reason": _STR},
    "leave": {},
    # worker -> worker
    "explain": {"rank": _INT, "sequence": _INT, "text": _STR},
}


def encode(kind: str, limit: int = MAX_MESSAGE, **fields: Any) -> bytes:
    r"""Return a control message of type `kind`; ProtocolError when it is not in the schema or too long.

    What UTF-8 cannot express (half a surrogate pair, from a file's name for instance) becomes `\udcff`.
    """
    import msgpack

    _check(kind, fields)
    try:
        data: bytes = msgpack.packb({"type": kind, **fields}, use_bin_type=True, unicode_errors="backslashreplace")
    except (ValueError, TypeError, OverflowError) as error:
        raise ProtocolError(f"a '{kind}' message cannot be packed: {error}") from None
    if len(data) > limit:
        raise ProtocolError(f"a '{kind}' message may hold {limit} bytes, this one has {len(data)}")
    return data


def decode(data: bytes | memoryview, limit: int = MAX_MESSAGE) -> dict[str, Any]:
    """Return the fields of a control message, `type` among them; ProtocolError for anything malformed."""
    if len(data) > limit:
        raise ProtocolError(f"a message may hold {limit} bytes, this one has {len(data)}")
    try:
        message = unpack(data, strict_map_key=True)
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"a message is not msgpack: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError("a message must be a map with a 'type'")
    kind = message["type"]
    _check(kind, {key: value for key, value in message.items() if key != "type"})
    return message


def unpack(data: bytes | memoryview, **options: Any) -> Any:
    """Return what msgpack `data` stands for; ValueError or TypeError unless it is complete and nothing follows.

    It is first gone through without making objects: msgpack would take memory for as many
    elements as each of many nested lists claims to have.
    """
    import msgpack

    scanner = msgpack.Unpacker(max_buffer_size=max(len(data), 1))
    try:
        scanner.feed(data)
        scanner.skip()
        if scanner.tell() != len(data):
            raise ValueError("more bytes than one object has")
        return msgpack.unpackb(data, raw=False, **options)
    except (msgpack.exceptions.UnpackException, RecursionError) as error:
        raise ValueError(f"{type(error).__name__} {error}") from None


def _check(kind: str, fields: dict[str, Any]) -> None:
    schema = SCHEMAS.get(kind)
    if schema is None:
        raise ProtocolError(f"unknown message type {kind[:64]!r}")
    if fields.keys() != schema.keys():
        raise ProtocolError(f"a '{kind}' message needs exactly {sorted(schema)}, got {sorted(map(str, fields))}")
    for name, allowed in schema.items():
        if type(fields[name]) not in allowed:
            raise ProtocolError(f"'{name}' of a '{kind}' message cannot be {type(fields[name]).__name__}")
        if fields[name] != fields[name]:
            raise ProtocolError(f"'{name}' of a '{kind}' message cannot be NaN")
