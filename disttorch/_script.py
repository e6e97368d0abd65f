"""Running a script written for PyTorch: in its process `torch` is disttorch.

python -m disttorch script.py arguments...
python -m disttorch -m package.module arguments...
"""

from __future__ import annotations

import argparse
import builtins
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType
from typing import NoReturn

from disttorch._as_torch import install

FILES = (__file__, os.path.join(os.path.dirname(__file__), "__main__.py"))
"""What runs a script and has no place in its tracebacks."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for; return or exit as it does."""
    asked = _parser().parse_args(arguments)
    install()
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # disttorch-run prints tracebacks itself
        sys.excepthook = _print_exception
    sys.argv = [asked.script, *asked.arguments]
    if asked.module:
        runpy.run_module(asked.script, run_name="__main__", alter_sys=True)
    else:
        _run_file(asked.script)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m disttorch",
        usage="python -m disttorch [-m] script.py [arguments]",
        description="Run a script written for PyTorch with disttorch in the place of torch.",
        allow_abbrev=False,
    )
    parser.add_argument("-m", dest="module", action="store_true", help="run a module, as python -m does")
    parser.add_argument("script", help="script, folder or zip file with a __main__.py, or module with -m")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script gets")
    return parser


def _run_file(path: str) -> None:
    """Run a file as `python path` does: as the module `__main__`, with its folder first on the search path."""
    full = os.path.join(os.getcwd(), path)
    if os.path.isdir(path) or (not path.endswith(".py") and _is_zip(path)):
        _drop_own_folder()
        runpy.run_path(path, run_name="__main__")
        return
    try:
        with open(path, "rb") as file:
            code = compile(file.read(), full, "exec")
    except OSError as error:
        _refuse(f"can't open file '{full}': [Errno {error.errno}] {error.strerror}")
    if _drop_own_folder():
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    module = ModuleType("__main__")
    module.__dict__.update(__file__=full, __builtins__=builtins, __cached__=None)
    module.__loader__ = SourceFileLoader("__main__", full)
    sys.modules["__main__"] = module
    exec(code, module.__dict__)


def _is_zip(path: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(path)


def _drop_own_folder() -> bool:
    """Take away the folder that `python -m` has put first on the search path; False where it has not."""
    if getattr(sys.flags, "safe_path", False):
        return False
    del sys.path[0]
    return True


def _refuse(message: str) -> NoReturn:
    print(f"python -m disttorch: {message}", file=sys.stderr)
    raise SystemExit(2)


def _print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception that nobody caught, without the frames that run the script."""
    inner = trace
    while inner is not None and inner.tb_frame.f_code.co_filename in (*FILES, runpy.run_path.__code__.co_filename):
        inner = inner.tb_next
    if inner is None and not isinstance(error, SyntaxError):
        inner = trace
    sys.__excepthook__(kind, error.with_traceback(inner), inner)
