"""The shipped weights: what the card says is what they are and do, on rooms they never saw."""

from __future__ import annotations

import hashlib
import json

import pytest

from quantlab.assets import asset
from quantlab.engine.evaluation import Scores
from quantlab.engine.recipe import Recipe
from quantlab.lab import Lab
from quantlab.models.zoo import load_model
from quantlab.scenes.synthetic import rooms

CARD = json.loads(asset("mini.json").read_text())


def scores(count: int, *, seed: int = 7, cross_frame: bool = True) -> Scores:
    model = load_model("mini")
    model.network.aggregator.cross_frame = cross_frame
    held_out = rooms(count, views=4, seed=seed)
    lab = Lab(model, calibration=held_out[:1], evaluation=held_out, recipe=Recipe.preset("full_precision"))
    truth = lab.evaluate().ground_truth
    if truth is None:
        raise AssertionError("rooms have a ground truth")
    return truth


def test_the_file_is_the_one_on_the_card_and_small_enough() -> None:
    weights = asset("mini.safetensors")
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == CARD["sha256"]
    assert weights.stat().st_size == CARD["bytes"] <= 16e6
    assert 3e6 <= CARD["parameters"] <= 8e6


def test_it_reconstructs_rooms_it_never_saw() -> None:
    found = scores(10)
    assert found.auc30 is not None
    assert found.abs_rel is not None
    assert found.auc30 >= 0.75
    assert found.abs_rel <= 0.08


def test_it_needs_the_other_frames() -> None:
    whole, alone = scores(10), scores(10, cross_frame=False)
    assert whole.auc15 is not None
    assert alone.auc15 is not None
    assert alone.auc15 <= 0.8 * whole.auc15


@pytest.mark.slow
def test_the_quality_on_the_card_is_what_one_measures() -> None:
    stated = CARD["quality"]
    found = scores(stated["rooms"], seed=stated["seed"])
    for name, value in stated["whole"].items():
        assert getattr(found, name) == pytest.approx(value, abs=0.01)
