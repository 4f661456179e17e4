"""The record of one reconstruction, in numpy. It imports no torch, so that figures and reports can use it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says about a scene of S views, in the frame of its first camera and in scene units.

    Attributes:
        images: uint8 [S, H, W, 3], the preprocessed pictures, as the network saw them.
        points: float32 [S, H, W, 3], world points: depth unprojected with the predicted cameras, or the point head's.
        confidence: float32 [S, H, W], of the head the points come from: at least 1 (VGGT) or from 0 to 1 (Pi3); only
            its order means the same everywhere.
        depth: float32 [S, H, W], along the optical axis.
        camera_from_world: float64 [S, 4, 4], OpenCV axes.
        intrinsics: float32 [S, 3, 3], in pixels of the preprocessed pictures.
    """

    images: NDArray[np.uint8]
    points: NDArray[np.float32]
    confidence: NDArray[np.float32]
    depth: NDArray[np.float32]
    camera_from_world: NDArray[np.float64]
    intrinsics: NDArray[np.float32]

    def __repr__(self) -> str:
        views, height, width = self.depth.shape
        return f"Prediction({views} views of {width} x {height})"
