"""Scripts with several ranks, written for PyTorch, print the same under PyTorch and under disttorch."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import disttorch

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

SCRIPTS = Path(__file__).parents[1] / "scripts" / "ranks"
ROOT = Path(disttorch.__file__).parents[1]
NUMBER = re.compile(r"-?\d+\.\d+")
RANK = re.compile(r"^\[rank\d\] ?", re.MULTILINE)
SECONDS = 240


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def output(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "launcher")]),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "",
        },
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return "\n".join(sorted(RANK.sub("", done.stdout).splitlines()))  # the ranks write when they can


def output_of_torch(*command: str) -> str:
    """Return what PyTorch's ranks print; Gloo's threads now and then abort one that has come to its end: then again."""
    for _ in range(3):
        try:
            return output(*command)
        except AssertionError as error:
            if "terminate called without an active exception" not in str(error):
                raise
            failure = error
    raise failure


def check(ours: str, theirs: str) -> None:
    assert NUMBER.sub("", ours) == NUMBER.sub("", theirs)
    found = [float(x) for x in NUMBER.findall(ours)]
    assert len(found) > 5
    assert found == pytest.approx([float(x) for x in NUMBER.findall(theirs)], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", ["ddp_spawn", "messages"])
def test_ranks_that_the_script_starts(name: str) -> None:
    script = str(SCRIPTS / f"{name}.py")
    check(output("-m", "disttorch", script, free_port()), output_of_torch(script, free_port()))


def test_ranks_that_the_launcher_starts(tmp_path: Path) -> None:
    script = str(SCRIPTS / "elastic.py")
    theirs = output_of_torch(
        *("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()),
        *(script, str(tmp_path / "theirs.pt")),
    )
    ours = output(
        *("-m", "disttorch_run", "--nproc-per-node", "2", "--oversubscribe", "-m", "disttorch"),
        *(script, str(tmp_path / "ours.pt")),
    )
    check(ours, theirs)
