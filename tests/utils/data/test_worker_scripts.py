"""Whole scripts with workers: no main guard, Ctrl-C, the end of the script, its sudden death."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PREFIX = """
import collections, os, signal, sys, threading, time, warnings
import disttorch as torch
from disttorch.utils.data import DataLoader, Dataset, TensorDataset

warnings.filterwarnings("ignore", "This DataLoader will create")
print("begin", flush=True)
if {threads}:
    threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()

Point = collections.namedtuple("Point", "x y")
scale = torch.tensor(10)

class Mine(Dataset):
    def __init__(self, delay=0.0):
        self.delay = delay
        self.transform = lambda x: x * scale
    def __len__(self):
        return 8
    def __getitem__(self, index):
        time.sleep(self.delay)
        return Point(self.transform(torch.tensor(index)), index)

class MineError(Exception):
    pass
"""


@contextlib.contextmanager
def _script(text, tmp_path, threads):
    path = tmp_path / "script.py"
    path.write_text(PREFIX.format(threads=threads) + text)
    process = subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _run(text, tmp_path, threads=False):
    with _script(text, tmp_path, threads) as process:
        out, err = process.communicate(timeout=60)
        assert _gone(process.pid), "processes of the script's session are left"
        return process.returncode, out.splitlines(), err


def _session(leader):
    """Return the running processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    found.append(int(entry.name))
    return found


def _gone(leader, seconds=20.0):
    end = time.monotonic() + seconds
    while _session(leader):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


starts = pytest.mark.parametrize("threads", [False, True], ids=["fork", "server"])


@starts
def test_scripts_need_no_main_guard(tmp_path, threads):
    code, out, err = _run(
        """
for epoch in range(2):
    for batch in DataLoader(Mine(), batch_size=4, num_workers=2):
        print(type(batch) is Point, batch.x.tolist(), batch.y.tolist())
""",
        tmp_path,
        threads,
    )
    assert (code, err) == (0, "")
    assert out == ["begin", *["True [0, 10, 20, 30] [0, 1, 2, 3]", "True [40, 50, 60, 70] [4, 5, 6, 7]"] * 2]


@starts
def test_errors_of_the_script_come_back_as_they_are(tmp_path, threads):
    code, out, err = _run(
        """
class Broken(Mine):
    def __getitem__(self, index):
        raise MineError("sample", index)
try:
    list(DataLoader(Broken(), num_workers=1))
except MineError as error:
    print(error.args, flush=True)
    raise
""",
        tmp_path,
        threads,
    )
    assert code == 1
    assert out == ["begin", "('sample', 0)"]
    assert "Caught MineError in DataLoader worker process 0 (sample 0, worker 0, batch 0, epoch 0)" in err
    assert "The above exception was the direct cause" in err


@starts
@pytest.mark.parametrize("options", ["", ", persistent_workers=True"], ids=["", "persistent"])
def test_the_end_of_the_script_ends_its_workers(tmp_path, threads, options):
    begin = time.monotonic()
    code, out, err = _run(
        f"""
loader = DataLoader(Mine(0.02), num_workers=2{options})
list(loader)
iterator = iter(loader)
next(iterator)
print("end", flush=True)
""",
        tmp_path,
        threads,
    )
    assert (code, out, err) == (0, ["begin", "end"], "")
    assert time.monotonic() - begin < 40


@starts
def test_an_error_in_the_loop_ends_the_workers(tmp_path, threads):
    code, _, err = _run(
        """
for batch in DataLoader(Mine(0.02), num_workers=2):
    raise ValueError("the user's own")
""",
        tmp_path,
        threads,
    )
    assert code == 1
    assert err.count("Traceback") == 1
    assert err.endswith("ValueError: the user's own\n")


@starts
@pytest.mark.parametrize("where", ["waiting", "in the loop"])
def test_ctrl_c(tmp_path, threads, where):
    pause = "time.sleep(60)" if where == "in the loop" else "pass"
    text = f"""
for batch in DataLoader(Mine({0 if where == "in the loop" else 60}), num_workers=2):
    print("batch", flush=True)
    {pause}
"""
    text = text if where == "in the loop" else text.replace("for batch", "print('batch', flush=True)\nfor batch")
    with _script(text, tmp_path, threads) as process:
        assert process.stdout.readline() == "begin\n"
        assert process.stdout.readline() == "batch\n"
        time.sleep(1.0)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
        _, err = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGINT
        assert err.count("KeyboardInterrupt") == 1, err
        assert err.count("Traceback") == 1, err
        assert _gone(process.pid)


@starts
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_sudden_death_of_the_script_ends_its_workers(tmp_path, threads, number):
    text = """
for batch in DataLoader(Mine(0.5), num_workers=2):
    print("batch", flush=True)
    time.sleep(0.3)
"""
    with _script(text, tmp_path, threads) as process:
        assert process.stdout.readline() == "begin\n"
        assert process.stdout.readline() == "batch\n"
        assert len(_session(process.pid)) == 3 + threads
        os.kill(process.pid, number)
        process.wait(timeout=10)
        assert _gone(process.pid)


def test_abandoning_ends_the_server_with_the_loader(tmp_path):
    code, out, err = _run(
        """
def count():
    return len(os.popen(f"ps -o pid= --ppid {os.getpid()}").read().split()) - 1
loader = DataLoader(Mine(), num_workers=2)
for batch in loader:
    break
print(count(), flush=True)
del loader, batch
print(count(), flush=True)
""",
        tmp_path,
        threads=True,
    )
    assert (code, err) == (0, "")
    assert out == ["begin", "1", "0"]


def test_a_dead_server_is_replaced(tmp_path):
    code, out, err = _run(
        """
loader = DataLoader(Mine(), batch_size=8, num_workers=1)
list(loader)
loader._server._process.kill()
loader._server._process.wait()
print(len(list(loader)))
""",
        tmp_path,
        threads=True,
    )
    assert (code, out, err) == (0, ["begin", "1"], "")
