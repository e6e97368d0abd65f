"""How reductions combine the ranks' values."""

from __future__ import annotations

from enum import Enum
from typing import Any

from disttorch.distributed.reduction import check_reducible


class ReduceOp(Enum):
    """SUM; AVG, the sum divided by the number of ranks; PRODUCT; MIN; MAX; BAND, BOR, BXOR on the bits of integers."""

    SUM = "SUM"
    AVG = "AVG"
    PRODUCT = "PRODUCT"
    MIN = "MIN"
    MAX = "MAX"
    BAND = "BAND"
    BOR = "BOR"
    BXOR = "BXOR"


class _ReduceOp:
    """`reduce_op.SUM` and so on: the old spelling of `ReduceOp`."""

    SUM, PRODUCT, MIN, MAX = ReduceOp.SUM, ReduceOp.PRODUCT, ReduceOp.MIN, ReduceOp.MAX


reduce_op = _ReduceOp()


def checked(op: Any, dtype: Any, name: str) -> str:
    """Return the name of `op`; TypeError unless it is a ReduceOp that is defined for `dtype`."""
    if not isinstance(op, ReduceOp):
        raise TypeError(f"{name}: op must be a ReduceOp, got {op!r}")
    check_reducible(op.value, dtype)
    return op.value
