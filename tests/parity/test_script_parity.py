"""Scripts written for PyTorch print the same under PyTorch and under `python -m disttorch`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import disttorch

pytest.importorskip("torch")
pytestmark = pytest.mark.parity

SCRIPTS = Path(__file__).parents[1] / "scripts"
NUMBER = re.compile(r"\d+\.\d+")


def output(script: Path, folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(disttorch.__file__).parents[1])},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(p.stem for p in SCRIPTS.glob("*.py") if p.stem != "conftest"))
def test_script_prints_what_it_prints_under_torch(name: str, tmp_path: Path) -> None:
    theirs = output(SCRIPTS / f"{name}.py", tmp_path)
    ours = output(SCRIPTS / f"{name}.py", tmp_path, "-m", "disttorch")
    assert NUMBER.sub("", ours) == NUMBER.sub("", theirs)
    found = [float(x) for x in NUMBER.findall(ours)]
    assert found == pytest.approx([float(x) for x in NUMBER.findall(theirs)], rel=1e-4, abs=1e-4)
