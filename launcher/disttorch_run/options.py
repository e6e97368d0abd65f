"""What a run of `disttorch-run` is asked to do."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from disttorch_run.output import Logs
from disttorch_run.placement import Placement


def say(text: str) -> None:
    """Print one message to standard error; a run does not end because nobody reads it."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@dataclass
class Options:
    """What to run: `command` as `disttorch_run.worker` takes it, and one placement per worker.

    port: the store's (0: any); label: the run's name, in TORCHELASTIC_RUN_ID; role: the workers',
    in ROLE_NAME; max_restarts: how often all workers are started again after one has failed;
    grace: seconds that workers have to end after a signal or a failure; timeout: of a collective;
    virtual_local_rank: LOCAL_RANK is 0 everywhere; signals: which are passed on to the workers;
    status: whether to show how far the ranks are (None: on a terminal); status_seconds: how often
    without a terminal; dashboard: port of a page that shows it (0: any; None: no page);
    trace: file for a trace of all ranks, or None; limit: seconds after which the run is ended (None: never); say: prints one message.
    """

    command: list[str]
    placements: list[Placement]
    port: int = 0
    label: str = field(default_factory=lambda: str(uuid.uuid4()))
    role: str = "default"
    max_restarts: int = 0
    grace: float = 30.0
    timeout: float = 600.0
    oversubscribed: bool = False
    virtual_local_rank: bool = False
    signals: tuple[signal.Signals, ...] = SIGNALS
    logs: Logs = field(default_factory=Logs)
    status: bool | None = False
    status_seconds: float = 10.0
    dashboard: int | None = None
    trace: Path | None = None
    limit: float | None = None
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    say: Callable[[str], None] = say
