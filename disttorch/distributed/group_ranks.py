"""A rank's number among all ranks from its number in a group."""

from __future__ import annotations

from typing import Any

from disttorch.distributed import runtime


def global_rank(group: Any, rank: int) -> int:
    """Return the number among all ranks of rank `rank` of `group`; None is the group of all ranks."""
    translate = getattr(runtime, "get_global_rank", None)
    return rank if group is None or translate is None else int(translate(group, rank))
