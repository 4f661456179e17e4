"""Which pixels of two paired clouds to leave out: stray points, and all but one point a voxel. It moves no point.

Both steps are open3d's. A pair stays a pair: what is dropped on one side is dropped on both.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import NumericError
from quantlab.geometry.cameras import FloatArray
from quantlab.geometry.clouds import OPEN3D_PACKAGES, open3d, valid_mask
from quantlab.jobs import Job, step


@dataclass(frozen=True, slots=True)
class Cleaning:
    """How two clouds are cleaned; the defaults are those people start from in open3d.

    Raises:
        NumericError: A value out of its bounds.
    """

    neighbours: int = field(
        default=20,
        metadata={"low": 2, "high": 200, "help": "How many nearest points a point is judged by"},
    )
    std_ratio: float = field(
        default=2.0,
        metadata={
            "low": 0.1,
            "high": 10.0,
            "help": "A point is stray when it is further from its neighbours than the mean by this many standard "
            "deviations; smaller removes more",
        },
    )
    voxel: float = field(
        default=0.0,
        metadata={
            "low": 0.0,
            "high": 20.0,
            "help": "Keep one point in every cube of this size, in percent of the scene's size; 0 keeps all",
        },
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            value, low, high = getattr(self, item.name), item.metadata["low"], item.metadata["high"]
            whole = item.name == "neighbours"
            is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
            if not is_number or not low <= value <= high:
                kind = "a whole number" if whole else "a number"
                raise NumericError(
                    f"{item.name} cannot be {str(value)[:40]}",
                    place="cleaning",
                    remedy=f"Choose {kind} from {low:g} to {high:g}.",
                )


@dataclass(frozen=True, slots=True, eq=False)
class Cleaned:
    """What cleaning left.

    Attributes:
        kept: bool [S, H, W].
        pixels: Pixels with a finite point on both sides, before.
        stray: How many of them were stray on either side.
        thinned: How many more shared their voxel with a point that stays.
    """

    kept: NDArray[np.bool_]
    pixels: int
    stray: int
    thinned: int

    def __str__(self) -> str:
        share = 100 * self.stray / max(self.pixels, 1)
        text = f"{self.stray:,} of {self.pixels:,} pixels were stray ({share:.1f} %)"
        if self.thinned:
            text += f", {self.thinned:,} more thinned"
        return f"{text}; {int(self.kept.sum()):,} are left"


def clean_pair(
    left: NDArray[np.floating[Any]],
    right: NDArray[np.floating[Any]],
    cleaning: Cleaning | None = None,
    *,
    size: float,
    job: Job | None = None,
) -> Cleaned:
    """Find the pixels that stay when both clouds are cleaned.

    A pixel is stray when its point is an outlier in either cloud: its mean distance to its neighbours is more than
    ``std_ratio`` standard deviations above that of the cloud. Of what is left one pixel a voxel of the left cloud
    stays (the one nearest the mean of the voxel), the same on both sides.

    Args:
        left: [S, H, W, 3] points, scene units; rows that are not finite are dropped.
        right: Likewise, paired pixel by pixel.
        cleaning: None: the defaults.
        size: Of the scene, in the same units; voxels are a share of it.
        job: Told of each step, and asked whether to go on.

    Raises:
        JobCancelledError: The job was cancelled.
        NumericError: The clouds do not pair, or no pixel is finite in both.
        MissingLibraryError: open3d is absent or cannot be loaded.

    Source:
        Rusu et al. 2008 (statistical outlier removal), as open3d has it.
    """
    chosen, o3d = cleaning or Cleaning(), open3d()
    finite = valid_mask(left, right)
    count = int(finite.sum())
    if count == 0:
        raise NumericError(
            "no pixel has a finite point on both sides", place="cleaning", remedy="Compare other states."
        )
    sides = [np.asarray(side, np.float64)[finite] for side in (left, right)]
    stays = np.ones(count, dtype=bool)
    for index, points in enumerate(sides):
        step(job, index, 3, f"stray points of {count:,}")
        stays &= _inliers(o3d, points, chosen)
    stray = count - int(stays.sum())
    step(job, 2, 3, "one point a voxel")
    if chosen.voxel > 0 and stays.any():
        stays[np.flatnonzero(stays)[~_one_a_voxel(o3d, sides[0][stays], chosen.voxel / 100 * size)]] = False
    kept = np.zeros(finite.shape, dtype=bool)
    kept[finite] = stays
    return Cleaned(kept, count, stray, count - stray - int(stays.sum()))


def why_not() -> str:
    """Why clouds cannot be cleaned on this machine; "" where open3d is installed (it is not loaded to find out)."""
    if find_spec("open3d") is not None:
        return ""
    return (
        f"open3d is not installed: pip install open3d-cpu (on Debian also apt-get install {OPEN3D_PACKAGES})"
    )


def _inliers(o3d: Any, points: FloatArray, cleaning: Cleaning) -> NDArray[np.bool_]:
    """Which points [N, 3] are no outliers, [N]."""
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.ascontiguousarray(points)))
    _, index = cloud.remove_statistical_outlier(min(cleaning.neighbours, len(points)), cleaning.std_ratio)
    kept = np.zeros(len(points), dtype=bool)
    kept[np.asarray(index, dtype=np.intp)] = True
    return kept


def _one_a_voxel(o3d: Any, points: FloatArray, edge: float) -> NDArray[np.bool_]:
    """One point of each cube of side ``edge``: that nearest the mean of the points in it."""
    low, high = points.min(axis=0), points.max(axis=0)
    if (
        float((high - low).max()) / edge > 2**30
    ):  # open3d counts voxels in 32 bits; such cubes hold one point each
        return np.ones(len(points), dtype=bool)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.ascontiguousarray(points)))
    means, _, members = cloud.voxel_down_sample_and_trace(edge, low - edge / 2, high + edge / 2)
    counts = np.array([len(inside) for inside in members])
    index = np.concatenate([np.asarray(inside, dtype=np.intp) for inside in members])
    voxel = np.repeat(np.arange(len(counts)), counts)
    distance = np.linalg.norm(points[index] - np.asarray(means.points)[voxel], axis=1)
    first = np.lexsort((index, distance, voxel))
    kept = np.zeros(len(points), dtype=bool)
    kept[index[first[np.r_[0, np.cumsum(counts)[:-1]]]]] = True
    return kept
