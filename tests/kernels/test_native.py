"""Compiling, loading and sharing out our own C code: on a tiny source in place of the kernels."""

from __future__ import annotations

import os
import platform
import threading
import time
from pathlib import Path

import pytest
import torch

from quantlab.errors import MissingLibraryError
from quantlab.kernels import native
from quantlab.kernels.native import build
from quantlab.kernels.native import team as native_team

linux = pytest.mark.skipif(platform.system() != "Linux", reason="native kernels are for Linux")
compiles = pytest.mark.skipif(
    not any(map(build.shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler"
)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A folder in place of our sources; the cache is fresh, and so is what the process remembers."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "init.c").write_text("long native_init(void) { return 1; } long seven(void) { return 7; }\n")
    monkeypatch.setattr(build, "_FOLDER", folder)
    monkeypatch.setattr(build, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(native, "SIGNATURES", {"seven": ""})
    monkeypatch.delenv(native.SWITCH, raising=False)
    native._found.cache_clear()
    yield folder
    native._found.cache_clear()


@linux
@compiles
def test_the_library_is_compiled_once_and_found_again(sources, tmp_path):
    first = build.built()
    state = first.stat()
    assert build.built() == first
    assert first.stat().st_mtime_ns == state.st_mtime_ns
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.name]
    assert native.function("seven")() == 7


@linux
@compiles
def test_other_sources_and_other_flags_make_another_library(sources):
    first = build.built()
    assert build.built(("-DOTHER",)) != first
    (sources / "init.c").write_text("long native_init(void) { return 2; }\n")
    assert build.built() != first


@linux
@compiles
@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_a_damaged_file_in_the_cache_is_compiled_anew(sources, kept):
    first = build.built()
    whole = first.read_bytes()
    first.write_bytes(whole[: int(kept * len(whole))])
    assert build.built().read_bytes() == whole
    assert native.library() is not None


@linux
@compiles
def test_a_folder_that_others_may_write_to_is_not_used(sources, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    assert native.library() is None
    assert "others may write" in native.why_absent()


@linux
@compiles
def test_what_does_not_compile_is_absent_and_the_compiler_says_why(sources, tmp_path):
    (sources / "init.c").write_text("#error nobody can compile this\n")
    assert native.library() is None
    assert "nobody can compile this" in native.why_absent()
    assert list((tmp_path / "cache").iterdir()) == []


@linux
def test_without_a_compiler_it_is_absent_with_the_reason(sources, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert native.library() is None
    assert "no C compiler was found" in native.why_absent()
    with pytest.raises(MissingLibraryError, match="no C compiler"):
        native.function("seven")


@linux
def test_a_compiler_that_was_named_and_is_not_there_is_named(sources, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    assert native.library() is None
    assert "no-such-compiler" in native.why_absent()


@linux
@compiles
def test_a_compiler_that_cannot_be_read_hangs_or_cannot_write_is_a_reason_and_no_error(
    sources, tmp_path, monkeypatch
):
    monkeypatch.setenv("CC", "gcc '-m64")
    assert "No closing quotation" in native.why_absent()
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 20\n")
    hangs.chmod(0o755)
    monkeypatch.setenv("CC", str(hangs))
    monkeypatch.setattr(build, "SECONDS", 0.1)
    native._found.cache_clear()
    assert "took more than 0.1 s" in native.why_absent()
    monkeypatch.delenv("CC")
    monkeypatch.setattr(build, "_cache", lambda: tmp_path / "hangs" / "native")
    native._found.cache_clear()
    assert "cannot be kept" in native.why_absent()


@linux
@compiles
def test_a_cpu_without_the_instructions_is_told_so_and_one_that_refuses_tiles_gets_the_rest(sources):
    (sources / "init.c").write_text("long native_init(void) { return 0; }\n")
    assert native.library() is None
    assert "AVX512-VNNI" in native.why_absent()
    (sources / "init.c").write_text(
        "#ifdef __AMX_TILE__\n#define LEVEL -1\n#else\n#define LEVEL 1\n#endif\n"
        "long native_init(void) { return LEVEL; } long seven(void) { return 7; }\n"
    )
    native._found.cache_clear()
    assert native.library().instructions == "AVX512-VNNI"


def test_the_switch_turns_it_off(monkeypatch):
    monkeypatch.setenv(native.SWITCH, "0")
    assert native.library() is None
    assert native.SWITCH in native.why_absent()


@pytest.mark.parametrize(
    ("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")]
)
def test_another_kind_of_machine_is_told_so(sources, monkeypatch, system, machine):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert native.library() is None
    assert system in native.why_absent()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("count", "step"), [(0, 1), (1, 16), (100, 16), (96, 32), (7, 1)])
def test_parts_cover_everything_once_and_begin_at_steps(monkeypatch, threads, count, step):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    parts = []
    answers = native.share(lambda *ends: parts.append(ends) or ends[1] - ends[0], count, step=step)
    assert sum(answers) == count
    assert sorted(index for ends in parts for index in range(*ends)) == list(range(count))
    assert all(begin % step == 0 for begin, _ in parts)
    assert len(parts) <= threads


def test_an_error_in_any_part_is_raised(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    def work(begin, _end):
        if begin == 2:
            raise ZeroDivisionError
        return 0

    with pytest.raises(ZeroDivisionError):
        native.share(work, 3)


def test_an_interrupted_caller_waits_for_what_still_writes_to_its_memory(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    done = []

    def work(begin, _end):
        if begin == 0:
            raise KeyboardInterrupt
        time.sleep(0.05)
        done.append(begin)
        return 0

    with pytest.raises(KeyboardInterrupt):
        native.share(work, 2)
    assert done == [1]


@linux
@pytest.mark.parametrize("team", [True, False])
def test_parts_run_on_the_threads_that_torch_has_and_on_others_only_without_them(monkeypatch, team):
    if not team:
        monkeypatch.setattr(native_team, "_openmp", lambda: None)
    elif native_team._openmp() is None:
        pytest.skip("this torch brings no OpenMP of GNU's")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(1 << 20).exp()
        there = {int(task.name) for task in Path("/proc/self/task").iterdir()}
        used = native.share(lambda _begin, _end: threading.get_native_id(), 2)
    finally:
        torch.set_num_threads(before)
    assert len(set(used)) == 2
    if team:
        assert set(used) <= there


@linux
def test_a_child_of_a_process_with_threads_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    native.share(lambda begin, _end: begin, 2)
    child = os.fork()
    if child == 0:
        os._exit(sum(native.share(lambda begin, _end: begin, 2)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
