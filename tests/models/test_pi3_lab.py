"""The whole lab on Pi3: the built-in pi3-mini is profiled, quantized, diagnosed, evaluated and compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import quantlab as ql
from quantlab.lab import Lab

CARD = Path(__file__).parents[2] / "assets" / "pi3-mini.json"


@pytest.fixture(scope="module")
def lab() -> Lab:
    rooms = ql.rooms(2, views=3, seed=11)
    return Lab(ql.load_model("pi3-mini"), calibration=ql.rooms(1, split="calibration"), evaluation=rooms)


def test_the_card_describes_the_file_and_a_model_that_sees_across_views() -> None:
    card = json.loads(CARD.read_text())
    weights = CARD.with_suffix(".safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == card["sha256"]
    assert len(weights) == card["bytes"] <= 16_000_000
    assert card["quality"]["whole"]["auc30"] >= 0.9
    assert card["quality"]["whole"]["abs_rel"] <= 0.05
    assert card["quality"]["each frame alone"]["auc30"] <= 0.5


def test_the_profile_tells_registers_from_patches(lab: Lab) -> None:
    profile = lab.profile()
    assert set(profile.layers) == set(lab.structure.layers)
    assert set(profile.layers["decoder.3.mlp.fc1"].tokens) == {"all", "register", "patch"}
    assert {layer.stream for layer in profile.layers.values()} >= {"vit", "frame", "global", "point_decoder"}


def test_rounding_shows_in_diagnosis_scores_and_clouds(lab: Lab) -> None:
    lab.recipe = ql.Recipe.preset("rtn", weights=4, activations=4)
    diagnosis = lab.diagnose()
    assert set(diagnosis.branches) >= {f"decoder.{index}.attn" for index in range(10)}
    assert all(diagnosis.branches[f"decoder.{index}.mlp"] > 0 for index in range(10))
    coarse = lab.evaluate()
    assert coarse.baseline is not None
    assert coarse.baseline.auc30 is not None
    assert coarse.baseline.auc30 > 0.9
    assert coarse.packed_bytes < coarse.full_bytes
    lab.recipe = ql.Recipe.preset("rtn", weights=8, activations=8)
    fine = lab.evaluate()
    assert fine.full_precision.point_error is not None
    assert coarse.full_precision.point_error is not None
    assert 0 < fine.full_precision.point_error < coarse.full_precision.point_error
    comparison = lab.compare()
    assert comparison.point_error > 0
    assert comparison.left.points.shape == comparison.right.points.shape == (3, 96, 96, 3)


def test_a_rule_on_a_block_of_pi3_changes_its_layers_only(lab: Lab) -> None:
    lab.recipe = ql.Recipe.preset("full_precision")
    lab.set("decoder.5.mlp", weights=4, activations=4, compensation=True)
    planned = {name for name, layer in lab.plan().layers.items() if layer.quantized}
    assert planned == {"decoder.5.mlp.fc1", "decoder.5.mlp.fc2"}
    evaluation = lab.evaluate()
    assert evaluation.full_precision.outputs["local_points"] > 0
    assert np.isfinite(list(evaluation.full_precision.outputs.values())).all()


def test_pi3_mini_needs_the_other_views() -> None:
    model = ql.load_model("pi3-mini")
    rooms = ql.rooms(2, views=4, seed=12)
    recipe = ql.Recipe.preset("full_precision")
    scores = {}
    for across in (True, False):
        model.network.cross_frame = across
        truth = Lab(model, calibration=rooms[:1], evaluation=rooms, recipe=recipe).evaluate().ground_truth
        assert truth is not None
        assert truth.auc15 is not None
        scores[across] = truth.auc15
    assert scores[False] <= 0.5 * scores[True]
