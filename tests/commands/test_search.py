"""`quantlab search` from outside: the recipe it writes, the table it prints, and what it refuses at once."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from quantlab.cli import cli
from quantlab.engine import measure
from quantlab.engine.bit_rules import weight_bits
from quantlab.engine.plan import plan
from quantlab.engine.recipe import Recipe
from quantlab.models.structure import describe
from quantlab.models.zoo import load_model

QUICK = "search --scenes rooms:1 --views 2 --preset rtn --activations 8 --bits 3,4 --tries 2 --trials 1"


def run(*more: str):
    return CliRunner().invoke(cli, [*QUICK.split(), *map(str, more)])


@pytest.fixture(autouse=True)
def one_pass(monkeypatch):
    """Where times are measured, one pass is enough here."""
    monkeypatch.setattr(measure, "SECONDS", 0.0)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    out, document = folder / "recipe.yaml", folder / "search.json"
    return run("--budget", "45%", "--out", out, "--json", document), out, document


def test_the_recipe_fits_the_budget_and_is_an_ordinary_one(done):
    result, out, document = done
    assert result.exit_code == 0, result.output
    recipe, plain = Recipe.load(out), json.loads(document.read_text())
    structure = describe(load_model("mini").network)
    assert plan(structure, recipe).bytes == plain["chosen"]["bytes"] <= plain["budget"]
    assert set(weight_bits(recipe, structure).values()) <= {3, 4, 16}
    assert recipe.defaults["activations"] == 8
    assert len(recipe.rules) < 20


def test_the_table_holds_the_choice_equal_bits_and_how_far_to_trust_it(done):
    result, _, document = done
    plain = json.loads(document.read_text())
    text = result.stdout
    assert plain["notes"] == [], "the budget is no time"
    for words in ("chosen", "3 bits", "predicted", "measured", "calibration scenes", "rank correlation"):
        assert words in text
    smaller = [one for one in plain["uniform"] if one["bytes"] <= plain["budget"]]
    assert smaller
    drift = plain["chosen"]["verified"]["drift"]
    assert all(drift <= one["verified"]["drift"] for one in smaller)
    assert f"{drift:.3%}" in text


def test_a_time_that_cannot_be_reached_gives_the_fastest_choice_and_says_so_in_table_and_file(tmp_path):
    document, recipe = tmp_path / "search.json", tmp_path / "recipe.yaml"
    few = Recipe.preset("rtn").set("*", keep=True).set("aggregator.global_blocks.3.mlp.fc2", keep=False)
    few.save(recipe)
    asked = f"search --scenes rooms:1 --views 1 --bits 4,8 --tries 0 --trials 1 --recipe {recipe}"
    result = CliRunner().invoke(cli, [*asked.split(), "--budget", "1 us or fastest", "--json", str(document)])
    assert result.exit_code == 0, result.output
    plain, told = json.loads(document.read_text()), " ".join(result.stdout.split())
    assert plain["asked_seconds"] == 1e-6 < plain["budget_seconds"]
    sentence, taken = plain["notes"][:2]
    assert sentence.startswith("0.001 ms cannot be reached: the fastest choice of bits takes ")
    assert sentence in told
    assert taken.startswith("What was chosen takes ")
    assert taken in told


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--budget", "1us"), "the fastest choice"),
        (("--budget", "1 MB"), "cannot be reached"),
        (("--budget", "small"), "no size"),
        (("--bits", "2,x"), "no bits"),
        (("--bits", "1"), "cannot be scanned"),
        (("--mode", "together"), "unknown mode"),
        (("--out", "/proc/nowhere/recipe.yaml"), "/proc/nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(more, said):
    result = run(*more)
    assert result.exit_code == 2
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("quantlab: ")
    assert said in line
