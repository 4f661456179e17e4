"""Writing a report: whole or not at all, found out before the work, and the lab stays as it was."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

import quantlab as ql
from quantlab.cli import cli
from quantlab.errors import JobCancelledError, RecipeError, SceneError, StorageError
from quantlab.jobs import Job


def test_calling_it_writes_one_file_and_changes_nothing_of_the_lab(lab, tmp_path: Path) -> None:
    before = (lab.recipe, lab.history, lab.can_undo)
    path = ql.report(lab, tmp_path / "r.html", points=100, note="hello")
    assert [found.name for found in tmp_path.iterdir()] == ["r.html"]
    assert path == tmp_path / "r.html"
    assert path.read_text().startswith("<!doctype html>")
    assert (lab.recipe, lab.history, lab.can_undo) == before


def test_render_gives_the_same_page_as_bytes(lab, tmp_path: Path) -> None:
    from quantlab.report import render

    made = render(lab, points=100, note="hello")
    assert b"<title>QuaRot W4A4 on tiny" in made
    assert ql.report.render is render


@pytest.mark.parametrize("name", ["weights.safetensors", "report", "a/b.html", "x" * 300 + ".html", ".html/"])
def test_s6_a_name_that_cannot_be_is_refused_before_the_work(
    lab, tmp_path: Path, monkeypatch, name: str
) -> None:
    monkeypatch.setattr(type(lab), "profile", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(StorageError) as caught:
        ql.report(lab, tmp_path / name)
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_s1_a_full_disk_leaves_the_old_report(lab, tmp_path: Path, monkeypatch) -> None:
    old = tmp_path / "r.html"
    old.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        ql.report(lab, old, points=100)
    assert caught.value.remedy
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_s4_a_folder_that_may_not_be_written_is_found_out_before_the_work(
    lab, tmp_path: Path, monkeypatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(lab), "profile", lambda *_, **__: pytest.fail("work began"))
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        ql.report(lab, tmp_path / "r.html")


def test_a_cancelled_report_writes_nothing(make_lab, tmp_path: Path) -> None:
    job = Job(lambda job: job.cancel() if job.fraction > 0.2 else None)
    with pytest.raises(JobCancelledError):
        ql.report(make_lab(), tmp_path / "r.html", points=100, job=job)
    assert list(tmp_path.iterdir()) == []


def test_progress_goes_from_nothing_to_nearly_all_and_never_back(make_lab, tmp_path: Path) -> None:
    seen: list[float] = []
    ql.report(make_lab(), tmp_path / "r.html", points=100, job=Job(lambda job: seen.append(job.fraction)))
    assert seen == sorted(seen)
    assert seen[-1] > 0.9


def test_a_recipe_that_is_changed_meanwhile_is_not_reported_by_halves(make_lab, tmp_path: Path) -> None:
    lab = make_lab()

    def edit(job: Job) -> None:
        if job.fraction > 0.8 and not lab.can_undo:
            lab.set("*", weights=8)

    with pytest.raises(RecipeError, match="was changed while") as caught:
        ql.report(lab, tmp_path / "r.html", points=100, job=Job(edit))
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []
    ql.report(lab, tmp_path / "r.html", points=100)


@pytest.mark.parametrize("scene", [-1, 2])
def test_a_scene_that_is_not_there_is_named(lab, tmp_path: Path, scene: int) -> None:
    with pytest.raises(SceneError, match=f"there is no scene {scene}"):
        ql.report(lab, tmp_path / "r.html", scene=scene)


def test_the_command_writes_the_report_of_a_weight_file_with_its_digest(
    weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.html"
    asked = [
        "report",
        "--model",
        str(weights),
        "--preset",
        "rtn",
        "--weights",
        "3",
        "--views",
        "2",
        "--out",
        str(out),
    ]
    told = CliRunner().invoke(cli, asked)
    assert told.exit_code == 0, told.output
    html = out.read_text()
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in html
    assert "W3A4" in html
    assert "opens by double click" in told.stderr


def test_the_command_refuses_to_write_over_the_weights(weights: Path) -> None:
    before = weights.read_bytes()
    told = CliRunner().invoke(cli, ["report", "--model", str(weights), "--out", str(weights)])
    assert told.exit_code == 2
    assert "end in .html" in told.stderr
    assert weights.read_bytes() == before
