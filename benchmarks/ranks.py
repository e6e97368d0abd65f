"""Starts the ranks of a benchmark, all on the same cores whoever starts them, and fetches their result."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare import WorkerError, environment, run_command

ANSWER = "answer.json"  # what rank 0 writes into the folder that it is given
MEETING = "meeting"  # the file in that folder over which PyTorch's ranks find each other


def run_ranks(
    module: str, arguments: Sequence[str], ranks: int, what: str, bytecode: str, mpi: bool = False, **variables: str
) -> Any:
    """Run `python -m module --folder FOLDER *arguments` on every rank and return what rank 0 wrote as JSON.

    Each rank has a core of its own and one thread; if there are fewer cores than ranks, nobody is pinned.

    Args:
        module: what to run.
        arguments: of the module.
        ranks: how many processes.
        what: what is being measured, for messages.
        bytecode: a folder for compiled modules.
        mpi: start them with the `mpich` wheel's mpiexec rather than with disttorch-run.
        variables: for their environment.

    Raises:
        WorkerError: a rank failed, or there is no result.
    """
    start = [str(mpiexec()), "-n", str(ranks), "-bind-to", "none", sys.executable]
    if not mpi:
        start = [sys.executable, "-m", "disttorch_run", "--nproc-per-node", str(ranks), "--oversubscribe"]
    with tempfile.TemporaryDirectory() as folder, own_cores(ranks):
        command = [*start, "-m", module, "--folder", folder, *arguments]
        run_command(command, f"{what} on {ranks} ranks", environment(1, bytecode) | variables)
        answer = Path(folder) / ANSWER
        if not answer.exists():
            raise WorkerError(f"the benchmark of {what} on {ranks} ranks ended without a result")
        return json.loads(answer.read_text())


@contextlib.contextmanager
def own_cores(ranks: int) -> Iterator[None]:
    """Leave this process and those it starts as many cores as there are ranks, if there are as many."""
    before = os.sched_getaffinity(0)
    if ranks <= len(before):
        os.sched_setaffinity(0, sorted(before)[:ranks])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def mpiexec() -> Path | None:
    """Return the mpiexec of the `mpich` wheel, or None if it or mpi4py is not installed."""
    if importlib.util.find_spec("mpi4py") is None:
        return None
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).resolve() for file in files if file.name == "mpiexec"), None)


def write_answer(folder: Path, answer: Any) -> None:
    """Write the result, as rank 0."""
    (folder / ANSWER).write_text(json.dumps(answer))
