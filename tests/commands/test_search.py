"""`quantlab search` from outside: the recipe it writes, the table it prints, and what it refuses at once."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from quantlab.cli import cli
from quantlab.engine.bit_rules import weight_bits
from quantlab.engine.plan import plan
from quantlab.engine.recipe import Recipe
from quantlab.models.structure import describe
from quantlab.models.zoo import load_model

QUICK = "search --scenes rooms:1 --views 2 --preset rtn --activations 8 --bits 3,4 --tries 2 --trials 1"


def run(*more: str):
    return CliRunner().invoke(cli, [*QUICK.split(), *map(str, more)])


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
    for words in ("chosen", "3 bits", "predicted", "measured", "calibration scenes", "rank correlation"):
        assert words in text
    smaller = [one for one in plain["uniform"] if one["bytes"] <= plain["budget"]]
    assert smaller
    drift = plain["chosen"]["verified"]["drift"]
    assert all(drift <= one["verified"]["drift"] for one in smaller)
    assert f"{drift:.3%}" in text


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
