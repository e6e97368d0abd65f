"""The script that the failure matrix runs: `struck.py STATE FAULT`. Rank 1 fails in a given state; the others go on.

What happens is written into files of the current folder: `struck` holds the time of the fault, `caughtN` which rank
PeerFailed named on rank N.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CULPRIT = 1
LARGE = 300_000


def strike(fault: str = "") -> None:
    """Be the fault that was asked for, once."""
    if Path("struck").exists():
        return
    note("struck", str(time.monotonic()))
    fault = fault or sys.argv[2]
    if fault == "raise":
        raise ValueError("struck")
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "close":
        close_sockets(lambda number: number == AGENT_FD)
    elif fault == "cut":
        close_sockets(lambda number: number != AGENT_FD)
    else:
        wait_for_the_end()


def wait_for_the_end() -> None:
    """Sleep, but not in the way of a run that ends, as a rank's communication thread does."""
    from disttorch.distributed import agent_link

    until = time.monotonic() + 60
    while time.monotonic() < until and getattr(agent_link._link, "failure", None) is None:
        time.sleep(0.05)


AGENT_FD = int(os.environ.get("DISTTORCH_AGENT_FD", "-1"))


def close_sockets(which: Callable[[int], bool]) -> None:
    """Close this process's sockets that `which` picks, under the feet of those who use them, and do nothing more."""
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}").startswith("socket:") and which(int(entry)):
                os.close(int(entry))
        except OSError:
            continue
    if sys.argv[1] != "start":
        time.sleep(5)


def note(name: str, text: str) -> None:
    Path(f"{name}.tmp").write_text(text)
    os.rename(f"{name}.tmp", name)


def strike_at(owner: Any, names: list[str], call: int) -> None:
    """Make the given call of one of the methods `names` of `owner` the place of the fault."""
    calls = 0

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def method(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                strike()
            return original(*arguments, **named)

        return method

    for name in names:
        setattr(owner, name, wrapped(getattr(owner, name)))


class Samples:
    """A data set in which getting sample 5 is the place of the fault."""

    def __init__(self, struck: bool) -> None:
        self.struck, self.fault = struck, sys.argv[2]  # the loader's process has other arguments

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> float:
        if index == 5 and self.struck:
            strike(self.fault)
        return float(index)


def run(state: str, culprit: bool) -> None:
    """Come into the state, and fail there if this is the culprit."""
    import numpy as np

    import disttorch as torch
    import disttorch.distributed as dist
    from disttorch.distributed import agent_link
    from disttorch.distributed.messages import MessageTransport
    from disttorch.distributed.phases import Phases
    from disttorch.distributed.runtime import default
    from disttorch.utils.data import DataLoader

    if culprit and state == "start":
        strike()
    if culprit and state == "exit":
        atexit.register(strike)
    if culprit and state == "joining":
        strike_at(agent_link.AgentLink, ["segment"], 1)
    dist.init_process_group()
    dist.barrier()
    transport = default(None).transport
    # Within a host the steps of the hierarchical transport are those of shared memory.
    memory = not isinstance(transport, MessageTransport)
    stepper, steps = (Phases, ["advance"]) if memory else (MessageTransport, ["share", "exchange"])
    if state == "before publishing":
        if culprit:
            strike_at(transport, ["publish"], 1)
        dist.all_reduce(np.ones(3))
    elif state == "before the first step":
        if culprit:
            strike_at(stepper, steps, 1)
        dist.all_reduce(np.ones(3))
    elif state in ("between steps", "asynchronous"):
        if culprit:
            strike_at(stepper, steps, 4)
        # Integers: the loop of large sums of floating-point numbers is compiled and has no place to strike at.
        work = dist.all_reduce(np.ones(LARGE, np.int64), async_op=state == "asynchronous")
        if work is not None:
            work.wait()
    elif state == "at the end of a collective":
        if culprit:
            strike_at(transport, ["end"], 1)
        dist.all_reduce(np.ones(3))
    elif state == "between collectives":
        dist.all_reduce(np.ones(3))
        if culprit:
            strike()
    elif state == "backward":
        model = torch.nn.parallel.DistributedDataParallel(
            torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Tanh())
        )
        model(torch.ones(2, 300, requires_grad=True)).sum().backward()  # compiles what is not in Numba's cache
        hidden = model(torch.ones(2, 300, requires_grad=True))
        if culprit:
            hidden.register_hook(lambda grad: strike())
        hidden.sum().backward()
    elif state == "loading":
        for _ in DataLoader(Samples(culprit), batch_size=2):
            dist.barrier()
    elif state == "loading in a process":
        for _ in DataLoader(Samples(culprit), batch_size=2, num_workers=1):
            dist.barrier()
    elif state == "saving":
        if culprit:
            strike_at(os, ["fsync"], 1)
        torch.save({"weight": torch.ones(100)}, f"checkpoint{dist.get_rank()}")
    if state != "exit":
        dist.barrier()


def main() -> None:
    """Run, and note whom PeerFailed names."""
    from disttorch.distributed import PeerFailed

    rank = int(os.environ["RANK"])
    try:
        run(sys.argv[1], rank == CULPRIT)
    except PeerFailed as error:
        note(f"caught{rank}", str(error.rank))
        raise


if __name__ == "__main__":
    main()
