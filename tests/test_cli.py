"""The command line from outside: what is printed where, exit codes, files. The numbers are tested with the engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quantlab import __version__
from quantlab.cli import cli
from quantlab.commands import setup
from quantlab.commands.console import megabytes, number
from quantlab.commands.setup import RecipeChoice
from quantlab.engine import presets
from quantlab.errors import JobCancelledError, RecipeError
from quantlab.models import zoo

QUANTILES = {"p50", "p90", "p99", "p999", "p9999"}
STATISTICS = {"count", "mean", "std", "kurtosis", "max", "max_p999", "quantiles"}


def run(*arguments: str):
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture(scope="module")
def inspected(tmp_path_factory):
    file = tmp_path_factory.mktemp("cli") / "inspect.json"
    return run("inspect", "--model", "mini", "--scenes", "rooms:1", "--views", "2", "--json", str(file)), file


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    file = tmp_path_factory.mktemp("cli") / "evaluate.json"
    arguments = "evaluate --model mini --scenes rooms:2 --views 2 --seed 7 --preset rtn --no-icp --json"
    return run(*arguments.split(), str(file)), file


def test_the_version_is_printed_and_needs_no_torch() -> None:
    script = "import sys; from quantlab.cli import cli; cli(['--version'], standalone_mode=False)"
    script += "; assert not {'torch', 'gradio', 'numpy'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"quantlab {__version__}\n", "")


def test_inspect_writes_one_record_a_layer_and_one_a_branch(inspected) -> None:
    result, file = inspected
    assert result.exit_code == 0, result.output
    written = json.loads(file.read_text())
    assert {"layers", "branches"} <= written.keys()
    names = [layer["name"] for layer in written["layers"]]
    assert len(names) == len(set(names)) > 20
    for layer in written["layers"]:
        assert layer.keys() >= STATISTICS
        assert layer["quantiles"].keys() == QUANTILES
        assert all(stats.keys() >= STATISTICS for stats in layer["tokens"].values())
    trunk = [layer for layer in written["layers"] if layer["stream"] in {"frame", "global"}]
    assert all(layer["tokens"].keys() == {"camera", "register", "patch"} for layer in trunk)
    assert all(branch["tre"] >= 0 for branch in written["branches"])
    assert any(branch["tre"] > 0 for branch in written["branches"])


def test_inspect_prints_the_table_on_stdout_and_progress_on_stderr(inspected) -> None:
    result, file = inspected
    assert "kurtosis" in result.stdout
    assert "TRE" in result.stdout
    assert "profile:" in result.stderr
    assert "profile:" not in result.stdout
    assert str(file) in result.stderr.replace("\n", "")


def test_evaluate_writes_the_scores_in_the_agreed_form(evaluated) -> None:
    result, file = evaluated
    assert result.exit_code == 0, result.output
    written = json.loads(file.read_text())
    assert written["model"] == "mini"
    truth = {"auc30", "auc15", "auc5", "auc3", "abs_rel", "accuracy", "completeness", "normal_consistency"}
    assert written["ground_truth"].keys() == truth
    assert written["full_precision"].keys() >= {"point_error", "abs_rel", "auc30", "auc15", "auc5", "auc3"}
    assert written["full_precision"]["point_error"] > 0
    assert 0 < written["packed_bytes"] < written["full_bytes"]
    assert written["seconds"] > 0
    assert "point error" in result.stdout


def test_a_recipe_file_gives_what_the_preset_it_was_saved_from_gives(evaluated, tmp_path: Path) -> None:
    from quantlab import Recipe

    file = tmp_path / "recipe.yaml"
    RecipeChoice(preset="rtn", seed=7).load(otherwise="full_precision").save(file)
    assert Recipe.load(file).seed == 7
    out = tmp_path / "out.json"
    arguments = f"evaluate --scenes rooms:2 --views 2 --seed 7 --recipe {file} --no-icp --json {out}"
    assert run(*arguments.split()).exit_code == 0
    first, second = json.loads(evaluated[1].read_text()), json.loads(out.read_text())
    assert second["full_precision"] == first["full_precision"]
    assert second["recipe"] == first["recipe"]


def test_without_a_preset_the_full_precision_model_is_scored(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = run("evaluate", "--scenes", "rooms:1", "--views", "2", "--no-icp", "--json", str(out))
    assert result.exit_code == 0
    written = json.loads(out.read_text())
    assert written["full_precision"]["point_error"] < 1e-6
    assert written["packed_bytes"] == written["full_bytes"]
    assert "not measured (--measure)" in result.output
    assert "s a scene" not in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("evaluate --scenes nowhere", "nowhere"),
        ("evaluate --scenes rooms:none", "rooms:N"),
        ("evaluate --scenes demo --model nothing.safetensors", "nothing.safetensors"),
        ("evaluate --preset magic", "rtn"),
        ("evaluate --preset rtn --weights 9", "9"),
        ("evaluate --weights 4", "--preset"),
        ("evaluate --recipe absent.yaml", "absent.yaml"),
        ("evaluate --recipe absent.yaml --preset rtn", "exclude"),
        ("inspect --json absent/out.json", "absent"),
        ("inspect --device abacus", "abacus"),
        ("inspect --views 0", "--views"),
        ("inspect --bogus", "bogus"),
        ("inspekt", "inspekt"),
    ],
)
def test_what_a_user_can_put_right_ends_with_code_2_and_a_message_without_traceback(
    arguments: str, told: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments.split())
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_bug_ends_with_code_1_and_its_traceback(monkeypatch) -> None:
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("quantlab.commands.inspect.run", broken)
    result = run("inspect")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def test_a_stopped_job_ends_with_code_130(monkeypatch) -> None:
    def stopped(*_args, **_kwargs):
        raise JobCancelledError("the job was stopped")

    monkeypatch.setattr("quantlab.commands.inspect.run", stopped)
    assert run("inspect").exit_code == 130


def test_ctrl_c_ends_with_code_130_and_leaves_no_file(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "quantlab.cli", "inspect", "--scenes", "rooms:25", "--json", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert "profile" in process.stderr.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=30) == 130
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_that_closes_early_is_no_bug() -> None:
    command = f"{sys.executable} -m quantlab.cli doctor | head -n 1"
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=60, check=False, env={**os.environ}
    )
    assert "Traceback" not in done.stderr


def test_every_verb_explains_itself() -> None:
    for verb in ("inspect", "evaluate", "app", "doctor"):
        result = run(verb, "--help")
        assert result.exit_code == 0
        assert len(result.stdout.splitlines()) > 5


def test_completion_offers_what_the_engine_knows() -> None:
    assert set(setup.PRESETS) == set(presets.PRESETS)
    assert set(setup.MODELS) <= set(zoo.MODELS)


def test_bits_without_a_method_are_refused() -> None:
    with pytest.raises(RecipeError, match="without a method"):
        RecipeChoice(weights=4).load(otherwise="full_precision")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (3, "3"), (1234567, "1,234,567"), (0.01234, "0.0123"), (float("nan"), "nan")],
)
def test_numbers_are_shown_with_three_digits_and_what_was_not_measured_as_a_dash(value, shown: str) -> None:
    assert number(value) == shown


def test_bytes_are_shown_in_millions() -> None:
    assert (megabytes(1_234_567), megabytes(12_345_678)) == ("1.23 MB", "12 MB")


def test_planted_outliers_are_said_in_the_title_and_in_the_file(tmp_path) -> None:
    file = tmp_path / "planted.json"
    shown = run(
        "inspect", "--model", "mini-outliers", "--scenes", "rooms:1", "--views", "2", "--json", str(file)
    )
    assert "outliers planted" in shown.stdout
    assert json.loads(file.read_text())["planted"] is True
