"""`quantlab inspect` keeps a profile and takes one measured elsewhere. What it prints is tested with the CLI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantlab.cli import cli

ASKED = ["inspect", "--scenes", "rooms:1", "--views", "1"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "p.npz"
    told = CliRunner().invoke(cli, [*ASKED, "--save-profile", str(path)])
    assert told.exit_code == 0, told.output
    assert str(path) in told.stderr
    return path


def test_a_profile_that_was_kept_is_taken_in_place_of_measuring(kept, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("quantlab.lab.Lab._survey", lambda *_: pytest.fail("it was measured again"))
    out = tmp_path / "out.json"
    told = CliRunner().invoke(cli, [*ASKED, "--seed", "3", "--profile", str(kept), "--json", str(out)])
    assert told.exit_code == 0, told.output
    assert json.loads(out.read_text())["scenes"] == ["room held-out 0.0"], "it says what was profiled"


@pytest.mark.bad_input
def test_a_profile_of_another_model_or_one_that_cannot_be_kept_ends_in_one_line(kept, tmp_path) -> None:
    told = CliRunner().invoke(cli, [*ASKED, "--model", "pi3-mini", "--profile", str(kept)])
    assert told.exit_code == 2
    assert "another network" in told.stderr
    told = CliRunner().invoke(cli, [*ASKED, "--save-profile", str(tmp_path / "absent" / "p.npz")])
    assert told.exit_code == 2
    assert "does not exist" in told.stderr
