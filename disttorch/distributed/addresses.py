"""Whether a host name means this host."""

from __future__ import annotations

import contextlib
import socket


def is_local(host: str) -> bool:
    """Say whether `host`, a name or an address, is this host."""
    if host in ("localhost", "127.0.0.1", "::1", socket.gethostname()):
        return True
    try:
        found = {(family, address[0]) for family, _, _, _, address in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return any(_is_own(family, str(address)) for family, address in found)


def check_local(host: str) -> None:
    """Raise ValueError unless `host` is this host."""
    if not is_local(host):
        raise ValueError(
            f"{host!r} is not this host; without a launcher processes meet on one host only, "
            "for several start the script with disttorch-run on each"
        )


def _is_own(family: int, address: str) -> bool:
    """Say whether a socket can have this address, which only one of this host's can."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return address not in ("0.0.0.0", "::")
    return False
