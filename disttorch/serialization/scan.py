"""Which classes and functions a pickle names, found without loading it."""

from __future__ import annotations

import pickletools
from pickle import UnpicklingError
from typing import Any

from disttorch.serialization.globals import full_name


def names_in_pickle(data: bytes) -> set[str]:
    """Return the full names of all that a pickle names; UnpicklingError if it is damaged."""
    names = set()
    texts: list[str] = []  # the last two on the stack, as a pickle of protocol 4 has them before STACK_GLOBAL
    memo: dict[int, str] = {}
    try:
        argument: Any
        for opcode, argument, _ in pickletools.genops(data):
            kind = opcode.name
            if kind == "GLOBAL":
                names.add(full_name(*argument.split(" ", 1)))
            elif kind == "STACK_GLOBAL":
                names.add(full_name(*texts[-2:]))
            elif kind.endswith("UNICODE"):
                texts.append(argument)
            elif kind == "MEMOIZE":
                memo[len(memo)] = texts[-1] if texts else ""
            elif kind in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = texts[-1] if texts else ""
            elif kind in ("BINGET", "LONG_BINGET"):
                texts.append(memo[argument])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UnpicklingError(f"the pickle is damaged: {error}") from None
    return names
