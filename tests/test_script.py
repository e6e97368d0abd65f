"""`python -m disttorch`: scripts written for PyTorch run unchanged, as Python itself would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import disttorch

ROOT = Path(disttorch.__file__).parents[1]
SCRIPTS = Path(__file__).parent / "scripts"
SECONDS = 120


def run(*arguments: Any, cwd: Path, module: str = "disttorch", **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "launcher")])
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "", **variables},  # a line is one write
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )


def printed(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def losses(lines: list[str]) -> list[float]:
    return [float(found[1]) for line in lines if (found := re.search(r"loss ([\d.]+)", line))]


# -- whole scripts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(p.stem for p in SCRIPTS.glob("*.py") if p.stem != "conftest"))
def test_script_trains(name: str, tmp_path: Path) -> None:
    found = losses(printed(run(SCRIPTS / f"{name}.py", cwd=tmp_path)))
    assert len(found) >= 2
    assert found[-1] < found[0]


def test_arguments_reach_the_script(tmp_path: Path) -> None:
    lines = printed(run(SCRIPTS / "regression.py", "--epochs", "3", "--hidden=4", cwd=tmp_path))
    assert len(losses(lines)) == 3


# -- the same modules -----------------------------------------------------------------------------------------------

SAME = """
import sys
import torch, disttorch
import torch.nn as nn, torch.nn.functional as F, torch.utils.data, torch.optim.lr_scheduler, torch.distributed as dist
import torch.backends.cudnn as cudnn, torch.autograd.functional, torch.func
from torch import nn as again, optim, Tensor
from torch.utils.data import DataLoader
from torch.autograd import Variable
from torch.nn.modules.linear import Linear
from torch.nn.parameter import Parameter

assert torch is disttorch and nn is disttorch.nn is again and F is disttorch.nn.functional
assert Linear is disttorch.nn.Linear and isinstance(nn.Linear(1, 1).weight, Tensor) and dist is disttorch.distributed
assert sys.modules["torch.nn"] is nn and "torch._C" not in sys.modules
assert torch.__spec__.name == torch.__name__ == "disttorch" and nn.__spec__.name == "disttorch.nn"
import importlib
assert importlib.import_module("torch.nn.init") is nn.init
"""


def test_the_modules_are_those_of_disttorch(tmp_path: Path) -> None:
    write(tmp_path, same=SAME)
    printed(run("same.py", cwd=tmp_path))


def test_torch_is_disttorch_in_that_process_only() -> None:
    assert getattr(sys.modules.get("torch"), "__name__", "torch") == "torch"


MISSING = """
def refused(line):
    try:
        exec(line)
    except ImportError as error:
        print(f"{type(error).__name__} {error.name} {error}")

refused("import torch.jit")
refused("import torch.optim.lr_schedular")
refused("from torch.nn.functional import rellu")
refused("from torch import nn, Tensr")
refused("from torch.onnx import export")
try:
    import torch._dynamo
except ImportError:
    print("optional")
