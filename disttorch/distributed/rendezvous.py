"""How ranks that no launcher has started come to a common store: `tcp://`, `file://` and `env://`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from disttorch.distributed.errors import DistNetworkError
from disttorch.distributed.meeting import MeetingLink, join
from disttorch.distributed.store import Store, seconds
from disttorch.distributed.store_client import TCPStore
from disttorch.distributed.store_file import FileStore

DEFAULT_SECONDS = 300.0
Handler = Callable[..., Iterator[tuple[Store, int, int]]]

_handlers: dict[str, Handler] = {}


def register_rendezvous_handler(scheme: str, handler: Handler) -> None:
    """Let `handler(url, **options)`, which yields (store, rank, world_size), serve URLs that begin with `scheme://`."""
    if scheme in _handlers:
        raise RuntimeError(f"there is a rendezvous handler for {scheme}:// already")
    _handlers[scheme] = handler


def rendezvous(url: str, rank: int = -1, world_size: int = -1, **options: Any) -> Iterator[tuple[Store, int, int]]:
    """Return an iterator whose next item is (store, rank, world_size).

    url: `tcp://HOST:PORT` (rank 0 serves the store there), `file:///PATH`, `env://` (MASTER_ADDR and MASTER_PORT) or one
    of a registered handler. rank, world_size: if not given they come from the URL (`?rank=0&world_size=2`) or, with
    `env://`, from RANK and WORLD_SIZE. timeout: of the store, in seconds or a timedelta.
    """
    if not isinstance(url, str):
        raise RuntimeError(f"the URL of a rendezvous is a string, got {type(url).__name__}")
    parts = urlsplit(url)
    handler = _handlers.get(parts.scheme)
    if handler is None:
        raise RuntimeError(f"No rendezvous handler for {parts.scheme}://; use tcp://HOST:PORT, file:///PATH or env://")
    given = {name: value for name, value in (("rank", rank), ("world_size", world_size)) if value != -1}
    said = dict(parse_qsl(parts.query))
    if given.keys() & said.keys():
        raise ValueError(f"{url} says what {' and '.join(given)} shall be, and so do the arguments; give one of them")
    query = "&".join(f"{name}={value}" for name, value in {**said, **given}.items())
    return handler(parts._replace(query=query).geturl(), **options)


def is_alone(rank: int, world_size: int) -> bool:
    """Say whether the arguments of `init_process_group`, or else the environment, speak of one rank."""
    if world_size == -1:
        world_size, rank = (int(os.environ.get(name) or -1) for name in ("WORLD_SIZE", "RANK"))
    return world_size == 1 and rank in (-1, 0)


def meet(
    init_method: str | None, rank: int, world_size: int, store: Store | None, timeout: float | timedelta | None
) -> tuple[Store, MeetingLink]:
    """Bring the ranks together without a launcher; return their store and this rank's line to the others.

    Arguments as for `init_process_group`.
    """
    limit = DEFAULT_SECONDS if timeout is None else seconds(timeout)
    if store is not None:
        if rank < 0 or world_size < 1:
            raise ValueError(f"init_process_group with a store needs rank and world_size, got {rank} and {world_size}")
        return store, _join(store, rank, world_size, limit)
    deadline = time.monotonic() + limit
    while True:
        store, own, size = next(rendezvous(init_method or "env://", rank, world_size, timeout=limit))
        try:
            return store, _join(store, own, size, limit)
        except BaseException as error:
            store.close()
            # The store of a group that rank 0 has left meanwhile: the next one will be at the same place.
            if not (isinstance(error, DistNetworkError) and own > 0 and time.monotonic() < deadline):
                raise
        time.sleep(0.05)


def _join(store: Store, rank: int, world_size: int, limit: float) -> MeetingLink:
    _check_rank(rank, world_size)
    return join(store, rank, world_size, limit)


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be from 0 to world_size - 1, got rank={rank}, world_size={world_size}")


def _numbers(url: str, *names: str) -> list[int]:
    query = dict(parse_qsl(urlsplit(url).query))
    missing = [name for name in names if name not in query]
    if missing:
        raise ValueError(
            f"Error initializing process group with {url.partition('?')[0]}: {' and '.join(missing)} missing; "
            "pass init_process_group(rank=..., world_size=...)"
        )
    return [int(query[name]) for name in names]


def _tcp(url: str, timeout: float | timedelta = DEFAULT_SECONDS, **_: Any) -> Iterator[tuple[Store, int, int]]:
    parts = urlsplit(url)
    if not parts.hostname or parts.port is None:
        raise ValueError(f"{url}: expected tcp://HOST:PORT")
    rank, size = _numbers(url, "rank", "world_size")
    yield _at_port(parts.hostname, parts.port, rank, size, timeout), rank, size


def _env(url: str, timeout: float | timedelta = DEFAULT_SECONDS, **_: Any) -> Iterator[tuple[Store, int, int]]:
    query = dict(parse_qsl(urlsplit(url).query))
    rank, size, port = (int(_variable(name, query.get(name.lower()))) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    yield _at_port(_variable("MASTER_ADDR"), port, rank, size, timeout), rank, size


def _variable(name: str, value: str | None = None) -> str:
    value = value or os.environ.get(name)
    if not value:
        raise ValueError(
            f"Error initializing process group: {name} is not set. Start the script with `disttorch-run "
            "--nproc-per-node N script.py` or its function with disttorch.multiprocessing.spawn, or set RANK, WORLD_SIZE, "
            "MASTER_ADDR and MASTER_PORT for every process"
        )
    return value


def _at_port(host: str, port: int, rank: int, size: int, timeout: float | timedelta) -> Store:
    _check_rank(rank, size)
    master = rank == 0
    return TCPStore(host, port, size, master, timeout, wait_for_workers=False, multi_tenant=master)


def _file(url: str, timeout: float | timedelta = DEFAULT_SECONDS, **_: Any) -> Iterator[tuple[Store, int, int]]:
    path = urlsplit(url).path
    if not path:
        raise ValueError(f"{url}: expected file:///PATH")
    rank, size = _numbers(url, "rank", "world_size")
    _check_rank(rank, size)
    yield FileStore(path, size, timeout), rank, size


for _scheme, _handler in (("tcp", _tcp), ("env", _env), ("file", _file)):
    register_rendezvous_handler(_scheme, _handler)
