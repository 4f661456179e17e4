"""The published scores of cameras, clouds and depth, in numpy. They align nothing unless they say so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantlab.errors import NumericError
from quantlab.geometry.alignment import umeyama
from quantlab.geometry.cameras import FloatArray, as_poses, invert, relative_to_first
from quantlab.geometry.clouds import as_cloud, diagonal, nearest, valid_mask

BASELINE_EPS = 1e-15
"""The published code adds this to a baseline before dividing, so that a zero baseline counts 90 degrees."""


@dataclass(frozen=True, slots=True)
class CloudScores:
    """How two clouds fit: distances in their units, normals as |cos| (1 is best), None without normals.

    ``accuracy`` is prediction -> truth, ``completeness`` truth -> prediction; ``nc1`` and ``nc2`` go the
    same ways and ``normal_consistency`` is their mean. Plain names are means over points.
    """

    accuracy: float
    completeness: float
    accuracy_median: float
    completeness_median: float
    normal_consistency: float | None = None
    normal_consistency_median: float | None = None
    nc1: float | None = None
    nc2: float | None = None
    nc1_median: float | None = None
    nc2_median: float | None = None


@dataclass(frozen=True, slots=True)
class DepthScores:
    """AbsRel and the share of pixels within a factor of 1.25, with one ``scale`` a scene and without."""

    abs_rel: float
    delta_1_25: float
    abs_rel_unaligned: float
    delta_1_25_unaligned: float
    scale: float


def camera_errors(predicted: ArrayLike, truth: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Measure the relative poses of all pairs of cameras i < j, in the order (0, 1), (0, 2) ... (1, 2) ...

    Both sets are first expressed relative to their first camera. The relative pose is inv(E_i) E_j of
    camera_from_world: not the physical one, but what all published numbers use. The translation error is
    the angle between directions whose sign is ignored, so at most 90 degrees; a zero baseline counts 90.

    Args:
        predicted: [S, 4, 4] or [S, 3, 4] camera_from_world.
        truth: The same shape.

    Returns:
        Rotation and translation errors in degrees, each [S (S - 1) / 2]; empty for one camera.

    Raises:
        NumericError: The counts differ, a value is not finite, or a rotation is not one.

    Source:
        The evaluation of VGGT on CO3Dv2 and RealEstate10K (arXiv:2503.11651), as published.
    """
    estimate, exact = as_poses(predicted, "predicted cameras"), as_poses(truth, "true cameras")
    if len(estimate) != len(exact):
        raise NumericError(
            f"{len(estimate)} predicted cameras and {len(exact)} true ones do not pair",
            place="camera_errors",
            remedy="Give one pose a frame in both.",
        )
    first, second = np.triu_indices(len(exact), k=1)
    estimate, exact = (_pair_poses(poses, first, second) for poses in (estimate, exact))
    rotation = rotation_angles(estimate[:, :3, :3], exact[:, :3, :3])
    translation = _direction_angles(estimate[:, :3, 3], exact[:, :3, 3])
    return rotation, translation


def auc(rotation: ArrayLike, translation: ArrayLike, threshold: int) -> float:
    """Area under the recall curve of pose errors up to ``threshold`` degrees, in 0..1.

    A pair's error is the larger of the two. Errors are counted in bins [k, k + 1), the last one closed;
    the area is the mean of the cumulative shares. Errors of several scenes may be concatenated.

    Args:
        rotation: [P] degrees.
        translation: [P] degrees.
        threshold: Whole degrees, at least 1.

    Raises:
        NumericError: No pairs, unequal lengths, an error that is not finite, or a threshold that is not a
            whole number.

    Source:
        The evaluation of VGGT (arXiv:2503.11651), after PoseDiffusion; AUC@30, @15, @5, @3.
    """
    turn, shift = (np.asarray(errors, dtype=np.float64).ravel() for errors in (rotation, translation))
    if isinstance(threshold, bool) or threshold != int(threshold) or threshold < 1:
        raise NumericError(
            f"{threshold} is not a threshold", place="auc", remedy="Give whole degrees from 1."
        )
    if turn.shape != shift.shape or turn.size == 0:
        raise NumericError(
            f"{turn.size} rotation and {shift.size} translation errors do not make pairs",
            place="auc",
            remedy="Give both errors of at least one pair of cameras.",
        )
    worst = np.maximum(turn, shift)
    if not np.isfinite(worst).all():
        raise NumericError("an error is not finite", place="auc", remedy="Look for the layer that overflows.")
    counts, _ = np.histogram(worst, bins=np.arange(int(threshold) + 1))
    return float(np.mean(np.cumsum(counts / worst.size)))