"""


def test_what_is_not_there_is_an_import_error_that_says_so(tmp_path: Path) -> None:
    write(tmp_path, missing=MISSING)
    jit, schedule, relu, tensor, onnx, optional = printed(run("missing.py", cwd=tmp_path))
    assert jit.startswith(
        "ModuleNotFoundError torch.jit No module named 'torch.jit': torch.jit is not in disttorch; there is"
    )
    assert schedule.endswith("it is not in disttorch; the nearest that is: torch.optim.lr_scheduler")
    assert relu.startswith("ImportError disttorch.nn.functional cannot import name 'rellu'")
    assert relu.endswith("the nearest that is: torch.nn.functional.relu")
    assert tensor.endswith("the nearest that is: torch.Tensor")
    assert "torch.onnx is not in disttorch" in onnx
    assert optional == "optional"


# -- as Python runs a script ------------------------------------------------------------------------------------------

ABOUT = """
import sys, torch
print([__name__, __file__, __package__, sys.argv, sys.path[0], __spec__ is None, sys.modules["__main__"].__file__])
print(sys.modules["__main__"].__dict__ is globals(), __builtins__ is __import__("builtins"), __doc__)
"""


def plain(*arguments: str, cwd: Path) -> list[str]:
    code = "import sys; sys.modules['torch'] = sys"  # Python itself needs no torch for this
    (cwd / "sitecustomize.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(cwd)},
        capture_output=True,
        encoding="utf-8",
    )
    return printed(done)


@pytest.mark.parametrize("script", ["sub/about.py", "./sub/../about.py"])
def test_names_are_those_that_python_sets(script: str, tmp_path: Path) -> None:
    write(tmp_path, about=ABOUT, sub__about=ABOUT)
    assert printed(run(script, "-m", "x", "--y=1", cwd=tmp_path)) == plain(script, "-m", "x", "--y=1", cwd=tmp_path)


def test_a_module_and_a_folder_run_too(tmp_path: Path) -> None:
    text = "import sys, torch\nprint(__name__, __package__, sys.argv[1:], torch.__name__)"
    (tmp_path / "package").mkdir()
    for name in ("__main__", "part"):
        (tmp_path / "package" / f"{name}.py").write_text(text, encoding="utf-8")
    assert printed(run("-m", "package.part", "-m", "a", cwd=tmp_path)) == ["__main__ package ['-m', 'a'] disttorch"]
    assert printed(run("package", "a", cwd=tmp_path)) == ["__main__  ['a'] disttorch"]


@pytest.mark.parametrize(
    ("text", "code", "last"),
    [
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit('so it ends')", 1, "so it ends"),
        ("def f():\n    return 1 / 0\n\nf()\n", 1, "ZeroDivisionError: division by zero"),
        ("raise KeyboardInterrupt", -2, "KeyboardInterrupt"),
        ("x = = 1", 1, "SyntaxError: invalid syntax"),
    ],
)
def test_exit_codes_and_tracebacks_are_those_of_python(text: str, code: int, last: str, tmp_path: Path) -> None:
    write(tmp_path, script=text)
    done = run("script.py", cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr.rstrip().endswith(last)
    assert "disttorch" not in done.stderr
    assert "runpy" not in done.stderr
    expected = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.stderr == expected.stderr


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    done = run("no.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "can't open file" in done.stderr
    assert run(cwd=tmp_path).returncode == 2


# -- the processes that it starts -------------------------------------------------------------------------------------

SET = """
import os
import torch

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        assert torch.__name__ == "disttorch"
        return torch.tensor([i, os.getpid()])
"""

LOADING = """
import os, sys, threading, time
import torch
from numbers_of_workers import Numbers

if __name__ == "__main__":
    method = sys.argv[1]
    if method == "server":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    context = None if method in ("fork", "server") else method
    loader = torch.utils.data.DataLoader(Numbers(), batch_size=2, num_workers=1, multiprocessing_context=context)
    rows = torch.cat(list(loader))
    print(rows[:, 0].tolist(), os.getpid() in rows[:, 1].tolist())
"""


@pytest.mark.parametrize("method", ["fork", "server", "spawn", "forkserver"])
def test_loader_workers_import_torch(method: str, tmp_path: Path) -> None:
    write(tmp_path, numbers_of_workers=SET, loading=LOADING)
    assert printed(run("loading.py", method, cwd=tmp_path)) == ["[0, 1, 2, 3] False"]


RANKS = """
import sys
import torch
import torch.distributed as dist

dist.init_process_group()
x = torch.ones(2) * dist.get_rank()
dist.all_reduce(x)
print(x.tolist(), sys.argv[1:])
if "fail" in sys.argv:
    raise ValueError("as asked")
"""


def test_the_launcher_runs_scripts_for_torch(tmp_path: Path) -> None:
    write(tmp_path, ranks=RANKS)
    options = ["--nproc-per-node", "2", "--oversubscribe", "-m", "disttorch", "ranks.py"]
    lines = printed(run(*options, "a", cwd=tmp_path, module="disttorch_run"))
    assert [line.endswith("[1.0, 1.0] ['a']") for line in lines] == [True, True]
    done = run(*options, "fail", cwd=tmp_path, module="disttorch_run")
    assert done.returncode == 1
    assert 'ranks.py", line 11, in <module>' in done.stderr
    assert "_script.py" not in done.stderr
