"""The training example, run as its users run it: as a script, alone and under the launcher."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import disttorch as torch

SCRIPT = Path(__file__).parents[2] / "examples" / "train_mnist.py"
DEADLINE_SECONDS = 120
LAUNCHER = (str(Path(sys.executable).with_name("disttorch-run")), "--nproc-per-node", "2")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Write 60 training and 21 held-out pictures: one bright row, whose place is the class."""
    folder = tmp_path / "digits"
    folder.mkdir()
    for prefix, count in (("train", 60), ("t10k", 21)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        images[np.arange(count), 2 * labels + 4] = 255
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{prefix}-{name}-ubyte").write_bytes(header + array.tobytes())
    return folder


def run(*options: object, start: tuple[str, ...] = (sys.executable,)) -> subprocess.CompletedProcess[str]:
    """Run the script in a process of its own, on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for variable in ("WORLD_SIZE", "RANK"):
        environment.pop(variable, None)
    return subprocess.run(
        [*start, str(SCRIPT), *map(str, options)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def train(*options: object, start: tuple[str, ...] = (sys.executable,)) -> str:
    """Run the script, which must succeed, and return what it printed."""
    result = run("--device", "cpu", *options, start=start)
    assert result.returncode == 0, f"exit code {result.returncode}\n{result.stderr}"
    return result.stdout


def accuracies(output: str) -> list[float]:
    return [float(value) for value in re.findall(r"held-out accuracy ([\d.]+)%", output)]


def weight_hashes(output: str) -> list[str]:
    return re.findall(r"rank \d+ weights ([0-9a-f]{64})", output)


@pytest.mark.parametrize("model", ["cnn", "lenet", "lstm", "mlp"])
def test_every_model_learns(digits: Path, model: str) -> None:
    output = train("--data", digits, "--model", model, "--epochs", 12, "--batch-size", 5)
    assert len(accuracies(output)) == 12
    assert accuracies(output)[-1] >= 90


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "rmsprop"])
def test_every_optimizer_learns(digits: Path, optimizer: str) -> None:
    options = ("--model", "mlp", "--optimizer", optimizer, "--epochs", 12, "--batch-size", 5)
    assert accuracies(train("--data", digits, *options))[-1] >= 90


def test_same_seed_gives_the_same_weights(digits: Path) -> None:
    options = ("--data", digits, "--model", "mlp", "--epochs", 1, "--threads", 1)
    first, again = (weight_hashes(train(*options, "--seed", 3)) for _ in range(2))
    other = weight_hashes(train(*options, "--seed", 4))
    assert len(first) == 1
    assert first == again
    assert first != other


def test_two_workers_end_with_equal_weights(digits: Path) -> None:
    output = train("--data", digits, "--epochs", 2, "--batch-size", 8, start=LAUNCHER)
    hashes = weight_hashes(output)
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]
    assert "weights are equal on all 2 ranks" in output
    assert len(accuracies(output)) == 2, "each epoch is reported once, by one worker"


def test_two_workers_train_as_one_with_twice_the_batch(digits: Path) -> None:
    options = ("--data", digits, "--model", "mlp", "--epochs", 3, "--optimizer", "sgd")
    alone = train(*options, "--batch-size", 20)
    together = train(*options, "--batch-size", 10, start=LAUNCHER)
    losses = [[float(value) for value in re.findall(r"loss ([\d.]+)", output)] for output in (alone, together)]
    assert len(losses[0]) == 3
    # Printed with four decimals; the sums run in another order, so the last one may differ.
    np.testing.assert_allclose(losses[0], losses[1], atol=2e-4)


def test_checkpoint_holds_the_state_and_is_whole(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "mnist.pt"
    train("--data", digits, "--model", "mlp", "--epochs", 2, "--checkpoint", path)
    state = torch.load(path)
    assert set(state) == {"model", "optimizer", "epoch", "args"}
    assert state["epoch"] == 2
    assert state["args"]["model"] == "mlp"
    assert tuple(state["model"]["1.weight"].shape) == (512, 784)
    assert {item.name for item in tmp_path.iterdir()} == {"digits", "mnist.pt"}, "no leftovers"


def test_plot_is_a_png(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "mnist.png"
    train("--data", digits, "--model", "mlp", "--epochs", 2, "--plot", path)
    assert path.read_bytes().startswith(PNG_SIGNATURE)


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--data", "/nowhere/at/all"), 1, "/nowhere/at/all is not a folder"),
        (("--checkpoint", "/nowhere/at/all.pt"), 1, "--checkpoint /nowhere/at/all.pt cannot be"),
        (("--checkpoint", "/"), 1, "--checkpoint / is a folder"),
        (("--plot", "/nowhere/at/all.png"), 1, "--plot /nowhere/at/all.png cannot be written"),
        (("--wings", "2"), 2, "unrecognized arguments: --wings 2"),
        (("--model", "gpt"), 2, "invalid choice: 'gpt'"),
        (("--epochs", "0"), 2, "expected a whole number of at least 1, got '0'"),
        (("--batch-size", "many"), 2, "expected a whole number of at least 1, got 'many'"),
        (("--lr", "-1"), 2, "expected a number above 0, got '-1'"),
        (("--lr", "nan"), 2, "expected a number above 0, got 'nan'"),
    ],
)
def test_bad_input_is_named_before_training(options: tuple[str, ...], code: int, reason: str) -> None:
    result = run(*options)
    assert result.returncode == code
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == "", "nothing was trained"


def test_truncated_file_ends_the_script_with_one_sentence(digits: Path) -> None:
    path = digits / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    result = run("--data", digits)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert f"{path} is truncated" in result.stderr


def test_bad_input_ends_all_workers() -> None:
    result = run("--data", "/nowhere/at/all", start=LAUNCHER)
    assert result.returncode != 0
    assert "/nowhere/at/all is not a folder" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
