"""The command line of disttorch-run and what it gives its workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from disttorch_run import cli, placement
from disttorch_run.output import Stream

SHOW = """
import json, os, sys
names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK",
         "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
         "NUMBA_NUM_THREADS", "TORCHELASTIC_RUN_ID"]
leaked = [n for n in os.environ if n.startswith("DISTTORCH_") and n not in ("DISTTORCH_AGENT_FD", "DISTTORCH_FLIGHT_FD")]
print(json.dumps({"env": {n: os.environ.get(n) for n in names},
                  "cores": sorted(os.sched_getaffinity(0)), "leaked": leaked,
                  "argv": sys.argv, "name": __name__, "path": sys.path[0], "file": __file__}))
"""


def run(
    *arguments: object, environment: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "disttorch_run", *map(str, arguments)],
        env={
            **{k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")},
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        timeout=30,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
    )


def ranks(done: subprocess.CompletedProcess[str]) -> list[dict]:
    assert done.returncode == 0, done.stderr
    shown = [
        json.loads(line.partition("] ")[2] if line.startswith("[rank") else line) for line in done.stdout.splitlines()
    ]
    return sorted(shown, key=lambda one: int(one["env"]["RANK"]))


def test_workers_get_torchruns_environment_their_cores_and_arguments(tmp_path: Path) -> None:
    script = tmp_path / "show.py"
    script.write_text(SHOW)
    cores = sorted(os.sched_getaffinity(0))
    count = min(2, len(cores))
    shown = ranks(run("--nproc_per_node", count, "--rdzv-id", "job7", script, "--lr", "0.1", "-x"))
    assert len(shown) == count
    for rank, one in enumerate(shown):
        env = one["env"]
        assert (env["RANK"], env["LOCAL_RANK"], env["GROUP_RANK"]) == (str(rank), str(rank), "0")
        assert env["WORLD_SIZE"] == env["LOCAL_WORLD_SIZE"] == str(count)
        assert env["MASTER_ADDR"] == "127.0.0.1"
        assert int(env["MASTER_PORT"]) > 0
        assert env["TORCHELASTIC_RUN_ID"] == "job7"
        assert env["OMP_NUM_THREADS"] == env["OPENBLAS_NUM_THREADS"] == str(len(one["cores"]))
        assert one["argv"] == [str(script), "--lr", "0.1", "-x"]
        assert (one["name"], one["path"], one["file"]) == ("__main__", str(tmp_path), str(script))
        assert one["leaked"] == []
    assert sorted(core for one in shown for core in one["cores"]) == cores


def test_thread_counts_that_the_user_has_set_stay(tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(SHOW)
    [one] = ranks(run(tmp_path / "show.py", environment={"OMP_NUM_THREADS": "7"}))
    assert one["env"]["OMP_NUM_THREADS"] == "7"


def test_a_module_and_a_command(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text(SHOW)
    [one] = ranks(run("-m", "shown", "a", cwd=tmp_path))
    assert one["name"] == "__main__"
    assert one["argv"][1:] == ["a"]
    done = run("--no-python", "sh", "-c", "echo $RANK of $WORLD_SIZE; exit 5")
    assert done.stdout == "0 of 1\n"
    assert done.returncode == 5
    assert "rank 0" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nnodes", "2", __file__], "several hosts are not supported yet, use --nnodes 1"),
        (["--nnodes=1:4", __file__], "several hosts are not supported yet"),
        (["--node-rank", "1", __file__], "use --node-rank 0"),
        (
            ["--rdzv-endpoint", "node7:29400", __file__],
            "host node7: several hosts are not supported yet",
        ),
        (["--master-addr", "10.0.0.1", __file__], "host 10.0.0.1"),
        (["--master-port", "99999", __file__], "port 99999"),
        (["--max-restarts", "3", __file__], "restarts are not supported yet"),
        (["--nproc-per-node", "100000", __file__], "add --oversubscribe"),
        (["--nproc-per-node", "some", __file__], "expected a number from 1, auto, cpu or gpu"),
        (["--nproc-per-node", "0", __file__], "expected a number from 1"),
        (["--nonsense", __file__], "--nonsense"),
        (["--grace", "-1", __file__], "--grace -1"),
        (["--timeout", "0", __file__], "--timeout 0"),
        (["--timeout", "soon", __file__], "invalid float value: 'soon'"),
        (["--tee", "3", __file__], "--log-dir"),
        (["--log-dir", "x", "--tee", "5", __file__], "--tee 5: expected 0, 1, 2 or 3"),
        (["-m", "--no-python", "ls"], "exclude each other"),
        (["--no-python", "no-such-command-here"], "no command no-such-command-here"),
        (["no-such-script.py"], "there is no script no-such-script.py"),
        ([], "no script given"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.startswith("disttorch-run: ")
    assert err.count("\n") == 1


def test_a_busy_port_is_one_sentence(tmp_path: Path) -> None:
    import socket

    (tmp_path / "empty.py").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("--master-port", taken.getsockname()[1], tmp_path / "empty.py")
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1:" in done.stderr
    assert done.stderr.count("\n") == 1


def test_gpu_workers_need_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(placement.PlacementError, match="no NVIDIA GPU found"):
        placement.plan("gpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert [place.gpu for place in placement.plan("gpu")] == ["GPU-a", "GPU-b"]
    assert [place.gpu for place in placement.plan("auto")] == ["GPU-a", "GPU-b"]
    assert [place.gpu for place in placement.plan("2")] == [None, None]


@pytest.mark.parametrize(("cores", "count"), [(4, 2), (5, 2), (7, 3), (8, 8)])
def test_every_core_goes_to_one_worker(cores: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    places = placement.plan(str(count))
    assert sorted(core for place in places for core in place.cores) == list(range(cores))
    assert max(place.threads for place in places) - min(place.threads for place in places) <= 1


def test_oversubscribed_workers_are_not_pinned() -> None:
    places = placement.plan("500", oversubscribe=True)
    assert {(place.cores, place.threads) for place in places} == {((), 1)}


def test_output_goes_to_files_too(tmp_path: Path) -> None:
    script = tmp_path / "talk.py"
    script.write_text(
        "import os, sys\nprint('out', os.environ['RANK'])\nprint('err', os.environ['RANK'], file=sys.stderr)\n"
    )
    logs = tmp_path / "logs"
    done = run("--nproc-per-node", 2, "--oversubscribe", "--log-dir", logs, script)
    assert sorted(done.stdout.splitlines()) == ["[rank1] out 1", "out 0"]
    assert sorted(done.stderr.splitlines()) == ["[rank1] err 1", "err 0"]
    assert (logs / "rank1" / "stdout.log").read_text() == "out 1\n"
    assert (logs / "rank0" / "stderr.log").read_text() == "err 0\n"
    quiet = run("--nproc-per-node", 2, "--oversubscribe", "--log-dir", logs, "--redirects", "1:3", script)
    assert quiet.stdout == "out 0\n"
    assert (logs / "rank1" / "stderr.log").read_text() == "err 1\n"


def test_lines_get_their_prefix_and_progress_bars_only_their_last_state() -> None:
    reader, writer = os.pipe()
    stream = Stream("[rank3] ", writer, None)
    os.write(stream.inlet, b"one\ntw")
    stream.pump()
    os.write(stream.inlet, b"o\n 1%\r 50%\r100%\npart")
    stream.pump()
    stream.close()
    os.close(writer)
    with os.fdopen(reader, "rb") as shown:
        assert shown.read() == b"[rank3] one\n[rank3] two\n[rank3] 100%\n[rank3] part\n"


def test_without_the_launcher_a_group_needs_rank_and_world_size() -> None:
    code = """
import disttorch.distributed as dist, numpy as np
alone = {"rank": 0, "world_size": 1}
for arguments, text in [({}, "not started by disttorch-run"),
                        ({"rank": 0, "world_size": 2}, "needs disttorch-run"),
                        ({"backend": "nccl"}, "'nccl' is not supported yet"),
                        ({"init_method": "tcp://a:1"}, "env://"),
                        ({"timeout": 0, **alone}, "positive")]:
    try:
        dist.init_process_group(**arguments)
    except ValueError as error:
        assert text in str(error), error
    else:
        raise AssertionError(arguments)
assert not dist.is_initialized()
dist.init_process_group("gloo", rank=0, world_size=1)
x = np.ones(3)
dist.all_reduce(x, async_op=True).wait()
dist.barrier()
box = [None]
dist.all_gather_object(box, 5)
assert box == [5] and x.tolist() == [1, 1, 1] and dist.get_backend() == "zmq"
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
