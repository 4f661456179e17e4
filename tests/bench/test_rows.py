"""The methods of the table: presets as they are registered, and variants that differ in what they say."""

from __future__ import annotations

import pytest

from quantlab.bench.protocol import Bits
from quantlab.bench.rows import UNCOMPENSATED, Row, chosen, comparable, rows, smooths_first
from quantlab.engine.presets import PRESETS
from quantlab.engine.recipe import Recipe
from quantlab.errors import RecipeError

W4A4 = Bits(4, 4)


def test_every_preset_that_rounds_is_a_row_and_keeps_its_settings_and_scenes():
    table = rows()
    for name in PRESETS:
        if name == "full_precision":
            assert name not in table
            continue
        recipe = table[name].recipe(Bits(4, 8), 5)
        preset = Recipe.preset(name, weights=4, activations=8)
        assert (recipe.defaults, recipe.calibration, recipe.seed) == (preset.defaults, preset.calibration, 5)


def test_a_new_preset_is_a_row_without_a_change_here(monkeypatch):
    monkeypatch.setitem(PRESETS._entries, "brand_new", PRESETS["rtn"])
    assert rows()["brand_new"].recipe(W4A4, 0).defaults == Recipe.preset("rtn").defaults


def test_taptq_without_compensation_differs_from_it_in_nothing_else():
    bits = Bits(4, 8)
    full, bare = (dict(rows()[name].recipe(bits, 0).defaults) for name in ("taptq_static", UNCOMPENSATED))
    assert full.pop("compensation") != bare.pop("compensation") == "off"
    assert full == bare


def test_a_variant_that_would_change_nothing_is_left_out(monkeypatch):
    from quantlab.bench import rows as module

    monkeypatch.setattr(module, "VARIANTS", (Row("same", "rtn", {"compensation": "off"}),))
    assert "same" not in rows()


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(RecipeError) as caught:
        chosen(["rtn", "magic"])
    assert "magic" in caught.value.problem
    assert "quarot" in caught.value.remedy


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({}, False),
        ({"smoothing": 0.5}, True),
        ({"rotation": "hadamard"}, False),
        ({"rotation": "hadamard", "smoothing": 0.5, "smoothing_order": "after"}, False),
        ({"rotation": "hadamard", "smoothing": 0.5, "smoothing_order": "before"}, True),
    ],
)
def test_only_what_rescales_unmixed_channels_smooths_first(settings, first):
    assert smooths_first(Recipe(defaults={"weights": 4, "activations": 4, **settings})) is first


def test_a_method_for_keys_and_values_alone_does_not_compete():
    assert comparable(rows()["rtn"].recipe(W4A4, 0), W4A4)
    assert not comparable(rows()["rotatekv"].recipe(W4A4, 0), W4A4)
