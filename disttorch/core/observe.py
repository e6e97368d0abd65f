"""Who watches how long backward passes, optimizer steps and loading take: nobody, unless a trace is recorded.

`disttorch.distributed.trace` sets `observer`. What can be watched looks whether it is None, and if
it is not, calls it when it is done: `observer(name, start, end, category)`, times from
`time.monotonic_ns()`.
"""

from __future__ import annotations

from collections.abc import Callable

observer: Callable[[str, int, int, str], None] | None = None
