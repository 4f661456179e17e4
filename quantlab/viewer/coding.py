"""How numbers become few bytes for the browser: coordinates, percentiles, errors, cameras. It knows no file layout."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import NumericError

LEVELS = 32767  # codes run from -LEVELS to LEVELS
HIDDEN = -32768  # all three codes of a point that is never drawn and never picked
_SAMPLE = 200_000  # percentiles of more points than this are taken of an even sample

FloatArray = NDArray[np.float64]


def robust_box(clouds: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Find one box around several clouds [N, 3]: the 1-99 % range, wider by half its size on every side.

    Every axis gets at least a fiftieth of the longest one, so that a flat cloud still has a box.

    Returns:
        The lower and the upper corner, [3] each, in the units of the clouds.

    Raises:
        NumericError: No point is finite.
    """
    points = np.concatenate(clouds)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) == 0:
        raise NumericError("no point of the clouds is finite", place="points", remedy="Check the prediction.")
    sample = points[:: max(1, len(points) // _SAMPLE)]
    low, high = np.percentile(sample, [1, 99], axis=0)
    longest = float((high - low).max()) or 1.0
    margin = np.maximum((high - low) / 2, longest / 100)
    return low - margin, high + margin


def encode_points(
    points: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Round points [N, 3] to int16 codes in the box; a decoded point is off by at most half a step per axis.

    Returns:
        The codes [N, 3], and which points [N] are hidden because they are not finite or lie outside the box.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        real = (points - (low + high) / 2) / ((high - low) / (2 * LEVELS))
        hidden: NDArray[np.bool_] = np.asarray(~(np.abs(real) <= LEVELS).all(axis=1))
    codes = np.rint(np.where(hidden[:, None], 0.0, real)).astype(np.int16)
    codes[hidden] = HIDDEN
    return codes, hidden


def encode_confidence(confidence: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Turn confidences [N] into codes [N]: hiding the lowest p percent keeps the codes of at least 2.56 p.

    Equal confidences get one code, that of the highest rank among them, so that a constant confidence hides
    nothing rather than an arbitrary part of the picture. NaN counts as the lowest.
    """
    values = np.nan_to_num(np.asarray(confidence, np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    up_to_here = np.cumsum(counts)
    codes = (np.ceil(up_to_here * 256 / len(values)) - 1).astype(np.uint8)
    return np.asarray(codes[inverse.reshape(-1)], np.uint8)


def encode_error(error: FloatArray, top: float | None) -> tuple[NDArray[np.uint8], float]:
    """Round errors [N] to 255 equal steps from 0 to ``top`` (None: their 99th percentile); larger ones saturate.

    Returns:
        The codes [N] (what is not finite gets the largest), and the error that code 255 stands for.

    Raises:
        NumericError: ``top`` is not a positive finite number.
    """
    finite = error[np.isfinite(error)]
    if top is None:
        top = float(np.percentile(finite, 99)) if len(finite) else 0.0
        top = top if top > 0 else 1e-12
    if not (np.isfinite(top) and top > 0):
        raise NumericError(
            f"the top of the error scale is {top}", place="error_max", remedy="Give a positive number."
        )
    scaled = np.nan_to_num(error / top, nan=1.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8), top


def encode_cameras(
    camera_from_world: FloatArray, intrinsics: NDArray[np.floating] | None, size: tuple[int, int]
) -> list[dict[str, list[float]] | None]:
    """Describe cameras for the viewer: ``pose`` (camera_from_world, 3 x 4, row by row) and ``window``.

    The window is what the picture covers at depth 1: left, right, top, bottom in camera axes. A camera that is
    not finite or sees nothing becomes None, so that the others keep their numbers.
    """
    width, height = size
    cameras: list[dict[str, list[float]] | None] = []
    for index, pose in enumerate(np.asarray(camera_from_world, np.float64)[:, :3]):
        if intrinsics is None:
            tangent = float(np.tan(np.radians(30)))
            window = [-tangent, tangent, -tangent * height / width, tangent * height / width]
        else:
            (fx, _, cx), (_, fy, cy), _ = np.asarray(intrinsics[index], np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                window = [-cx / fx, (width - cx) / fx, -cy / fy, (height - cy) / fy]
        # An untrained network may predict a field of view of zero, and a view of no width shows nothing.
        usable = bool(np.isfinite(pose).all() and np.isfinite(window).all())
        usable = usable and window[0] < window[1] and window[2] < window[3]
        cameras.append(
            {"pose": pose.reshape(-1).tolist(), "window": [float(x) for x in window]} if usable else None
        )
    return cameras