def cloud_scores(
    predicted: ArrayLike,
    truth: ArrayLike,
    predicted_normals: ArrayLike | None = None,
    truth_normals: ArrayLike | None = None,
) -> CloudScores:
    """Compare two unpaired clouds as they are: no alignment, crop or ICP inside.

    Args:
        predicted: [N, 3].
        truth: [M, 3], same frame and units.
        predicted_normals: [N, 3] unit vectors of any sign.
        truth_normals: [M, 3]; normal consistency is None unless both are given.

    Raises:
        NumericError: A cloud is empty or not finite, or normals do not match their cloud.

    Source:
        The 7-Scenes, NRGBD and DTU evaluations of DUSt3R's successors (Spann3R, CUT3R), as published.
    """
    predicted, truth = as_cloud(predicted, "predicted cloud"), as_cloud(truth, "true cloud")
    to_truth, truth_index = nearest(predicted, truth)
    to_predicted, predicted_index = nearest(truth, predicted)
    distances = {
        "accuracy": float(to_truth.mean()),
        "completeness": float(to_predicted.mean()),
        "accuracy_median": float(np.median(to_truth)),
        "completeness_median": float(np.median(to_predicted)),
    }
    if predicted_normals is None or truth_normals is None:
        return CloudScores(**distances)
    ours = _matching_normals(predicted_normals, predicted, "predicted normals")
    theirs = _matching_normals(truth_normals, truth, "true normals")
    forth = np.abs((ours * theirs[truth_index]).sum(axis=1))
    back = np.abs((theirs * ours[predicted_index]).sum(axis=1))
    means, medians = (forth.mean(), back.mean()), (np.median(forth), np.median(back))
    return CloudScores(
        **distances,
        normal_consistency=float(sum(means) / 2),
        normal_consistency_median=float(sum(medians) / 2),
        nc1=float(means[0]),
        nc2=float(means[1]),
        nc1_median=float(medians[0]),
        nc2_median=float(medians[1]),
    )


def completion_ratio(predicted: ArrayLike, truth: ArrayLike, distance: float = 0.05) -> float:
    """Share of the true points [M, 3] with a predicted point [N, 3] closer than ``distance``."""
    return float(np.mean(nearest(truth, predicted)[0] < distance))


def depth_scores(predicted: ArrayLike, truth: ArrayLike, mask: ArrayLike | None = None) -> DepthScores:
    """Compare the depth maps of one scene, after one scale median(truth / predicted) for all its frames.

    Args:
        predicted: [S, H, W] depth.
        truth: [S, H, W]; where it is not finite or not positive there is no truth.
        mask: [S, H, W] bool, to restrict further.

    Raises:
        NumericError: The shapes differ, no pixel has truth, or a compared prediction is not finite.
    """
    estimate, exact = _compared_depths(predicted, truth, mask)
    with np.errstate(divide="ignore"):
        scale = float(np.median(exact / estimate))
    if not np.isfinite(scale):
        raise NumericError(
            "most predicted depths are zero",
            place="depth",
            remedy="Look for the layer that collapses the output.",
        )
    return DepthScores(*_depth_pair(scale * estimate, exact), *_depth_pair(estimate, exact), scale)


