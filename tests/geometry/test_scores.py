"""Scores against the published numbers (golden/metrics.safetensors) and against laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.spatial.transform import Rotation

from quantlab.errors import NumericError
from quantlab.geometry import (
    auc,
    camera_errors,
    cloud_scores,
    completion_ratio,
    depth_scores,
    paired_errors,
    point_error,
)

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "metrics.safetensors")
CASES = ("sharp", "blurred", "flipped", "pair")


def poses(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    full = np.tile(np.eye(4), (count, 1, 1))
    full[:, :3, :3] = Rotation.random(count, rng=rng).as_matrix()
    full[:, :3, 3] = rng.normal(size=(count, 3))
    return full


@pytest.mark.parametrize("case", CASES)
def test_camera_errors_are_the_published_ones(case):
    rotation, translation = camera_errors(
        GOLDEN[f"{case}.camera.in.pred_camera_from_world"], GOLDEN[f"{case}.camera.in.gt_camera_from_world"]
    )
    np.testing.assert_allclose(rotation, GOLDEN[f"{case}.camera.out.rotation_error_deg"], rtol=0, atol=1e-2)
    np.testing.assert_allclose(
        translation, GOLDEN[f"{case}.camera.out.translation_error_deg"], rtol=0, atol=1e-2
    )
    for threshold in (30, 15, 5, 3):
        assert auc(rotation, translation, threshold) == pytest.approx(
            GOLDEN[f"{case}.camera.out.auc{threshold}"].item(), abs=1e-12
        )


@pytest.mark.parametrize("case", CASES)
def test_cloud_scores_are_the_published_ones(case):
    inputs = [GOLDEN[f"{case}.cloud.in.{name}"] for name in ("pred", "gt", "pred_normals", "gt_normals")]
    scores = cloud_scores(*inputs)
    for name in ("accuracy", "completeness", "nc1", "nc2"):
        assert getattr(scores, name) == pytest.approx(
            GOLDEN[f"{case}.cloud.out.{name}_mean"].item(), abs=1e-6
        )
        median = getattr(scores, f"{name}_median")
        assert median == pytest.approx(GOLDEN[f"{case}.cloud.out.{name}_median"].item(), abs=1e-6)
    assert scores.normal_consistency == pytest.approx((scores.nc1 + scores.nc2) / 2)
    assert scores.normal_consistency_median == pytest.approx((scores.nc1_median + scores.nc2_median) / 2)
    ratio = GOLDEN[f"{case}.cloud.out.completion_ratio_0.05"].item()
    assert completion_ratio(inputs[0], inputs[1]) == pytest.approx(ratio, abs=1e-6)


def test_clouds_without_normals_have_no_normal_consistency():
    cloud = np.random.default_rng(0).normal(size=(20, 3))
    scores = cloud_scores(cloud, cloud)
    assert scores.accuracy == scores.completeness == 0
    assert scores.normal_consistency is scores.nc1 is scores.nc2 is scores.normal_consistency_median is None


def test_turning_the_world_changes_no_camera_error():
    predicted, truth = poses(5, 1), poses(5, 2)
    world = poses(1, 3)[0]
    for ours, theirs in zip(
        camera_errors(predicted, truth), camera_errors(predicted @ world, truth @ world), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_scaling_the_translations_changes_no_camera_error():
    truth = poses(5, 4)
    larger = truth.copy()
    larger[:, :3, 3] *= 7.5
    rotation, translation = camera_errors(larger, truth)
    np.testing.assert_allclose(rotation, 0, atol=1e-6)
    np.testing.assert_allclose(translation, 0, atol=1e-5)


def test_a_known_turn_of_one_camera_is_the_rotation_error_of_its_pairs():
    truth, angle = poses(3, 5), 0.01
    predicted = truth.copy()
    predicted[2, :3, :3] = Rotation.from_rotvec([0, np.radians(angle), 0]).as_matrix() @ truth[2, :3, :3]
    np.testing.assert_allclose(camera_errors(predicted, truth)[0], [0, angle, angle], atol=1e-8)


def test_a_zero_baseline_counts_ninety_degrees():
    truth = np.tile(np.eye(4), (2, 1, 1))
    predicted = truth.copy()
    predicted[1, 0, 3] = 1.0
    for pair in ((predicted, truth), (truth, predicted), (truth, truth)):
        assert camera_errors(*pair)[1].tolist() == [90.0]


def test_three_rows_of_a_pose_are_enough_and_one_camera_has_no_pairs():
    predicted, truth = poses(4, 6), poses(4, 7)
    np.testing.assert_array_equal(
        camera_errors(predicted[:, :3], truth[:, :3]), camera_errors(predicted, truth)
    )
    assert camera_errors(truth[:1], truth[:1])[0].size == 0


def test_auc_is_the_mean_of_the_cumulative_shares_counted_by_hand():
    errors = np.array([0.0, 0.999, 1.0, 2.5, 3.0, 40.0])
    shares = [np.mean(errors < 1), np.mean(errors < 2), np.mean(errors <= 3)]
    assert auc(errors, np.zeros(6), 3) == pytest.approx(np.mean(shares))
    assert auc(np.zeros(6), errors, 3) == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("threshold", [0, -1, 2.5, True])
def test_a_threshold_that_is_no_number_of_degrees_is_refused(threshold):
    with pytest.raises(NumericError, match="threshold"):
        auc([1.0], [1.0], threshold)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p[:3], "do not pair"),
        (lambda p: p * 2, "not a rotation"),
        (lambda p: p * np.array([[-1.0], [1], [1], [1]]), "not a rotation"),
        (lambda p: np.where(p == p[1, 0, 3], np.nan, p), "NaN"),
        (lambda p: p[0], "shape"),
    ],
)
def test_poses_that_cannot_be_compared_are_refused(damage, words):
    with pytest.raises(NumericError, match=words):
        camera_errors(damage(poses(4, 8)), poses(4, 9))


def test_a_scaled_depth_is_perfect_after_the_median_and_wrong_before():
    truth = np.random.default_rng(0).uniform(1, 4, (2, 5, 6))
    scores = depth_scores(truth / 2, truth)
    assert scores.scale == pytest.approx(2)
    assert scores.abs_rel == pytest.approx(0, abs=1e-12)
    assert scores.delta_1_25 == 1
    assert scores.abs_rel_unaligned == pytest.approx(0.5)
    assert scores.delta_1_25_unaligned == 0


def test_pixels_without_true_depth_or_outside_the_mask_do_not_count():
    truth = np.full((1, 2, 2), 2.0)
    predicted = truth.copy()
    truth[0, 0, 0], predicted[0, 0, 0] = np.nan, 9
    truth[0, 0, 1], predicted[0, 0, 1] = 0, np.inf
    predicted[0, 1, 0] = np.nan
    mask = np.array([[[True, True], [False, True]]])
    assert depth_scores(predicted, truth, mask).abs_rel == 0
    with pytest.raises(NumericError, match="not finite"):
        depth_scores(predicted, truth)
    with pytest.raises(NumericError, match="no pixel"):
        depth_scores(predicted, truth * np.nan)
    with pytest.raises(NumericError, match="do not pair"):
        depth_scores(predicted[:, :1], truth)


def test_a_depth_behind_the_camera_is_never_within_the_factor():
    truth = np.full((1, 1, 4), 2.0)
    predicted = np.array([[[2.0, 2.0, 2.0, -2.0]]])
    assert depth_scores(predicted, truth).delta_1_25 == 0.75


def test_the_point_error_ignores_a_similarity_and_scales_with_the_noise():
    rng = np.random.default_rng(0)
    cloud = rng.uniform(size=(2, 20, 20, 3))
    turn = Rotation.random(rng=rng).as_matrix()
    moved = 3 * cloud @ turn.T + [1, 2, 3]
    assert point_error(moved, cloud) < 1e-12
    noise = rng.normal(size=cloud.shape)
    small, large = (point_error(moved + size * noise, cloud) for size in (0.003, 0.006))
    assert large == pytest.approx(2 * small, rel=0.02)
    # a uniform unit cube has a 5-95 % diagonal of 0.9 sqrt(3); the mean length of a normal 3-vector is 1.596
    assert small == pytest.approx(0.001 * 1.596 / (0.9 * np.sqrt(3)), rel=0.05)


def test_the_point_error_is_the_mean_of_the_heat_map_inside_the_mask():
    rng = np.random.default_rng(1)
    cloud = rng.normal(size=(1, 8, 9, 3))
    other = cloud + 0.1 * rng.normal(size=cloud.shape)
    mask = rng.random((1, 8, 9)) < 0.5
    assert point_error(other, cloud, mask) == pytest.approx(paired_errors(other, cloud, mask)[mask].mean())
    other[~mask] = np.nan
    assert np.isfinite(point_error(other, cloud, mask))
    with pytest.raises(NumericError, match="not finite"):
        point_error(other, cloud)
    with pytest.raises(NumericError):
        point_error(cloud, cloud, np.zeros_like(mask))
