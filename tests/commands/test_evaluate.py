"""`quantlab evaluate` on a packed folder from outside: both columns where there is a model to compare with."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import quantlab as ql
from quantlab.cli import cli
from quantlab.engine import evaluate_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    scenes = ql.rooms(1, views=2)
    recipe = ql.Recipe.preset("rtn", weights=8, activations=8)
    lab = ql.Lab(ql.load_model("mini"), calibration=scenes, evaluation=scenes, recipe=recipe)
    return lab.export(tmp_path_factory.mktemp("evaluate") / "out", drift=False).folder


def run(folder, *more):
    arguments = ["evaluate", "--model", str(folder), "--scenes", "rooms:1", "--views", "2", "--no-icp", *more]
    return CliRunner().invoke(cli, arguments)


def test_a_packed_folder_is_scored_against_the_truth_and_full_precision_as_it_runs(folder, tmp_path):
    done = run(folder, "--json", str(tmp_path / "e.json"))
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "e.json").read_text())
    assert told["ground_truth"]["auc30"] > 0 < told["full_precision"]["point_error"]
    assert told["recipe"]["name"] == "rtn"
    assert told["provenance"]["model"]["name"] == "mini"
    layers = told["execution"]["layers"]
    assert sum(told["execution"]["kernels"].values()) == len(layers) > 0
    assert {layer["kernel"] for layer in layers.values()} == set(told["execution"]["kernels"])
    assert done.stdout.startswith("out (mini, rtn W8A8) on room held-out 0.0\n")
    assert all(f"\n{row}" in done.stdout for row in ("camera AUC@30", "point error", "kernels: "))
    assert "a scene as executed" in done.stdout


def test_kernel_and_arithmetic_can_be_named(folder, tmp_path):
    done = run(folder, "--kernel", "reference", "--compute", "bfloat16", "--json", str(tmp_path / "e.json"))
    told = json.loads((tmp_path / "e.json").read_text())
    assert set(told["execution"]["kernels"]) == {"reference"}
    assert told["execution"]["compute"] == "bfloat16" in done.stdout


def test_without_full_precision_the_table_says_why(folder, monkeypatch):
    monkeypatch.setattr(evaluate_model, "source_of", lambda packed: (None, "its weights are gone"))
    done = run(folder)
    assert done.exit_code == 0, done.output
    assert "not compared with full precision: its weights are gone" in done.stdout
    assert "point error" not in done.stdout
    assert "against full precision" not in done.stdout
    asked = run(folder, "--against", "mini")
    assert "point error" in asked.stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--preset", "rtn"), "quantized already"),
        (("--recipe", "mine.yaml"), "quantized already"),
        (("--calibration", "rooms:1"), "quantized already"),
        (("--measure",), "quantized already"),
        (("--kernel", "warp"), "of: auto, "),
        (("--model", "mini", "--kernel", "reference"), "belong to a packed"),
    ],
)
def test_what_does_not_go_with_a_packed_folder_is_refused_with_exit_code_2(more, words, folder):
    done = run(folder, *more)
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_very_long_name_of_a_kernel_is_not_echoed_in_full(folder):
    done = run(folder, "--kernel", "k" * 5000)
    assert done.exit_code == 2
    assert "(5000 characters)" in done.stderr
    assert len(done.stderr) < 500
