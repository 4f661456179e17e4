"""The published protocol for dense point maps: crop, mask, Sim(3), ICP, normals, scores. Not for live use."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from quantlab.errors import MissingLibraryError, NumericError
from quantlab.geometry.alignment import umeyama
from quantlab.geometry.clouds import central_crop, icp, normals, open3d, valid_mask
from quantlab.geometry.registration import local_normals, rigid_icp
from quantlab.geometry.scores import CloudScores, cloud_scores


def reconstruction_scores(
    points: ArrayLike,
    truth_points: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    crop: int = 224,
    threshold: float = 0.1,
    max_points: int = 999_999,
    seed: int = 0,
    with_open3d: bool = True,
) -> CloudScores:
    """Score a predicted point map against the true one, as 7-Scenes and NRGBD tables are computed.

    Keeps the central pixels of every frame that are valid in both maps, at most ``max_points`` of them
    (drawn evenly at random), aligns by Umeyama on the pairs, refines by ICP, estimates normals, compares.

    Args:
        points: [S, H, W, 3] predicted, any frame and scale.
        truth_points: [S, H, W, 3] true, metres or scene units.
        mask: [S, H, W] bool: where the truth is valid; not finite points are left out in any case.
        crop: Side of the central square in pixels; sides shorter than that stay whole.
        threshold: Largest distance of an ICP pair, in the truth's units.
        max_points: Pairs kept at most.
        seed: Of the draw when there are more.
        with_open3d: ICP and normals by open3d, as published; False: by numpy after open3d's defaults, which agrees to
            rounding.

    Raises:
        NumericError: The maps do not pair, or leave a degenerate cloud.
        MissingLibraryError: open3d is absent or cannot be loaded.

    Source:
        The 7-Scenes and NRGBD harness shared by CUT3R, VGGT's comparisons and TAPTQ (arXiv:2602.01741).
    """
    predicted, truth = (np.asarray(maps, dtype=np.float64) for maps in (points, truth_points))
    if truth.ndim != 4:
        raise NumericError(
            f"a point map has shape {list(truth.shape)}", place="truth", remedy="Give an array [S, H, W, 3]."
        )
    kept = central_crop(valid_mask(predicted, truth, mask=mask), crop)
    source, target = central_crop(predicted, crop)[kept], central_crop(truth, crop)[kept]
    if len(source) > max_points:
        drawn = np.random.default_rng(seed).choice(len(source), max_points, replace=False)
        source, target = source[drawn], target[drawn]
    aligned = umeyama(source, target).apply(source)
    refine, estimate = (icp, normals) if with_open3d else (rigid_icp, local_normals)
    motion = refine(aligned, target, threshold)
    aligned = aligned @ motion[:3, :3].T + motion[:3, 3]
    return cloud_scores(aligned, target, estimate(aligned), estimate(target))


def has_open3d() -> bool:
    """Whether open3d can be loaded."""
    try:
        open3d()
    except MissingLibraryError:
        return False
    return True
