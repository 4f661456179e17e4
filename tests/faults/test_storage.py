"""Faults S1 to S8 at the lab: a recipe, profile or result that cannot be written leaves the old file and the lab."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import quantlab as ql
from quantlab.calibration.profile_file import load_profile, save_profile
from quantlab.cli import cli
from quantlab.engine.stages_folder import Identity, StageFolder, digest_of
from quantlab.errors import StorageError
from quantlab.jobs import Job

Save = Callable[[Path], object]


def full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def read_only(*_arguments: object, **_settings: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")  # taking it away stops no administrator


DISKS = {"S1 full": (os, "fsync", full), "S4 read-only": (tempfile, "mkstemp", read_only)}


@pytest.fixture(params=["recipe.yaml", "recipe.json", "lab.session.json", "profile.npz"])
def saved(request, lab, tmp_path: Path) -> tuple[Path, Save, Save]:
    """A file of a lab, how it is written, and how it is read."""
    path = tmp_path / request.param
    if path.suffix == ".npz":
        profile = lab.profile()
        save: Save = lambda path: save_profile(profile, path)  # noqa: E731
        load: Save = lambda path: list(load_profile(path).layers)  # noqa: E731
    elif ".session" in path.name:
        save, load = lab.save, lambda path: ql.load_session(path, lab.model).history
    else:
        save, load = lab.recipe.save, ql.Recipe.load
    save(path)
    return path, save, load


@pytest.mark.parametrize("disk", DISKS)
def test_what_cannot_be_written_leaves_the_old_file_whole_and_the_next_save_works(
    refused, saved, monkeypatch, disk: str
) -> None:
    path, save, load = saved
    before = path.read_bytes()
    with refused(path.name, "old file"), monkeypatch.context() as broken:
        broken.setattr(*DISKS[disk])
        save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    save(path)
    assert load(path)


def test_s6_an_impossible_name_is_refused_and_another_works(unchanged, saved) -> None:
    path, save, load = saved
    (path.parent / "folder").mkdir()
    with unchanged():
        for name in ("absent/a", "x" * 300, "nul\0", "folder"):
            with pytest.raises(StorageError) as caught:
                save(path.parent / name)
            assert caught.value.remedy
    save(path.with_name("another" + path.suffix))
    assert load(path.with_name("another" + path.suffix))


def test_s5_what_was_loaded_can_be_saved_over_its_own_file(unchanged, saved) -> None:
    path, save, load = saved
    before = load(path)
    with unchanged():
        save(path)
    assert load(path) == before


@pytest.mark.parametrize("verb", ["evaluate", "inspect"])
def test_s1_a_command_finds_out_before_its_work_that_the_result_cannot_be_written(
    monkeypatch, tmp_path: Path, verb: str
) -> None:
    monkeypatch.setattr("quantlab.lab.Lab", lambda *_a, **_k: pytest.fail("the work began"))
    told = CliRunner().invoke(cli, [verb, "--json", str(tmp_path / "absent" / "out.json")])
    assert told.exit_code == 2
    assert "absent" in told.stderr
    assert not list(tmp_path.iterdir())


def test_a_damaged_profile_is_refused_and_the_lab_measures_its_own(lab, refused, tmp_path: Path) -> None:
    path = tmp_path / "profile.npz"
    save_profile(lab.profile(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with refused("profile.npz"):
        load_profile(path)
    assert lab.profile().layers


# -- a folder of finished stages ----------------------------------------------------------------------------------


def quantize_into(lab: ql.Lab, folder: Path, job: Job | None = None) -> dict[str, bytes]:
    """Quantize stage by stage into a folder; its finished stages."""
    scenes = digest_of(lab.calibration)
    identity = Identity(ql.__version__, "tiny", "float32", lab.recipe.to_dict(), scenes)
    lab.calibrated(job=job, store=StageFolder(folder, identity, lab.recipe))
    return stages_in(folder)


def stages_in(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "stages").iterdir()}


@pytest.mark.parametrize("disk", DISKS)
def test_s1_s8_a_disk_that_fills_while_stages_are_written_leaves_whole_ones_and_the_next_run_goes_on(
    make_lab, refused, monkeypatch, tmp_path: Path, disk: str
) -> None:
    recipe = ql.Recipe.preset("gptq")
    whole = quantize_into(make_lab(recipe=recipe), tmp_path / "whole")
    lab, folder = make_lab(recipe=recipe), tmp_path / "out"
    with refused("stages", lab=lab) as caught, monkeypatch.context() as broken:
        owner, name, failing = DISKS[disk]
        working, calls = getattr(owner, name), []

        def sometimes(*arguments: object, **settings: object) -> object:
            calls.append(1)
            stored = len(list((folder / "stages").iterdir())) if (folder / "stages").exists() else 0
            return (failing if stored >= 2 else working)(*arguments, **settings)

        broken.setattr(owner, name, sometimes)
        quantize_into(lab, folder)
    assert caught.type is StorageError
    finished = stages_in(folder)
    assert 0 < len(finished) < len(whole)
    assert all(whole[name] == content for name, content in finished.items())
    assert quantize_into(make_lab(recipe=recipe), folder) == whole


def test_k9_two_runs_into_one_folder_find_each_others_stages_and_end_at_the_same_files(
    make_lab, tmp_path: Path
) -> None:
    recipe, folder = ql.Recipe.preset("gptq"), tmp_path / "out"
    whole = quantize_into(make_lab(recipe=recipe), tmp_path / "whole")
    first, second = make_lab(recipe=recipe), make_lab(recipe=recipe)
    seen: list[str] = []

    def meddle(_job: Job) -> None:
        if not seen and (folder / "stages").exists() and len(list((folder / "stages").iterdir())) == 2:
            seen.append("the other run begins and ends")
            assert quantize_into(second, folder) == whole

    quantize_into(first, folder, Job(meddle))
    assert seen
    assert stages_in(folder) == whole
    assert second.evaluate().full_precision == first.evaluate().full_precision
