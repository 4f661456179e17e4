"""Faults S1 to S6: what an interrupted or impossible write leaves behind."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from quantlab import storage
from quantlab.errors import StorageError
from quantlab.storage import atomic_write, atomic_writer, check_writable, sweep_orphans, write_json


def test_the_file_holds_what_was_written_and_no_neighbour_stays(tmp_path: Path) -> None:
    assert atomic_write(tmp_path / "a.txt", "Grüße").read_bytes() == "Grüße".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_leaves_the_old_file_whole_and_the_next_write_works(tmp_path: Path, monkeypatch) -> None:
    target = atomic_write(tmp_path / "a.txt", "old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(storage.os, "fsync", full)
        with pytest.raises(StorageError, match="No space left") as caught:
            atomic_write(target, "new")
    assert caught.value.place == str(target)
    assert caught.value.remedy
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    assert atomic_write(target, "new").read_text() == "new"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_an_interruption_while_writing_leaves_the_old_file_whole(tmp_path: Path, failure) -> None:
    target = atomic_write(tmp_path / "a.txt", "old")
    with pytest.raises(failure), atomic_writer(target) as stream:  # noqa: PT012 -- it fails halfway
        stream.write(b"half")
        raise failure
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_process_killed_while_saving_leaves_the_old_file_and_an_orphan_that_is_swept(
    tmp_path: Path,
) -> None:
    target = atomic_write(tmp_path / "a.txt", "old")
    script = (
        "import os, signal, sys; from quantlab.storage import atomic_writer\n"
        "with atomic_writer(sys.argv[1]) as stream:\n"
        "    stream.write(b'half'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(target)], check=False, timeout=30)
    orphans = [path for path in tmp_path.iterdir() if path != target]
    assert target.read_text() == "old"
    assert len(orphans) == 1
    assert sweep_orphans(tmp_path) == []  # fresh: another process may be writing it
    assert sweep_orphans(tmp_path, older_than=0.0) == orphans
    assert list(tmp_path.iterdir()) == [target]


def test_the_file_is_on_the_disk_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch
) -> None:
    events = []
    really_fsync, really_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        really_fsync(descriptor)

    def replace(part: Path, target: Path) -> Path:
        events.append("rename")
        return really_replace(part, target)

    monkeypatch.setattr(storage.os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    atomic_write(tmp_path / "a.txt", "new")
    assert events == ["file", "rename", "folder"]


def test_who_mapped_the_old_file_keeps_it_when_it_is_saved_over(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(1000))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    atomic_write(tmp_path / "a.npy", b"short")
    assert mapped[-1] == 999


def test_a_replaced_file_keeps_its_permissions_and_a_new_one_gets_the_usual_ones(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.touch()
    assert atomic_write(tmp_path / "new", "x").stat().st_mode == usual.stat().st_mode
    usual.chmod(0o640)
    assert atomic_write(usual, "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["absent/a.txt", "x" * 300, "nul\0.txt", "folder", ""])
def test_an_impossible_name_is_refused_before_and_while_writing(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    target = str(tmp_path / name) if name else ""
    for attempt in (check_writable, lambda path: atomic_write(path, "x")):
        with pytest.raises(StorageError) as caught:
            attempt(target)
        assert caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_read_only_folder_is_told_before_the_work(tmp_path: Path, monkeypatch) -> None:
    def denied(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(storage.tempfile, "NamedTemporaryFile", denied)
    with pytest.raises(StorageError, match="Permission denied"):
        check_writable(tmp_path / "a.json")
    check_writable(None)


def test_json_holds_numpy_numbers_and_null_for_what_is_no_number(tmp_path: Path) -> None:
    document = {
        "a": np.float32(0.5),
        "b": [np.int64(3), math.nan, math.inf],
        "c": np.arange(2),
        "d": (True, None),
    }
    loaded = json.loads(write_json(tmp_path / "a.json", document).read_text())
    assert loaded == {"a": 0.5, "b": [3, None, None], "c": [0, 1], "d": [True, None]}
