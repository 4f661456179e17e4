"""Two predictions of a comparison as the bytes the viewer takes. It aligns nothing and chooses no side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.viewer.pack import CameraData, CloudData, pack_clouds

if TYPE_CHECKING:
    from quantlab.engine.comparison import Comparison
    from quantlab.models.prediction import Prediction

SIDES = {"full": "full precision", "now": "quantized", "former": "former", "truth": "ground truth"}
"""The sides by the names the viewer colours them by."""


def pair_of_clouds(
    comparison: Comparison,
    left: Prediction | None,
    right: Prediction | None,
    *,
    scene: str,
    limit: int,
    labels: tuple[str, str] = (SIDES["full"], SIDES["now"]),
) -> bytes:
    """Two clouds in one frame, coloured by errors whose scale stays as long as the errors stay of one size.

    Args:
        comparison: Gives the frame, the size of the scene, the errors and the truth.
        left: A prediction aligned to the comparison's left one; None: the truth.
        right: Likewise.
        scene: The viewer keeps its camera as long as this stays the same.
        limit: Points of a cloud; beyond it an even sample is shown, and the viewer says how many.
        labels: What the sides are called.
    """
    size = comparison.scale
    top = size * _nice(float(np.nanpercentile(comparison.errors, 99)) / size)
    sides = (_cloud(comparison, left), _cloud(comparison, right))
    return pack_clouds(*sides, error_max=top, size=size, labels=labels, scene=scene, limit=limit).data


def _nice(share: float) -> float:
    """The end of the error scale as a share of the scene: 1, 2 or 5 times a power of ten, to stay as errors change."""
    wanted = max(share, 1e-4)
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= wanted))


def _cloud(comparison: Comparison, prediction: Prediction | None) -> CloudData:
    """A prediction as the viewer takes it; None is the truth: the left one's pixels in their colours, no cameras."""
    shown = prediction or comparison.left
    points = shown.points if prediction is not None else comparison.truth
    frames, height, width = shown.points.shape[:3]
    cameras = CameraData(shown.camera_from_world, shown.intrinsics, (width, height))
    frame: NDArray[np.integer[Any]] = np.repeat(np.arange(frames), height * width)
    return CloudData(
        points=np.asarray(points, np.float32).reshape(-1, 3),
        colors=shown.images.reshape(-1, 3),
        confidence=shown.confidence.reshape(-1),
        frame=frame,
        cameras=cameras if prediction is not None else None,
    )