def point_error(quantized: ArrayLike, full_precision: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Mean distance of paired points after Sim(3), as a share of the full-precision cloud's 5-95 % diagonal.

    Args:
        quantized: [..., 3] point map.
        full_precision: [..., 3] the same pixels at full precision.
        mask: [...] bool, the pixels to align and average over; all by default.

    Raises:
        NumericError: The maps do not pair, a point in the mask is not finite, or a cloud is degenerate.
    """
    errors = paired_errors(quantized, full_precision, mask)
    if np.array_equal(quantized, full_precision):
        return 0.0  # what is left is the rounding of the alignment
    return float(errors.mean() if mask is None else errors[np.asarray(mask, dtype=bool)].mean())


def paired_errors(
    quantized: ArrayLike, full_precision: ArrayLike, mask: ArrayLike | None = None
) -> FloatArray:
    """Return every pixel's share [...] in ``point_error`` (the heat map), outside the mask too."""
    ours, reference = (np.asarray(points, dtype=np.float64) for points in (quantized, full_precision))
    finite = valid_mask(ours, reference)
    kept = np.ones_like(finite) if mask is None else np.asarray(mask, dtype=bool)
    if kept.shape != finite.shape or not finite[kept].all():
        raise NumericError(
            "a compared point is not finite, or the mask has another size",
            place="point error",
            remedy="Mask these points, or look for the layer that overflows.",
        )
    motion = umeyama(ours[kept], reference[kept])
    size = diagonal(reference[kept])
    return np.asarray(np.linalg.norm(motion.apply(ours) - reference, axis=-1) / size, dtype=np.float64)


def rotation_angles(first: FloatArray, second: FloatArray) -> FloatArray:
    """Angle in degrees between rotations [..., 3, 3]; exact near 0 and near 180, where an arccos is not."""
    turn = np.swapaxes(first, -1, -2) @ second
    axis = np.stack(
        [
            turn[..., 2, 1] - turn[..., 1, 2],
            turn[..., 0, 2] - turn[..., 2, 0],
            turn[..., 1, 0] - turn[..., 0, 1],
        ]
    )
    cosine = np.trace(turn, axis1=-2, axis2=-1) - 1.0
    return np.asarray(np.degrees(np.arctan2(np.linalg.norm(axis, axis=0), cosine)), dtype=np.float64)


def _pair_poses(poses: FloatArray, first: NDArray[np.intp], second: NDArray[np.intp]) -> FloatArray:
    relative = relative_to_first(poses)
    pairs = invert(relative[first]) @ relative[second]
    # written as a difference so that two equal translations give exactly zero
    shift = relative[second, :3, 3] - relative[first, :3, 3]
    pairs[:, :3, 3] = np.einsum("pji,pj->pi", relative[first, :3, :3], shift)
    return np.asarray(pairs, dtype=np.float64)


def _direction_angles(first: FloatArray, second: FloatArray) -> FloatArray:
    first, second = (
        shift / (np.linalg.norm(shift, axis=1, keepdims=True) + BASELINE_EPS) for shift in (first, second)
    )
    cosine = np.abs((first * second).sum(axis=1))
    # an arctan2 would be exact near zero, but would give a vanishing baseline a direction that it has not
    return np.asarray(np.degrees(np.arccos(np.minimum(cosine, 1.0))), dtype=np.float64)


def _matching_normals(normals: ArrayLike, points: FloatArray, what: str) -> FloatArray:
    vectors = as_cloud(normals, what)
    if vectors.shape != points.shape:
        raise NumericError(
            f"{len(vectors)} normals do not match {len(points)} points",
            place=what,
            remedy="Give one a point.",
        )
    return vectors


def _compared_depths(
    predicted: ArrayLike, truth: ArrayLike, mask: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    estimate, exact = (np.asarray(depth, dtype=np.float64) for depth in (predicted, truth))
    allowed = np.ones(exact.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if not estimate.shape == exact.shape == allowed.shape:
        raise NumericError(
            "depth maps of different sizes do not pair", place="depth", remedy="Give one size."
        )
    kept = allowed & np.isfinite(exact) & (exact > 0)
    if not kept.any():
        raise NumericError("no pixel has a true depth", place="depth", remedy="Widen the mask.")
    if not np.isfinite(estimate[kept]).all():
        raise NumericError(
            "a predicted depth is not finite", place="depth", remedy="Look for the layer that overflows."
        )
    return estimate[kept], exact[kept]


def _depth_pair(estimate: FloatArray, exact: FloatArray) -> tuple[float, float]:
    abs_rel = np.mean(np.abs(estimate - exact) / exact)
    # a depth of zero or behind the camera is never within the factor
    close = (estimate > 0) & (np.maximum(estimate, exact) < 1.25 * np.minimum(estimate, exact))
    return float(abs_rel), float(np.mean(close))
