"""A key-value store that several processes share, as `torch.distributed.Store`: for finding each other and small facts."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from disttorch.distributed.errors import DistStoreError, QueueEmptyError, StoreTimeout
from disttorch.distributed.store_table import StoreTable


def seconds(timeout: float | timedelta) -> float:
    """Return a time-out in seconds, at most what the system can wait; ValueError unless it is positive and finite."""
    value = timeout.total_seconds() if isinstance(timeout, timedelta) else float(timeout)
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"a time-out must be a positive number of seconds or a timedelta, got {timeout!r}")
    return min(value, threading.TIMEOUT_MAX)


class Store:
    """What all stores can do. Keys are strings, values bytes; a string given as value is encoded as UTF-8.

    Waiting ends with StoreTimeout after `timeout` (seconds or a timedelta); other errors are DistStoreError.
    """

    def __init__(self, timeout: float | timedelta = 300.0) -> None:
        self._timeout = seconds(timeout)

    @property
    def timeout(self) -> timedelta:
        """How long `get`, `wait` and the like wait unless told."""
        return timedelta(seconds=self._timeout)

    def set_timeout(self, timeout: float | timedelta) -> None:
        """Set how long `get`, `wait` and the like wait unless told."""
        self._timeout = seconds(timeout)

    def set(self, key: str, value: str | bytes) -> None:
        """Store `value` under `key`."""
        self._ask("set", [key], value=_as_bytes(value))

    def get(self, key: str) -> bytes:
        """Return the value of `key`, waiting until somebody sets it."""
        value: bytes = self._ask("get", [key], timeout=self.timeout.total_seconds())["value"]
        return value

    def add(self, key: str, amount: int) -> int:
        """Add `amount` to the counter `key`, which begins at 0, and return its new value."""
        total: int = self._ask("add", [key], amount=_as_int(amount))["amount"]
        return total

    def append(self, key: str, value: str | bytes) -> None:
        """Add `value` at the end of the value of `key`, which begins empty."""
        self._ask("append", [key], value=_as_bytes(value))

    def wait(self, keys: Sequence[str], timeout: float | timedelta | None = None) -> None:
        """Wait until all `keys` are set."""
        limit = self.timeout.total_seconds() if timeout is None else seconds(timeout)
        self._ask("wait", _as_keys(keys), timeout=limit)

    def check(self, keys: Sequence[str]) -> bool:
        """Say whether all `keys` are set."""
        return bool(self._ask("check", _as_keys(keys))["amount"])

    def compare_set(self, key: str, expected_value: str | bytes, desired_value: str | bytes) -> bytes:
        """Set `key` if its value is `expected_value`, or if it has none and that is empty; return its value now.

        Where it has none and `expected_value` is not empty, that is what is returned.
        """
        expected, desired = _as_bytes(expected_value), _as_bytes(desired_value)
        value: bytes = self._ask("compare_set", [key], value=desired, expected=expected)["value"]
        return value

    def delete_key(self, key: str) -> bool:
        """Remove `key` and say whether it was there."""
        return bool(self._ask("delete", [key])["amount"])

    def num_keys(self) -> int:
        """Return the number of keys."""
        count: int = self._ask("count", [])["amount"]
        return count

    def list_keys(self) -> list[str]:
        """Return the keys."""
        import msgpack

        keys: list[str] = msgpack.unpackb(self._ask("list", [])["value"])
        return keys

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """Return the values of `keys`, waiting until all are set."""
        self.wait(keys)
        return [self.get(key) for key in keys]

    def multi_set(self, keys: Sequence[str], values: Sequence[str | bytes]) -> None:
        """Store each of `values` under the key at its place."""
        if len(keys) != len(values):
            raise ValueError(f"multi_set needs as many values as keys, got {len(keys)} keys and {len(values)} values")
        for key, value in zip(keys, values):
            self.set(key, value)

    def queue_push(self, key: str, value: str | bytes) -> None:
        """Put `value` at the end of the queue `key`; for `wait` and `check` a key with a queue that holds something is set."""
        self._ask("push", [key], value=_as_bytes(value))

    def queue_pop(self, key: str, block: bool = True) -> bytes:
        """Take the first value out of the queue `key`, waiting for one; with `block=False` QueueEmptyError if it is empty."""
        details = {"timeout": self.timeout.total_seconds()} if block else {}
        value: bytes = self._ask("pop" if block else "take", [key], **details)["value"]
        return value

    def queue_len(self, key: str) -> int:
        """Return how many values the queue `key` holds."""
        length: int = self._ask("length", [key])["amount"]
        return length

    def barrier(self, key: str, world_size: int, timeout: float | timedelta | None = None) -> None:
        """Wait until `world_size` processes have called this with the same `key`, which serves once."""
        if self.add(f"{key}/arrived", 1) >= world_size:
            self.set(f"{key}/complete", b"")
        self.wait([f"{key}/complete"], timeout)

    def has_extended_api(self) -> bool:
        """Say whether `append`, `multi_get` and `multi_set` are there: always."""
        return True

    def clone(self) -> Store:
        """Return a store on the same values, here this one: any thread may use it."""
        return self

    def close(self) -> None:
        """Let go of connections and files, if there are any."""

    def _ask(self, op: str, keys: list[str], **details: Any) -> dict[str, Any]:
        for key in keys:
            if not isinstance(key, str):
                raise TypeError(f"store keys are strings, got {type(key).__name__}")
        request = {
            "op": op,
            "keys": keys,
            "value": b"",
            "expected": b"",
            "amount": 0,
            "timeout": 0.0,
            **details,
        }
        reply = self._request(request)
        if reply["error"] == "timeout":
            raise StoreTimeout(f"store.{op}({', '.join(keys)}): not set within {request['timeout']:g} s")
        if reply["error"] == "empty":
            raise QueueEmptyError(f"the queue {keys[0]!r} is empty")
        if reply["error"]:
            raise DistStoreError(f"store.{op}({', '.join(keys)}): {reply['error']}")
        return reply

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} holds nothing; use HashStore, FileStore or TCPStore")


class HashStore(Store):
    """A store in this process, which its threads share."""

    def __init__(self, timeout: float | timedelta = 300.0) -> None:
        super().__init__(timeout)
        self._table = StoreTable()
        self._changed = threading.Condition()

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def answered() -> bool:
            reply = self._table.answer(request)
            if reply is not None:
                found.append(reply)
            return reply is not None

        with self._changed:
            if not self._changed.wait_for(answered, request["timeout"]):
                return {"value": b"", "amount": 0, "error": "timeout"}
            self._changed.notify_all()
        return found[0]


class PrefixStore(Store):
    """Another store, with `prefix/` in front of every key."""

    def __init__(self, prefix: str, store: Store) -> None:
        if not isinstance(store, Store):
            raise TypeError(f"PrefixStore needs a store, got {type(store).__name__}")
        self._prefix = f"{prefix}/"
        self._store = store

    @property
    def underlying_store(self) -> Store:
        """The store that holds the values."""
        return self._store

    @property
    def timeout(self) -> timedelta:
        """How long `get`, `wait` and the like wait unless told: the underlying store's."""
        return self._store.timeout

    def set_timeout(self, timeout: float | timedelta) -> None:
        """Set how long `get`, `wait` and the like wait unless told, in the underlying store too."""
        self._store.set_timeout(timeout)

    def num_keys(self) -> int:
        """Return the number of keys of the underlying store, those with other prefixes too."""
        return self._store.num_keys()

    def list_keys(self) -> list[str]:
        """Return the keys with this prefix, without it."""
        start = len(self._prefix)
        return [key[start:] for key in self._store.list_keys() if key.startswith(self._prefix)]

    def clone(self) -> Store:
        """Return a store on the same values with the same prefix."""
        return PrefixStore(self._prefix[:-1], self._store.clone())

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._store._request({**request, "keys": [self._prefix + key for key in request["keys"]]})


def _as_bytes(value: str | bytes) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"store values are str or bytes, got {type(value).__name__}")


def _as_int(amount: int) -> int:
    try:
        return amount.__index__()
    except AttributeError:
        raise TypeError(f"store.add takes an integer, got {type(amount).__name__}") from None


def _as_keys(keys: Sequence[str]) -> list[str]:
    if isinstance(keys, str):
        raise TypeError(f"expected a list of keys, got the string {keys!r}")
    return list(keys)
