"""disttorch-run doctor: what it finds, what it says about it, and its self-test."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from disttorch.distributed import futex
from disttorch_run import cli, doctor, machine, selftest
from disttorch_run.machine import FAILED, OK, WARNING, Check
from disttorch_run.selftest import Result


def found(*names: str) -> dict[str, Check]:
    checks = {check.name: check for _, section in machine.sections() for check in section}
    return {name: checks[name] for name in names}


def test_it_looks_at_everything_and_its_workers_agree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "SIZES", (1 << 10, 1 << 16))
    run_all = selftest.run_all
    monkeypatch.setattr(selftest, "run_all", lambda seconds: run_all(seconds, selftest.SIZES))
    code = cli.main(["doctor", "--seconds", "0.2"])
    shown = capsys.readouterr().out
    assert code == 0, shown
    for name in "cores memory GPUs futex pidfd loopback Python packages encryption BLAS".split():
        assert re.search(rf"^  (ok     |warning) {name} +\S", shown, re.MULTILINE), name
    assert "libzmq" in shown
    for ranks in selftest.world_sizes(len(os.sched_getaffinity(0))):
        for transport in selftest.TRANSPORTS:
            row = rf"^  ok      {ranks} ranks, {transport}( +[\d.e+]+ m?s){{2}}\n( +[\d.]+ [MG]B/s){{2}}$"
            assert re.search(row, shown, re.MULTILINE)
    assert re.search(r"^  ok      a failure +a rank that fails stops the others after [\d.]+ m?s$", shown, re.MULTILINE)
    assert shown.splitlines()[-1].startswith("everything works")


def test_the_command_line() -> None:
    command = [sys.executable, "-W", "error", "-m", "disttorch_run", "doctor", "--no-self-test"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Self-test" not in done.stdout


def test_what_is_missing_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import zmq

    def refused(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refused)
    monkeypatch.setattr(os, "pidfd_open", refused)
    monkeypatch.setattr(futex, "wait", lambda *_: None)
    monkeypatch.setattr(zmq, "has", lambda what: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 0.0, 0.0))
    monkeypatch.setattr(machine.topology, "cpu_quota", lambda: 0.5)
    monkeypatch.setattr(machine.topology, "memory_limit", lambda: 1 << 20)
    monkeypatch.setattr(machine.topology, "process_limit", lambda: 20)
    monkeypatch.setattr(machine, "available_gpus", lambda: ["0"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(machine, "_version", lambda name: "" if name == "msgpack" else "1.0")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("PET_NPROC_PER_NODE", "3")
    checks = found(
        *("shared memory", "pidfd", "futex", "encryption", "packages"),
        *("cores", "CPU limit", "load", "memory", "threads of the group", "GPUs", "OMP_NUM_THREADS", "environment"),
    )
    failed = {name for name, check in checks.items() if check.verdict == FAILED}
    assert failed == {"shared memory", "pidfd", "futex", "encryption", "packages"}
    assert all(check.verdict == WARNING for name, check in checks.items() if name not in failed)
    assert all(check.advice for check in checks.values())
    assert "memfd_create: Operation not permitted" in checks["shared memory"].found
    assert "msgpack" in checks["packages"].advice


def test_a_check_that_cannot_be_made_is_a_failure_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> float:
        raise ValueError("odd")

    monkeypatch.setattr(os, "getloadavg", broken)
    checks = found("load", "cores")
    assert checks["load"] == Check("load", "ValueError: odd", FAILED)
    assert checks["cores"].verdict != FAILED


@pytest.mark.parametrize(
    ("results", "code", "text"),
    [
        (
            [Result("2 ranks, messages", milliseconds=[0.05, 0.5, 2.0, 2500.0])],
            0,
            "0.05 ms      0.5 ms        2 ms       2.5 s",
        ),
        ([Result("2 ranks, messages", error="element 3 is 1.0, not 2.0\nmore")], 1, "element 3 is 1.0, not 2.0"),
    ],
)
def test_the_exit_code_says_whether_the_self_test_passed(
    results: list[Result], code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "sections", lambda: iter([("Machine", [Check("cores", "2", OK)])]))
    monkeypatch.setattr(selftest, "run_all", lambda seconds: iter(results))
    assert cli.main(["doctor"]) == code
    shown = capsys.readouterr().out
    assert text in shown
    assert ("1 of 2 checks failed" if code else "everything works") in shown.splitlines()[-1]


def test_the_self_test_sees_what_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        (124, b"", "the stacks"): "not done within 60 s\nthe stacks",
        (1, b"", "rank 0 raised AssertionError"): "rank 0 raised AssertionError",
        (0, b"", ""): "exit code 0",
    }
    for answer, error in answers.items():
        monkeypatch.setattr(selftest, "_launch", lambda *_: answer)
        assert selftest._measure(2, "messages", 1.0).error == error
    blamed = f"Traceback\ndisttorch-run: rank 1 (pid 5) raised RuntimeError: {selftest._BOOM}"
    for answer, error in {
        (0, b"", "nothing"): "ended with code 0",
        (1, b"", blamed): "rank 0 was not told why",
        (1, b"7.5", blamed): "rank 0 stopped only 7.5 s after",
        (1, b"0.1", blamed.replace("rank 1", "rank 0")): "rank 1 was made to fail",
        (1, b"0.1", blamed): "",
    }.items():
        monkeypatch.setattr(selftest, "_launch", lambda *_: answer)
        assert error in selftest._fail_on_purpose().error
        assert bool(error) == bool(selftest._fail_on_purpose().error)


def test_workers_that_reduce_wrongly_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import disttorch.distributed as dist

    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda array: None)
    with pytest.raises(AssertionError, match=r"all_reduce of 1 float32: element 0 is 1\.0, not 1\.0|element \d+ is"):
        selftest._check_results()


@pytest.mark.parametrize("words", [["--seconds", "0"], ["--seconds", "nan"], ["--nonsense"], ["script.py"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(words) == 2
    assert words[0] in capsys.readouterr().err
