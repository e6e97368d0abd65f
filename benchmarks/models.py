"""One training step of each of the networks: forward, loss, backward, update."""

from __future__ import annotations

from types import ModuleType

from benchmarks.timing import Case

READING_SECONDS = 0.2


def cases(torch: ModuleType) -> dict[str, Case]:
    """Return the cases, built with `torch` or with disttorch in its place."""
    # Imported late: by then `disttorch` means the library that is timed.
    from benchmarks.networks import networks

    built = {}
    for name, network in networks(torch).items():
        torch.manual_seed(0)
        step = network.step(network.build(), network.size)
        built[f"{name}, batch {network.size}"] = Case("step()", {"step": step})
    return built
