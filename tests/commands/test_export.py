"""`quantlab export` from outside: the folder it leaves runs, and what it prints are sizes and the drift."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

import quantlab as ql
from quantlab.cli import cli
from quantlab.commands import setup
from quantlab.deploy import differs, fitted
from quantlab.deploy.refusals import require_plan
from quantlab.engine import stages as building
from quantlab.engine.plan import plan
from quantlab.models.structure import describe

ARGUMENTS = "export --model mini --preset rtn --weights 8 --activations 8"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    arguments = [*ARGUMENTS.split(), "--out", str(folder / "out"), "--json", str(folder / "record.json")]
    return CliRunner().invoke(cli, arguments), folder


def test_the_folder_runs_and_the_table_says_how_large_it_is_and_how_far_off(done):
    result, folder = done
    assert result.exit_code == 0, result.output
    record = json.loads((folder / "record.json").read_text())
    assert record["differs"] == ""
    assert record["bytes"] == sum(path.stat().st_size for path in (folder / "out").iterdir())
    assert all(words in result.stdout for words in ("on disk", "smaller", "from the simulation"))
    packed = ql.load_model(folder / "out", kernel="reference")
    assert packed.recipe["name"] == "rtn"
    [line] = [line for line in result.stdout.splitlines() if line.startswith("executed here ")]
    assert sum(map(int, re.findall(r"(\d+) (?:by|weights only)", line))) == record["layers"]
    assert re.search(r"points off full precision, executed here +[\d.e-]+ %", result.stdout)


@pytest.mark.parametrize("more", [(), ("--target", "onnx"), ("--out", "o" * 5000)])
def test_a_place_that_is_taken_or_impossible_is_refused_before_anything_is_loaded(more, done, monkeypatch):
    monkeypatch.setattr(setup.ModelChoice, "load", lambda _: pytest.fail("loaded"))
    monkeypatch.setattr(setup.RecipeChoice, "load", lambda *_args, **_more: pytest.fail("read"))
    result = CliRunner().invoke(cli, [*ARGUMENTS.split(), "--out", str(done[1] / "out"), *more])
    assert result.exit_code == 2
    assert "overwrite=" not in result.stderr
    assert len(result.stderr) < 600


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "--overwrite"),
        (("--static", "--target", "onnx"), "--overwrite"),
        (("--static", "--target", "openvino", "--overwrite"), "holds a packed export, not OpenVINO"),
        (("--target", "onnx", "--no-drift"), "belong to packed"),
        (("--weights", "1", "--overwrite"), "weights"),
        (("--model", "{out}", "--overwrite"), "only a model in full precision"),
    ],
)
def test_what_cannot_be_is_refused_with_exit_code_2(more, words, done):
    out = str(done[1] / "out")
    result = CliRunner().invoke(
        cli, [*ARGUMENTS.split(), "--out", out, *(word.format(out=out) for word in more)]
    )
    assert result.exit_code == 2
    assert words in result.stderr


def test_static_takes_the_nearest_recipe_that_onnx_and_openvino_hold_and_says_what_it_changed(tmp_path):
    out, record = tmp_path / "out", tmp_path / "record.json"
    arguments = "export --model mini --preset rtn --static --no-drift --scenes rooms:1 --views 2"
    done = CliRunner().invoke(cli, [*arguments.split(), "--out", str(out), "--json", str(record)])
    assert done.exit_code == 0, done.output
    asked, structure = ql.Recipe.preset("rtn"), describe(ql.load_model("mini").network)
    written = ql.Recipe.load(out / "recipe.yaml")
    assert written == fitted(asked, structure) != asked
    require_plan(plan(structure, written), structure, "ONNX")
    told = differs(asked, structure)
    assert told == "W4 A8 static; the recipe asks A4 dynamic"
    assert json.loads(record.read_text())["differs"] == told
    assert told in " ".join(done.stdout.split())


def test_blocks_that_quantize_finished_are_not_quantized_again(tmp_path, monkeypatch):
    shared = "--model mini --preset rtn --weights 8 --activations 8"
    kept, out = str(tmp_path / "kept"), str(tmp_path / "out")
    assert CliRunner().invoke(cli, ["quantize", *shared.split(), "--out", kept]).exit_code == 0
    monkeypatch.setattr(building, "build", lambda *_args: pytest.fail("quantized again"))
    done = CliRunner().invoke(cli, ["export", *shared.split(), "--stages", kept, "--out", out, "--no-drift"])
    assert done.exit_code == 0, done.output
    assert "was there already" in done.output
    assert ql.load_model(out, kernel="reference").recipe["name"] == "rtn"
