"""Saving to a path replaces the file in one step, or leaves everything as it was."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

import disttorch
from disttorch.serialization import atomic, load, save
from disttorch.serialization.atomic import atomic_write


@pytest.fixture
def usual_umask() -> Any:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save({"step": 1}, path)
    with contextlib.suppress(KeyboardInterrupt), atomic_write(str(path)) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert load(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "model.pt"
    save({"step": 1}, path)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(atomic.os, step, full)
        with pytest.raises(OSError, match="No space left"):
            save({"step": 2}, path)
    assert load(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_data_and_folder_reach_the_disk_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        done.append(f"fsync {kind}")
        fsync(descriptor)

    def note_replace(old: str, new: str) -> None:
        assert os.path.dirname(old) == os.path.dirname(new)
        done.append("replace")
        replace(old, new)

    monkeypatch.setattr(atomic.os, "fsync", note_fsync)
    monkeypatch.setattr(atomic.os, "replace", note_replace)
    save(1, tmp_path / "model.pt")
    assert done == ["fsync file", "replace", "fsync folder"]


@pytest.mark.usefixtures("usual_umask")
def test_permission_bits_are_those_of_a_plain_open(tmp_path: Path) -> None:
    path = tmp_path / "new.pt"
    save(1, path)
    assert mode_of(path) == 0o644
    path.chmod(0o640)
    save(2, path)
    assert mode_of(path) == 0o640


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "real.pt", tmp_path / "latest.pt"
    save(1, target)
    link.symlink_to(target)
    save(2, link)
    assert link.is_symlink()
    assert load(target) == 2


def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        save(disttorch.ones(1), pipe)
        assert os.read(reader, 4) == b"PK\x03\x04"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_folder_as_the_path(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"file to write, got the directory '.*'"):
        save(1, tmp_path)
    with pytest.raises(IsADirectoryError, match=r"checkpoint file, got the directory '.*'"):
        load(tmp_path)


def test_a_missing_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"Parent directory .*runs does not exist"):
        save(1, tmp_path / "runs" / "model.pt")
    with pytest.raises(FileNotFoundError, match=r"missing\.pt"):
        load(tmp_path / "missing.pt")


def test_a_read_only_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    save(1, path)
    monkeypatch.setattr(atomic.os, "access", lambda *args: False)
    with pytest.raises(PermissionError, match="read-only"):
        save(2, path)
    assert load(path) == 1


def test_a_folder_that_takes_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(atomic, "open", refuse, raising=False)
    with pytest.raises(PermissionError, match=r"cannot create files in the folder '.*'"):
        save(1, tmp_path / "model.pt")


def test_an_interrupt_as_soon_as_the_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str, mode: str) -> Any:
        open(path, mode).close()
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "open", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        save(1, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
