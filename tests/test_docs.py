"""The documents: their Python blocks run and print what they show, and what they point to exists.

The Python blocks of one document are one program. A block marked ```python no-run is only shown. A ```text block right
after a Python block is what that block prints. `python tests/test_docs.py` writes docs/operators.md anew.
"""

from __future__ import annotations

import os
import pydoc
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import getmodule, ismodule
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import disttorch
from disttorch.serialization import safetensors

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md"))
OPERATORS = ROOT / "docs" / "operators.md"
END_OF_BLOCK = "\f"
SECONDS = 120


@dataclass(frozen=True)
class Block:
    """A fenced block: its info string, its lines, and the number of the first of them, from 0."""

    info: str
    lines: list[str]
    start: int

    @property
    def end(self) -> int:
        """The number of the line with the closing fence."""
        return self.start + len(self.lines)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    found, opened, info = [], None, ""
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened, info = number + 1, line[3:].strip()
        else:
            found.append(Block(info, lines[opened:number], opened))
            opened = None
    assert opened is None, f"{name_of(page)}: the block at line {opened} is not closed"
    return found


def prose_of(page: Path) -> str:
    """Return a document without its fenced blocks."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for block in blocks_of(page):
        lines[block.start - 1 : block.end + 1] = [""] * (len(block.lines) + 2)
    return "\n".join(lines)


# -- the code runs ------------------------------------------------------------------------------------------------


def programs() -> list[Path]:
    return [p for p in PAGES if any(b.info == "python" for b in blocks_of(p))]


def program(page: Path) -> str:
    """Return the Python blocks of a document, each on the lines where the document has it."""
    lines = [""] * len(page.read_text(encoding="utf-8").splitlines())
    for block in blocks_of(page):
        if block.info == "python":
            lines[block.start : block.end] = block.lines
            lines[block.end] = f"print({END_OF_BLOCK!r})"
    return "\n".join(lines) + "\n"


def shown_outputs(page: Path) -> Iterator[tuple[int, Block]]:
    """Yield (number among the Python blocks, the text block behind it) for every output that a document shows."""
    text, count = page.read_text(encoding="utf-8").splitlines(), -1
    for block, following in pairwise([*blocks_of(page), Block("", [], 0)]):
        count += block.info == "python"
        between = text[block.end + 1 : following.start - 1]
        if block.info == "python" and following.info == "text" and not "".join(between).strip():
            yield count, following


@pytest.mark.parametrize("page", programs(), ids=name_of)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{page.stem}.md.py"
    script.write_text(program(page), encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-u", "-W", "error", str(script)],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(Path(disttorch.__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{name_of(page)} (the line numbers are the document's):\n{done.stderr}"
    printed = done.stdout.split(END_OF_BLOCK + "\n")
    for number, shown in shown_outputs(page):
        assert printed[number].splitlines() == shown.lines, f"{name_of(page)}: output at line {shown.start + 1}"


def test_every_block_says_what_it_is() -> None:
    known = {"python", "python no-run", "console", "text", ""}
    for page in PAGES:
        for block in blocks_of(page):
            assert block.info in known, f"{name_of(page)}, line {block.start}: {block.info!r}"


# -- what is named exists -----------------------------------------------------------------------------------------

INLINE_CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w/.@-])(?:disttorch|launcher|examples|tests|benchmarks|docs|\.ci)/[\w./-]*\w/?")
DOTTED = re.compile(r"(?<![\w/.])disttorch(?:\.[A-Za-z_]\w*)+(?![\w/])")


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ +(.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.replace("`", "")).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(INLINE_CODE.sub("", prose_of(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = page.parent / path if path else page
        assert aim.exists(), f"{name_of(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors_of(aim), f"{name_of(page)} links to {target}; no heading has that anchor"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page: Path) -> None:
    missing = [p for p in PATH.findall(page.read_text(encoding="utf-8")) if not (ROOT / p).exists()]
    assert missing == [], f"{name_of(page)} names files that are not there"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_objects_exist(page: Path) -> None:
    code = "\n".join(INLINE_CODE.findall(prose_of(page)))
    missing = [name for name in DOTTED.findall(code) if pydoc.locate(name) is None]
    assert missing == [], f"{name_of(page)} names objects that are not there"


# -- the page that lists the operators ----------------------------------------------------------------------------

NAMESPACES: dict[str, Any] = {
    "Networks: `disttorch.nn`": disttorch.nn,
    "Layers as functions: `disttorch.nn.functional`": disttorch.nn.functional,
    "Linear algebra: `disttorch.linalg`": disttorch.linalg,
    "Fourier transforms: `disttorch.fft`": disttorch.fft,
    "Special functions: `disttorch.special`": disttorch.special,
    "Masked reductions: `disttorch.masked`": disttorch.masked,
    "Windows: `disttorch.signal.windows`": disttorch.signal.windows,
    "Initial values: `disttorch.nn.init`": disttorch.nn.init,
    "Training loops: `disttorch.nn.utils`": disttorch.nn.utils,
    "Data-parallel modules: `disttorch.nn.parallel`": disttorch.nn.parallel,
    "Optimizers: `disttorch.optim`": disttorch.optim,
    "Learning rates: `disttorch.optim.lr_scheduler`": disttorch.optim.lr_scheduler,
    "Derivatives: `disttorch.autograd`": disttorch.autograd,
    "Derivatives of functions: `disttorch.autograd.functional`": disttorch.autograd.functional,
    "Functions of functions: `disttorch.func`": disttorch.func,
    "Data: `disttorch.utils.data`": disttorch.utils.data,
    "Several processes: `disttorch.distributed`": disttorch.distributed,
    "GPUs: `disttorch.cuda`": disttorch.cuda,
    "The accelerator: `disttorch.accelerator`": disttorch.accelerator,
    "Safetensors files: `disttorch.serialization.safetensors`": safetensors,
}


def _names(namespace: Any) -> list[str]:
    """Return the public names of a module: those in `__all__`, else what it defines itself, else what it collects."""
    listed = getattr(namespace, "__all__", None)
    if listed is None:
        public = {n: o for n, o in vars(namespace).items() if not n.startswith("_")}
        listed = [n for n, o in public.items() if getmodule(o) is namespace] or [
            n for n in public if callable(public[n])
        ]
    return sorted(n for n in listed if not ismodule(getattr(namespace, n)))


def _functions_by_origin() -> dict[str, list[str]]:
    """Return the names of `disttorch` itself under the first line of the docstring of the module they come from."""
    found: dict[str, list[str]] = {}
    for name, value in vars(disttorch).items():
        origin = getmodule(value)
        if name.startswith("_") or ismodule(value) or origin is None or not origin.__name__.startswith("disttorch."):
            continue
        title = (origin.__doc__ or "").splitlines()[0].split(": `")[0].rstrip(".:")
        found.setdefault(title, []).append(name)
    return {title: sorted(names) for title, names in sorted(found.items())}


def _listing(names: list[str]) -> str:
    return textwrap.fill(" ".join(f"`{n}`" for n in names), 100, break_long_words=False, break_on_hyphens=False)


def operator_page() -> str:
    """Return docs/operators.md."""
    lines = [
        "# What there is",
        "",
        "The names are PyTorch's, with a few more where PyTorch has nothing like it; `help(torch.clamp)` says what one",
        "takes and returns. `python tests/test_docs.py` writes this page, and a test fails when it is out of date.",
        "",
        "## Functions: `disttorch`",
    ]
    for title, names in _functions_by_origin().items():
        lines += ["", f"**{title}**", "", _listing(names)]
    methods = sorted(n for n in dir(disttorch.Tensor) if not n.startswith("_") and hasattr(disttorch.Tensor, n))
    lines += ["", "## Methods and properties: `disttorch.Tensor`", "", _listing(methods)]
    for title, namespace in NAMESPACES.items():
        lines += ["", f"## {title}", "", _listing(_names(namespace))]
    return "\n".join(lines) + "\n"


def test_the_operator_page_is_up_to_date() -> None:
    have = OPERATORS.read_text(encoding="utf-8").splitlines()
    assert have == operator_page().splitlines(), "run python tests/test_docs.py"


if __name__ == "__main__":
    OPERATORS.write_text(operator_page(), encoding="utf-8")
