"""The command line of disttorch-run and what it gives its workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from disttorch_run import arguments, cli, placement
from disttorch_run.events import Loop
from disttorch_run.output import Stream, Terminal

SHOW = """
import json, os, sys
names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK",
         "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
         "NUMBA_NUM_THREADS", "TORCHELASTIC_RUN_ID"]
used_later = ("DISTTORCH_AGENT_FD", "DISTTORCH_FLIGHT_FD")
leaked = [n for n in os.environ if n.startswith("DISTTORCH_") and n not in used_later]
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
            **{k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS") and k != "DISTTORCH_MATRIX"},
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
    ("words", "text"),
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
        (["--nnodes=2:1", __file__], "expected a number from 1, or a range"),
        (["--nnodes", "some", __file__], "expected a number from 1, or a range"),
        (["--local-addr", "10.0.0.1", __file__], "host 10.0.0.1"),
        (["--rdzv-backend", "etcd", __file__], "expected static or c10d"),
        (["--rdzv-conf", "timeout", __file__], "expected key=value"),
        (["--event-log-handler", "console", __file__], "plug-ins are not supported, use null"),
        (["--logs-specs", "mine", __file__], "plug-ins are not supported, leave it out"),
        (["--run-path", "--start-method", "fork", __file__], "use spawn"),
        (["--start-method", "thread", __file__], "invalid choice: 'thread'"),
        (["--numa-binding", "far", __file__], "invalid choice: 'far'"),
        (["--monitor-interval", "0", __file__], "--monitor-interval 0: expected a positive number"),
        (["--max-restarts", "-1", __file__], "--max-restarts -1: expected a number from 0"),
        (["--signals-to-handle", "SIGTERM,SIGKILL", __file__], "--signals-to-handle SIGKILL"),
        (["--signals-to-handle", "USR1", __file__], "--signals-to-handle USR1"),
        (["--local-ranks-filter", "0,7", __file__], "expected ranks from 0 to 0"),
        (["--local-ranks-filter", "a", __file__], "expected ranks from 0 to 0"),
        (["--tee", "4:3", __file__], "there is no rank 4 among 1"),
        (["--nproc-per-node", "100000", __file__], "add --oversubscribe"),
        (["--nproc-per-node", "1000000", "--oversubscribe", __file__], "1000000 processes need about"),
        (["--nproc-per-node", "-1", __file__], "expected a number from 1"),
        (["--nproc-per-node", "xpu", __file__], "expected a number from 1"),
        (["--nproc-per-node", "some", __file__], "expected a number from 1, auto, cpu or gpu"),
        (["--nproc-per-node", "0", __file__], "expected a number from 1"),
        (["--nonsense", __file__], "--nonsense"),
        (["--grace", "-1", __file__], "--grace -1"),
        (["--timeout", "0", __file__], "--timeout 0"),
        (["--timeout", "soon", __file__], "invalid float value: 'soon'"),
        (["--timeout", "nan", __file__], "--timeout nan"),
        (["--timeout", "inf", __file__], "--timeout inf"),
        (["--timeout", "1e300", __file__], "--timeout 1e+300"),
        (["--master-port", "-5", __file__], "port -5"),
        ([""], "is a folder without __main__.py"),
        (["--grace", "nan", __file__], "--grace nan"),
        (["--shutdown-timeout", "-2", __file__], "--grace -2"),
        (["--log-dir", __file__, __file__], "cannot write logs in"),
        (["--log-dir", "/proc/logs", __file__], "cannot write logs in /proc/logs"),
        (["--timeout"], "expected one argument"),
        (["--log-dir", "x", "--tee", "5", __file__], "--tee 5: expected 0, 1, 2 or 3"),
        (["-m", "--no-python", "ls"], "exclude each other"),
        (["--no-python", "no-such-command-here"], "no command no-such-command-here"),
        (["no-such-script.py"], "there is no script no-such-script.py"),
        (["--status", "--no-status", __file__], "exclude each other"),
        (["--status-interval", "0", __file__], "--status-interval 0: expected a positive"),
        (["--dashboard", "70000", __file__], "--dashboard 70000: expected a port"),
        (["/dev/null"], "/dev/null is not a file"),
        (["/proc"], "/proc is a folder without __main__.py"),
        ([], "no script given"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
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
    [first] = logs.iterdir()
    assert (first / "attempt_0" / "1" / "stdout.log").read_text() == "out 1\n"
    assert (first / "attempt_0" / "0" / "stderr.log").read_text() == "err 0\n"
    quiet = run(
        "--nproc-per-node", 2, "--oversubscribe", "--log-dir", logs, "--rdzv-id", "a/b", "--redirects", "1:3", script
    )
    assert quiet.stdout == "out 0\n"
    [second] = logs.glob("a_b_*")
    assert (second / "attempt_0" / "1" / "stderr.log").read_text() == "err 1\n"
    assert [path.name for path in (second / "attempt_0").iterdir()] == ["1"]


def test_the_output_of_ranks_is_chosen_marked_and_searched_as_torchrun_does(tmp_path: Path) -> None:
    script = tmp_path / "talk.py"
    script.write_text(
        "import os, sys\nfor word in ('apple', 'pear', 'a,b'):\n"
        "    sys.stdout.write(f'{word} {os.environ[\"RANK\"]}\\n')\n"
    )
    two = ("--nproc-per-node", 2, "--oversubscribe")
    marked = run(
        *two, "--role", "trainer", "--log-line-prefix-template", "[${role_name}${rank}/${local_rank}]:", script
    )
    assert sorted(marked.stdout.splitlines()) == sorted(
        f"[trainer{rank}/{rank}]:{word} {rank}" for rank in range(2) for word in ("apple", "pear", "a,b")
    )
    one = run(
        *two, "--local-ranks-filter", "1", script, environment={"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "<$rank>"}
    )
    assert one.stdout.splitlines() == ["<1>apple 1", "<1>pear 1", "<1>a,b 1"]
    found = run(*two, "--log-dir", tmp_path / "logs", "-r3", "--duplicate-stdout-filters", "pear,a,,b", script)
    assert found.stdout == ""
    [log] = (tmp_path / "logs").glob("*/attempt_0/filtered_stdout.log")
    assert sorted(log.read_text().splitlines()) == [
        "[rank0] a,b 0",
        "[rank0] pear 0",
        "[rank1] a,b 1",
        "[rank1] pear 1",
    ]
    assert (log.parent / "0" / "stdout.log").read_text() == "apple 0\npear 0\na,b 0\n"


def test_a_tee_without_a_folder_says_where_its_files_are(tmp_path: Path) -> None:
    (tmp_path / "talk.py").write_text("print('out')\n")
    done = run("-t", "1", tmp_path / "talk.py", environment={"TMPDIR": str(tmp_path)})
    assert done.stdout == "out\n"
    [folder] = tmp_path.glob("disttorch_*")
    assert done.stderr == f"disttorch-run: logs in {folder}\n"
    assert (folder / "attempt_0" / "0" / "stdout.log").read_text() == "out\n"


def test_a_full_disk_ends_the_log_not_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Stream("", None, Path("/dev/full"))
    os.write(stream.inlet, b"one")
    assert stream.pump()
    assert capsys.readouterr().err == "disttorch-run: /dev/full ends here: No space left on device\n"
    os.write(stream.inlet, b"two")
    stream.close()


def test_torchruns_other_variable_for_the_grace_period(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, grace in (("7.5", 7.5), ("", 30.0)):
        monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", text)
        assert cli.options_from([__file__]).grace == grace
    assert cli.options_from(["--grace", "1", __file__]).grace == 1
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "soon")
    with pytest.raises(arguments.UsageError, match="TORCH_ELASTIC_SHUTDOWN_TIMEOUT soon: expected"):
        cli.options_from([__file__])


def test_a_syntax_error_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f(:\n")
    done = run("bad.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "raised SyntaxError: invalid syntax (bad.py, line 1); the other ranks" in done.stderr.splitlines()[-1]


def test_torchruns_environment_variables_are_defaults() -> None:
    pet = {
        "PET_NPROC_PER_NODE": "auto",
        "PET_MAX_RESTARTS": "2",
        "PET_STANDALONE": "1",
        "PET_NO_PYTHON": "0",
        "PET_SHUTDOWN_TIMEOUT": "7",
        "PET_ROLE": "a role",
        "PET_TEE": "",
    }
    asked = arguments.read(["--max-restarts", "1", "train.py", "--max-restarts", "9"], pet)
    assert (asked.nproc_per_node, asked.max_restarts, asked.standalone, asked.no_python) == ("auto", 1, True, False)
    assert (asked.grace, asked.role, asked.tee) == (7.0, "a role", "")
    assert (asked.script, asked.arguments) == ("train.py", ["--max-restarts", "9"])
    for wrong in ({"PET_STANDALONE": "yes"}, {"PET_MAX_RESTARTS": "many"}):
        with pytest.raises(arguments.UsageError, match=r"^environment variable PET_"):
            arguments.read(["train.py"], wrong)


@pytest.mark.parametrize(
    ("words", "script", "rest"),
    [
        (["-m", "package", "-m", "x"], "package", ["-m", "x"]),
        (["--", "--odd.py", "--", "a"], "--odd.py", ["--", "a"]),
        (["-t3", "-r", "1", "a.py", "--", "b"], "a.py", ["--", "b"]),
        (["--nnodes=1", "a.py", "--help"], "a.py", ["--help"]),
        (["--standalone"], None, []),
        (["--dashboard", "a.py", "8000"], "a.py", ["8000"]),
        (["--dashboard", "8000", "a.py"], "a.py", []),
    ],
)
def test_what_comes_after_the_script_belongs_to_it(words: list[str], script: str | None, rest: list[str]) -> None:
    asked = arguments.read(words, {})
    assert (asked.script, asked.arguments) == (script, rest)
    if "--dashboard" in words:
        assert asked.dashboard == (8000 if words[1] == "8000" else 0)


def test_hosts_that_are_this_one_are_accepted(tmp_path: Path) -> None:
    import socket

    for words in (
        ["--master-addr", socket.gethostname(), "--master-port", "1234"],
        ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:1234", "--local-addr", "127.0.0.2"],
        ["--rdzv-endpoint", "[::1]:1234", "--nnodes", "1:1", "--rdzv-conf", "timeout=900,is_host=1"],
    ):
        assert cli.options_from([*words, __file__]).port == 1234
    options = cli.options_from(["--standalone", "--rdzv-endpoint", "node7:1234", "--rdzv-id", "x", __file__])
    assert options.port == 0
    assert options.label != "x"


def test_a_folder_and_a_zip_file_run_as_python_runs_them(tmp_path: Path) -> None:
    import zipfile

    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text("import sys, helper\nprint(helper.word, sys.argv[1:], __name__)\n")
    (tmp_path / "app" / "helper.py").write_text("word = 'hello'\n")
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        for path in (tmp_path / "app").glob("*.py"):
            archive.write(path, path.name)
    for target in ("app", "app.pyz"):
        done = run(tmp_path / target, "x")
        assert (done.stdout, done.stderr) == ("hello ['x'] __main__\n", "")


def test_an_unreadable_script_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.py").write_text("")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    with pytest.raises(arguments.UsageError, match=r"no permission to read .*secret\.py"):
        cli.options_from([str(tmp_path / "secret.py")])


def test_lines_get_their_prefix_and_progress_bars_only_their_last_state() -> None:
    reader, writer = os.pipe()
    terminal = Terminal(writer, Loop())
    stream = Stream("[rank3] ", terminal, None)
    os.write(stream.inlet, b"one\ntw")
    stream.pump()
    os.write(stream.inlet, b"o\n 1%\r 50%\r100%\npart")
    stream.pump()
    stream.close()
    terminal.close()
    os.close(writer)
    with os.fdopen(reader, "rb") as shown:
        assert shown.read() == b"[rank3] one\n[rank3] two\n[rank3] 100%\n[rank3] part\n"


def test_output_that_nobody_reads_keeps_the_launcher_from_nothing(tmp_path: Path) -> None:
    script = tmp_path / "talk.py"
    script.write_text(
        """
import os, sys, time
if os.environ["RANK"] == "0":
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.02)
    time.sleep(0.3)
    sys.exit(3)
for number in range(100_000):
    print(f"a line to fill the pipe {number}", flush=True)
    if number == 10_000:
        open(sys.argv[1], "w").close()
"""
    )
    command = [
        sys.executable,
        "-m",
        "disttorch_run",
        "--nproc-per-node",
        "2",
        "--oversubscribe",
        script,
        tmp_path / "full",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()  # before anybody has read the output
    assert "rank 0" in said
    assert "exited with code 3" in said
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 3
    lines = out.splitlines()
    assert len(lines) > 10_000  # nothing that had been passed on is lost
    assert lines[:10_000] == [f"[rank1] a line to fill the pipe {number}" for number in range(10_000)]


def test_a_run_goes_on_when_nobody_reads_its_messages(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import sys, time\ntime.sleep(1)\nopen(sys.argv[1], 'w').write('done')\n")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "disttorch_run", "--dashboard", tmp_path / "train.py", tmp_path / "result"]
    done = subprocess.run(command, stdout=writer, stderr=writer, timeout=60)
    os.close(writer)
    assert done.returncode == 0
    assert (tmp_path / "result").read_text() == "done"


def test_without_the_launcher_a_group_needs_rank_and_world_size() -> None:
    code = """
import disttorch.distributed as dist, numpy as np
alone = {"rank": 0, "world_size": 1}
for arguments, text in [({}, "RANK is not set. Start the script with `disttorch-run"),
                        ({"rank": 0, "world_size": 2}, "MASTER_PORT is not set"),
                        ({"backend": "nccl"}, "'nccl' is not supported yet"),
                        ({"init_method": "tcp://a:1"}, "rank and world_size missing"),
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
assert box == [5] and x.tolist() == [1, 1, 1] and dist.get_backend() == "gloo"
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
