"""How wide the vectors of compiled loops are (imports Numba: load lazily)."""

from __future__ import annotations

from typing import Any

from llvmlite.binding import get_host_cpu_name
from numba import extending, types

_intrinsic: Any = extending.intrinsic
# Intel's processors that lower their clock while they work on 512 bits, for other code as well.
_CLOCKED_DOWN = frozenset({"skylake-avx512", "cascadelake", "cooperlake"})
_WIDE = '"prefer-vector-width"="512"'


@_intrinsic
def wide_vectors(_typing: Any) -> Any:
    """Let LLVM use vectors of 512 bits for the loops of the function that calls this, where the processor has them.

    On processors of Intel LLVM takes 256 bits unless a function says otherwise. With 512 a store fills a whole line of the
    cache, so that fewer stores wait for lines that another core holds, and twice as much is computed at a time. A function
    that is inlined takes the width of the one that it becomes a part of. Results stay the same, but for sums whose order is
    left to LLVM.

    Source: LLVM's function attribute prefer-vector-width, which Clang sets for -mprefer-vector-width.
    """

    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        if get_host_cpu_name() not in _CLOCKED_DOWN:
            set.add(builder.function.attributes, _WIDE)  # llvmlite's own add takes attributes without a value only
        return context.get_dummy_value()

    return types.none(), codegen
