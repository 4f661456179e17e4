"""Evaluation: scores of hand-made runs against their definitions, and of a small network from end to end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from quantlab.engine.calibrate import Calibration
from quantlab.engine.evaluate import evaluate, relative_errors
from quantlab.engine.evaluation import Drift, Evaluation, Scores
from quantlab.engine.execution import Run, execute
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.engine.replay import BlockCache
from quantlab.engine.subject import Subject, subject_of
from quantlab.errors import DeviceError, JobCancelledError, NumericError, SceneError
from quantlab.geometry.scores import auc, camera_errors
from quantlab.jobs import Job
from quantlab.models.model import Model
from quantlab.models.prediction import Prediction
from quantlab.models.zoo import build_model
from quantlab.scenes.scene import Scene
from quantlab.scenes.synthetic import rooms

CONFIG = {
    "patch_size": 8,
    "aggregator": {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_register_tokens": 1},
    "vit": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return rooms(2, views=3, size=32, seed=1)


def perfect(scene: Scene) -> Run:
    """A run that predicts the truth."""
    truth = scene.truth
    assert truth is not None
    prediction = Prediction(
        np.stack(scene.images),
        truth.points,
        np.ones_like(truth.depth),
        truth.depth,
        truth.camera_from_world,
        truth.intrinsics.astype(np.float32),
    )
    return Run(None, {"depth": torch.from_numpy(truth.depth)}, prediction, 1.0)


def run_of(runs: list[Run]):
    return lambda index, job: runs[index]


def scored(scenes: list[Scene], exact: list[Run], rounded: list[Run], **options: object):
    return evaluate(scenes, run_of(exact), run_of(rounded), packed_bytes=3, full_bytes=9, **options)


def test_the_truth_itself_has_perfect_scores_and_no_drift(scenes: list[Scene]) -> None:
    runs = [perfect(scene) for scene in scenes]
    result = scored(scenes, runs, runs, icp=True)
    truth, drift = result.ground_truth, result.full_precision
    assert truth is not None
    assert (truth.auc30, truth.auc15, truth.auc5, truth.auc3) == (1, 1, 1, 1)
    assert truth.abs_rel == pytest.approx(0, abs=1e-6)
    assert truth.accuracy == pytest.approx(0, abs=1e-4)
    assert truth.completeness == pytest.approx(0, abs=1e-4)
    assert truth.normal_consistency == pytest.approx(1, abs=1e-3)
    assert drift.point_error == pytest.approx(0, abs=1e-6)
    assert drift.outputs == {"depth": 0}
    assert (result.packed_bytes, result.full_bytes, result.seconds) == (3, 9, 1.0)
    assert not result.problems


def test_depth_in_other_units_scores_alike_but_drifts_per_output(scenes: list[Scene]) -> None:
    exact = [perfect(scene) for scene in scenes]
    rounded = [
        replace(
            run,
            prediction=replace(run.prediction, depth=2 * run.prediction.depth),
            outputs={"depth": 2 * run.outputs["depth"]},
        )
        for run in exact
    ]
    result = scored(scenes, exact, rounded)
    assert result.full_precision.abs_rel == pytest.approx(0, abs=1e-6)
    assert result.full_precision.outputs["depth"] == pytest.approx(1)


def test_auc_is_taken_scene_by_scene_and_then_averaged(scenes: list[Scene]) -> None:
    exact = [perfect(scene) for scene in scenes]
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("y", 7, degrees=True).as_matrix()
    cameras = exact[0].prediction.camera_from_world.copy()
    cameras[1] = turn @ cameras[1]
    rounded = [
        replace(exact[0], prediction=replace(exact[0].prediction, camera_from_world=cameras)),
        exact[1],
    ]
    result = scored(scenes, exact, rounded)
    assert result.baseline.auc5 == 1, "full precision is scored against the truth by itself"
    rotation, translation = camera_errors(cameras, exact[0].prediction.camera_from_world)
    for degrees, found in ((30, result.full_precision.auc30), (5, result.full_precision.auc5)):
        assert found == pytest.approx((auc(rotation, translation, degrees) + 1) / 2)
    assert result.full_precision == replace(
        result.full_precision,
        **{f"auc{d}": getattr(result.ground_truth, f"auc{d}") for d in (30, 15, 5, 3)},
    )


def test_one_view_has_no_auc_and_no_truth_gives_no_scores(scenes: list[Scene]) -> None:
    one = Scene("one", scenes[0].images[:1])
    prediction = perfect(scenes[0]).prediction
    single = Prediction(
        *(
            getattr(prediction, name)[:1]
            for name in ("images", "points", "confidence", "depth", "camera_from_world", "intrinsics")
        )
    )
    run = Run(None, {}, single, 1.0)
    result = scored([one], [run], [run])
    assert result.ground_truth is None
    assert result.full_precision.auc30 is None
    assert result.full_precision.point_error == pytest.approx(0, abs=1e-6)


def test_a_collapsed_cloud_is_said_and_the_other_numbers_stay(scenes: list[Scene]) -> None:
    exact = [perfect(scene) for scene in scenes[:1]]
    flat = replace(exact[0].prediction, points=np.zeros_like(exact[0].prediction.points))
    result = scored(scenes[:1], exact, [replace(exact[0], prediction=flat)])
    assert result.full_precision.point_error is None
    assert result.full_precision.auc30 == 1
    assert len(result.problems) == 1
    assert scenes[0].name in result.problems[0]


def test_truth_of_another_size_is_said_and_cameras_are_scored_all_the_same(scenes: list[Scene]) -> None:
    large = rooms(1, views=3, size=40, seed=1)[0]
    run = perfect(scenes[0])
    result = scored([large], [run], [run])
    assert result.ground_truth is not None
    assert result.ground_truth.auc30 == 1
    assert result.ground_truth.abs_rel is None
    assert "40 x 40" in result.problems[0]


def test_relative_error_is_the_norm_of_the_difference_over_the_norm() -> None:
    y = {"a": torch.randn(4, 5), "zero": torch.zeros(3), "gone": torch.ones(1)}
    y_hat = {"a": y["a"] + 0.1, "zero": torch.full((3,), 2.0)}
    found = relative_errors(y, y_hat)
    assert set(found) == {"a", "zero"}
    assert found["a"] == pytest.approx(
        float(np.linalg.norm(np.full((4, 5), 0.1)) / np.linalg.norm(y["a"].numpy())), rel=1e-5
    )
    assert found["zero"] == pytest.approx(12**0.5)


def test_plain_data_for_json_keeps_the_field_names(scenes: list[Scene]) -> None:
    runs = [perfect(scene) for scene in scenes]
    data = scored(scenes, runs, runs).to_dict()
    assert data["ground_truth"]["auc30"] == 1
    assert data["full_precision"]["point_error"] == pytest.approx(0, abs=1e-6)
    assert data["scenes"] == [scene.name for scene in scenes]


def test_the_means_are_those_of_the_scenes_one_by_one(scenes: list[Scene]) -> None:
    runs = [perfect(scene) for scene in scenes]
    prediction = runs[1].prediction
    assert prediction is not None
    drifted = replace(runs[1], prediction=replace(prediction, depth=prediction.depth**1.1))
    found = evaluate(scenes, run_of(runs), run_of([runs[0], drifted]), packed_bytes=1, full_bytes=2)
    assert found.ground_truth is not None
    assert tuple(scene.name for scene in found.by_scene) == found.scenes
    errors = [scene.truth["abs_rel"] for scene in found.by_scene]
    assert errors[0] == 0 < errors[1]
    assert found.ground_truth.abs_rel == pytest.approx(np.mean(errors))
    assert found.full_precision.abs_rel == pytest.approx(
        np.mean([scene.drift["abs_rel"] for scene in found.by_scene])
    )


def test_no_scene_is_refused() -> None:
    with pytest.raises(SceneError):
        scored([], [], [])


# -- a small network from end to end ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    network = build_model("vggt", CONFIG)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1 and "token" not in name:
            torch.nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5)
    with torch.no_grad():
        network.camera_head.pose_branch.fc2.bias.copy_(torch.tensor([0.1, 0, 0, 0, 0, 0, 0.25, 0.3, 0.3]))
    return subject_of(Model(network, name="tiny"))


def quantizer_of(subject: Subject, recipe: Recipe) -> Quantizer:
    quantizer = Quantizer(subject.network, subject.structure, Calibration())
    quantizer.apply(recipe)
    return quantizer


def evaluated(
    subject: Subject,
    quantizer: Quantizer,
    scenes: list[Scene],
    cache: BlockCache | None = None,
    job: Job | None = None,
):
    values = [subject.prepare(scene) for scene in scenes]
    return evaluate(
        scenes,
        lambda index, job: execute(subject, quantizer.reference, values[index], job=job),
        lambda index, job: execute(
            subject, quantizer.network, values[index], cache=cache, states=quantizer.states(), job=job
        ),
        packed_bytes=quantizer.packed_bytes,
        full_bytes=1,
        job=job,
    )


def test_full_precision_has_no_drift_and_fewer_bits_drift_more(subject: Subject, scenes: list[Scene]) -> None:
    errors = {}
    for bits in (16, 8, 2):
        recipe = Recipe.preset("rtn", weights=bits, activations=bits)
        errors[bits] = evaluated(subject, quantizer_of(subject, recipe), scenes).full_precision.outputs
    assert set(errors[16]) == {"pose_enc", "depth", "depth_conf", "world_points", "world_points_conf"}
    assert all(error == 0 for error in errors[16].values())
    for name, error in errors[8].items():
        assert 0 < error < errors[2][name]


def test_scores_with_the_block_cache_are_those_without(subject: Subject, scenes: list[Scene]) -> None:
    quantizer, cache = quantizer_of(subject, Recipe.preset("rtn", weights=4, activations=4)), BlockCache()
    for recipe in (
        Recipe.preset("rtn", weights=4, activations=4),
        Recipe.preset("rtn", weights=4, activations=4).set("*global_blocks.1.mlp.fc2", keep=True),
        Recipe.preset("quarot", weights=4, activations=4),
    ):
        quantizer.apply(recipe)
        cached = evaluated(subject, quantizer, scenes, cache)
        plain = evaluated(subject, quantizer, scenes)
        assert cached.full_precision == plain.full_precision
        assert cached.ground_truth == plain.ground_truth
        assert plain.replayed == 0
    assert evaluated(subject, quantizer, scenes, cache).replayed > 0


def test_progress_names_scene_and_block_and_never_goes_back(subject: Subject, scenes: list[Scene]) -> None:
    seen: list[tuple[float, str]] = []
    job = Job(lambda job: seen.append((job.fraction, job.progress.text)))
    evaluated(subject, quantizer_of(subject, Recipe.preset("rtn")), scenes, job=job)
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert any("global_blocks.1" in text for _, text in seen)
    assert any(scenes[1].name in text for _, text in seen)


def test_a_cancelled_evaluation_stops_inside_a_forward_and_leaves_the_network_as_it_was(
    subject: Subject, scenes: list[Scene]
) -> None:
    quantizer = quantizer_of(subject, Recipe.preset("rtn", weights=4, activations=4))
    job = Job(lambda job: job.cancel() if "frame_blocks.1" in job.progress.text else None)
    with pytest.raises(JobCancelledError):
        evaluated(subject, quantizer, scenes, BlockCache(), job)
    for network in (quantizer.network, quantizer.reference):
        assert not any(m._forward_pre_hooks or "forward" in m.__dict__ for m in network.modules())
    assert evaluated(subject, quantizer, scenes).scenes == tuple(scene.name for scene in scenes)


@pytest.mark.bad_input
def test_a_nan_on_the_way_names_the_first_layer_that_made_it() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    with torch.no_grad():
        network[1].bias[0] = float("nan")
    with pytest.raises(NumericError) as caught:
        execute(subject_of(network), network, torch.ones(2, 3))
    assert caught.value.place == "output of 1"


@pytest.mark.bad_input
def test_out_of_memory_is_explained_and_the_next_run_works() -> None:
    class Hungry(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 4:
                raise MemoryError
            return super().forward(x)

    network = nn.Sequential(Hungry(3, 3))
    subject = subject_of(network)
    with pytest.raises(DeviceError, match=r"9, 3") as caught:
        execute(subject, network, torch.ones(9, 3))
    assert caught.value.remedy
    assert execute(subject, network, torch.ones(2, 3)).outputs["output"].shape == (2, 3)


@pytest.mark.parametrize(
    ("point_error", "truth", "told"),
    [
        (0.0065, Scores(auc30=0.95), "point error 0.65 % of the scene, AUC@30 0.950, 2 of 4 MB, scenes 1"),
        (None, None, "outputs off by up to 30 %, 2 of 4 MB, scenes 1"),
    ],
)
def test_an_evaluation_shows_itself_in_one_line(point_error, truth, told) -> None:
    drift = Drift(point_error, None, None, None, None, None, outputs={"a": 0.1, "b": 0.3})
    shown = repr(Evaluation(truth, drift, 1.0, 2_000_000, 4_000_000, scenes=("room",)))
    assert shown == f"Evaluation({told})"
