"""quantlab.evaluate on loaded models: scores are those of what runs, and a missing full precision is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import quantlab as ql
from quantlab.engine import evaluate_model
from quantlab.engine.evaluate_model import source_of
from quantlab.errors import CheckpointError, SceneError
from quantlab.geometry.clouds import valid_mask
from quantlab.geometry.scores import point_error

RECIPE = ql.Recipe.preset("rtn", weights=4, activations=8)


@pytest.fixture(scope="module")
def scenes():
    return ql.rooms(1, views=2, seed=7)


@pytest.fixture(scope="module")
def lab(scenes):
    return ql.Lab(ql.load_model("mini"), calibration=scenes, evaluation=scenes, recipe=RECIPE)


@pytest.fixture(scope="module")
def folder(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "out"
    lab.export(folder, drift=False, rest="float32")
    return folder


@pytest.fixture(scope="module")
def packed(folder):
    return ql.load_model(folder)


def test_the_reference_kernel_scores_what_the_lab_evaluates(lab, folder, scenes):
    shown, found = lab.evaluate(), ql.evaluate(ql.load_model(folder, kernel="reference"), scenes)
    assert found.ground_truth == shown.ground_truth
    assert found.full_precision == shown.full_precision
    assert (found.baseline, found.by_scene, found.problems) == (shown.baseline, shown.by_scene, ())


def test_the_scores_are_those_of_the_kernels_that_predict_and_the_sizes_those_on_the_disk(
    packed, folder, lab, scenes
):
    found = ql.evaluate(packed, scenes)
    full, ran = lab.reference().prediction, packed.predict(scenes[0].images)
    expected = point_error(ran.points, full.points, valid_mask(full.points, ran.points))
    assert found.full_precision.point_error == pytest.approx(expected, rel=1e-6)
    assert found.seconds > 0 == found.replayed
    assert found.packed_bytes == sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert found.full_bytes == 2 * sum(p.numel() for p in lab.model.network.parameters())


def test_a_model_is_compared_with_any_other_of_its_kind_or_with_none(packed, scenes):
    same = ql.evaluate(packed, scenes[0], against=packed)
    assert set(same.full_precision.outputs.values()) == {0.0}
    assert same.baseline == same.ground_truth
    alone = ql.evaluate(ql.load_model("mini"), scenes)
    assert alone.problems == ("not compared with full precision: it is in full precision itself",)
    assert alone.packed_bytes == alone.full_bytes == same.full_bytes


@pytest.fixture
def moved(folder, monkeypatch):
    """Load the packed model as if it had been made from something else."""

    def load(**about):
        monkeypatch.setattr(evaluate_model, "local_file", lambda name: None)
        model = ql.load_model(folder)
        model.provenance["model"] = {**model.provenance["model"], **about}
        return model

    return load


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"name": "weights.safetensors"}, "has to be named"),
        ({"name": "vggt-1b"}, "not on this machine"),
        ({"sha256": "0" * 64}, "other weights"),
    ],
)
def test_nothing_else_is_taken_for_the_model_it_was_made_from(about, why, moved):
    found, reason = source_of(moved(**about))
    assert found is None
    assert why in reason


def test_without_the_model_it_was_made_from_there_is_only_the_truth_and_it_is_said(moved, scenes):
    model, why = moved(name="lost"), "'lost'"
    found = ql.evaluate(model, scenes)
    assert found.ground_truth.auc30 is not None
    assert (found.full_precision.point_error, found.full_precision.outputs, found.baseline) == (
        None,
        {},
        None,
    )
    assert [problem for problem in found.problems if why in problem]
    assert "AUC@30" in repr(found)
    with pytest.raises(SceneError, match=why):
        ql.evaluate(model, [replace(scenes[0], truth=None)])


def test_what_cannot_be_compared_is_refused(packed, scenes):
    with pytest.raises(CheckpointError, match="other sizes"):
        ql.evaluate(packed, scenes, against=ql.load_model("pi3-mini"))
    with pytest.raises(CheckpointError, match=r"Lab\(module\)"):
        ql.evaluate(nn.Linear(2, 2), [torch.ones(2)])
    with pytest.raises(SceneError, match="no scene"):
        ql.evaluate(packed, [])
