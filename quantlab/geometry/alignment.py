"""The similarity between two paired clouds in closed form (Umeyama). Not ICP: the pairs are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from quantlab.errors import NumericError
from quantlab.geometry.cameras import FloatArray

ROUND_OFF = 1e-12
"""Extent, relative to coordinates and other axes, below which float64 no longer knows a cloud's shape."""
LARGEST = 1e100
"""Coordinates beyond this are refused: their squares leave float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Sim3:
    """target = scale * rotation @ source + translation.

    Attributes:
        scale: Positive.
        rotation: [3, 3], det 1.
        translation: [3].
    """

    scale: float
    rotation: FloatArray
    translation: FloatArray

    def apply(self, points: ArrayLike) -> FloatArray:
        """Move points [..., 3] from the source frame into the target frame."""
        moved = np.asarray(points, dtype=np.float64) @ self.rotation.T
        return np.asarray(self.scale * moved + self.translation, dtype=np.float64)

    def inverse(self) -> Sim3:
        """Return the similarity from the target frame back into the source frame."""
        back = self.rotation.T / self.scale
        return Sim3(1.0 / self.scale, self.rotation.T, -back @ self.translation)

    @property
    def matrix(self) -> FloatArray:
        """The same as a homogeneous [4, 4] matrix."""
        full = np.eye(4)
        full[:3, :3] = self.scale * self.rotation
        full[:3, 3] = self.translation
        return full


def umeyama(source: ArrayLike, target: ArrayLike, weights: ArrayLike | None = None) -> Sim3:
    """Find the similarity that brings ``source`` onto ``target`` with the smallest sum of squared distances.

    A mirrored target is answered by the best proper rotation, never by a reflection.

    Args:
        source: [N, 3] points, at least three and not on one line.
        target: [N, 3] their partners, in the same order.
        weights: [N] non-negative weights of the pairs; all equal without.

    Raises:
        NumericError: The shapes do not pair, a value is not finite, or the clouds do not fix a similarity
            (fewer than three points with weight, all points equal or on one line).

    Source:
        Umeyama 1991, equations 34-43, with the sign of the last singular vector from equation 43.
    """
    source, target, share = _checked(source, target, weights)
    source_mean, target_mean = share @ source, share @ target
    source_offset, target_offset = source - source_mean, target - target_mean
    source_spread, target_spread = (
        _spread(source, source_offset, share),
        _spread(target, target_offset, share),
    )
    covariance = (target_offset * share[:, None]).T @ source_offset
    left, stretch, right = np.linalg.svd(covariance)
    if not stretch[1] > ROUND_OFF * np.sqrt(source_spread * target_spread):
        raise _degenerate()
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    scale = float(stretch @ signs) / source_spread
    return Sim3(scale, rotation, target_mean - scale * rotation @ source_mean)


def _spread(points: FloatArray, offsets: FloatArray, share: FloatArray) -> float:
    """Mean squared distance from the centre; refused where round-off alone would give as much."""
    spread = float(share @ (offsets**2).sum(axis=1))
    if not spread > (ROUND_OFF * np.abs(points).max()) ** 2:
        raise _degenerate()
    return spread


def _degenerate() -> NumericError:
    return NumericError(
        "the clouds do not fix a similarity: their points are equal or on one line",
        place="alignment",
        remedy="Widen the mask, or look for the layer that collapses the output.",
    )


def _checked(
    source: ArrayLike, target: ArrayLike, weights: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.ndim != 2 or source.shape[1] != 3 or source.shape != target.shape:
        raise NumericError(
            f"clouds of shapes {list(source.shape)} and {list(target.shape)} do not pair",
            place="alignment",
            remedy="Give two arrays [N, 3] of the same length.",
        )
    share = np.ones(len(source)) if weights is None else np.asarray(weights, dtype=np.float64)
    if share.shape != (len(source),) or not np.isfinite(share).all() or (share < 0).any():
        raise NumericError(
            "the weights are not one finite, non-negative number a point",
            place="alignment",
            remedy=f"Give {len(source)} weights, or none.",
        )
    if np.count_nonzero(share) < 3:
        raise NumericError(
            f"only {np.count_nonzero(share)} points are left to align",
            place="alignment",
            remedy="Widen the mask: three points are needed.",
        )
    kept = share > 0
    source, target, share = source[kept], target[kept], share[kept] / share[kept].sum()
    # a NaN fails the comparison too
    if not (np.abs(source).max() < LARGEST and np.abs(target).max() < LARGEST):
        raise NumericError(
            "a cloud holds a NaN, an infinity or an absurdly large number",
            place="alignment",
            remedy="Mask these points, or look for the layer that overflows.",
        )
    return source, target, share
