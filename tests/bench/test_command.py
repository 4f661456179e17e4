"""The verb: what is typed wrongly is refused in one line, and the tables can be written again from the cells."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from quantlab.bench.run import run
from quantlab.cli import cli


def typed(*arguments):
    return CliRunner().invoke(cli, ["bench", "accuracy", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--methods", "magic"], "magic"),
        (["--bits", "W5"], "W5"),
        (["--model", "nobody"], "nobody"),
        (["--render"], "cells"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(tmp_path, arguments, word):
    found = typed("--out", tmp_path, *arguments)
    assert found.exit_code == 2
    assert word in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_a_variant_that_does_not_exist_is_refused_before_anything_is_timed(tmp_path):
    arguments = ["bench", "speed", "--shapes", "mini", "--rows", "nobody", "--out", str(tmp_path)]
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 2
    assert "nobody" in found.stderr
    assert not list(tmp_path.iterdir())


def test_tables_are_written_again_from_the_cells_alone(ask, stand_in, tmp_path):
    run(ask())
    stand_in.clear()
    assert typed("--out", tmp_path, "--render").exit_code == 0
    assert stand_in == []
    assert {path.name for path in tmp_path.glob("mini.*")} == {"mini.md", "mini.csv", "mini.svg"}
