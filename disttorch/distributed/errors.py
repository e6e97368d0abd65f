"""What distributed code raises."""

from __future__ import annotations


class DistError(RuntimeError):
    """Base class of the errors of `disttorch.distributed`."""


class PeerFailed(DistError):  # noqa: N818 - what happened, not what went wrong here
    """Another rank stopped, so this one cannot go on.

    Attributes: `rank` (the culprit's), `reason` (one sentence) and `traceback` (the culprit's own,
    or "").
    """

    def __init__(self, rank: int, reason: str, traceback: str = "") -> None:
        super().__init__(rank, reason, traceback)
        self.rank = rank
        self.reason = reason
        self.traceback = traceback

    def __str__(self) -> str:
        text = f"rank {self.rank} {self.reason}"
        return f"{text}\n\n{self.traceback}" if self.traceback else text


class CollectiveMismatch(DistError):  # noqa: N818
    """The ranks called different collectives, or the same one with different shapes or dtypes."""


class CollectiveTimeout(DistError, TimeoutError):  # noqa: N818
    """A rank did not come to a collective within the time-out."""


class DistStoreError(DistError):
    """A store refused a request or did not have what was asked for."""


class DistNetworkError(DistError):
    """Another process cannot be reached, or is gone."""


class QueueEmptyError(DistStoreError):
    """A queue of a store was empty, and the caller did not want to wait."""


class StoreTimeout(DistStoreError, TimeoutError):  # noqa: N818
    """A key was not set within the time-out."""


class ProtocolError(DistError):
    """A message from another process does not follow the wire format."""
