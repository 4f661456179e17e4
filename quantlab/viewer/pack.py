"""Two point clouds in, one compact binary payload for the browser out; it does not align, score or draw anything."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import NumericError
from quantlab.viewer.coding import (
    LEVELS,
    FloatArray,
    encode_cameras,
    encode_confidence,
    encode_error,
    encode_points,
    robust_box,
)
from quantlab.viewer.pictures import checked_pictures
from quantlab.viewer.shuffle import shuffled

MAGIC = b"QLPC"
VERSION = 1


@dataclass(frozen=True, slots=True)
class CameraData:
    """Cameras of one cloud, OpenCV axes.

    Args:
        camera_from_world: float64 [S, 4, 4] (or [S, 3, 4]).
        intrinsics: float32 [S, 3, 3] in pixels of pictures of ``size``; None draws 60 degrees wide.
        size: Width and height of the pictures in pixels.
    """

    camera_from_world: NDArray[np.floating]
    intrinsics: NDArray[np.floating] | None = None
    size: tuple[int, int] = (4, 3)


@dataclass(frozen=True, slots=True)
class CloudData:
    """One cloud as the viewer takes it; in a pair, point ``i`` of both clouds is the same pixel.

    Args:
        points: float32 [N, 3] in world units; rows that are not finite keep their place and are never drawn.
        colors: uint8 [N, 3], sRGB.
        confidence: float [N] on any scale (only its ranks are used); None: nothing to filter by.
        frame: integer [N], the index of the picture a point comes from; None: one picture.
        cameras: Drawn as frusta; the first one gives the initial view and the up direction.
        dropped: bool [N], rows that were taken out on purpose (their points are NaN): not counted as outside.
    """

    points: NDArray[np.floating]
    colors: NDArray[np.uint8]
    confidence: NDArray[np.floating] | None = None
    frame: NDArray[np.integer] | None = None
    cameras: CameraData | None = None
    dropped: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class PackedClouds:
    """The payload, and what is needed to talk about its points.

    Attributes:
        data: What ``setPayload`` of the viewer reads.
        order: int64 [M]; packed point ``i`` is row ``order[i]`` of the left cloud (of both, in a pair).
        header: What ``data`` says about itself: counts, box, error scale, cameras.
    """

    data: bytes = field(repr=False)
    order: NDArray[np.int64] = field(repr=False)
    header: Mapping[str, object]


def pack_clouds(
    left: CloudData,
    right: CloudData | None = None,
    *,
    error: NDArray[np.floating] | None = None,
    error_max: float | None = None,
    unit: str = "scene units",
    size: float | None = None,
    labels: tuple[str, str] = ("full precision", "quantized"),
    scene: str = "",
    limit: int | None = None,
    seed: int = 0,
    grid: tuple[int, int, int] | None = None,
    images: Sequence[bytes] | None = None,
    error_name: str = "paired",
) -> PackedClouds:
    """Pack one cloud, or two in one world frame: at most 12 bytes a point, 8.5 a point for a pair with a grid.

    Coordinates become int16 in one box around both clouds (see ``robust_box``), so that no side is ever fitted
    on its own. Points outside the box are hidden and counted, not clamped: clamped points would draw a wall
    that nobody predicted. The order is shuffled once, alike for both clouds, so that any leading part is an even
    sample (the level of detail while dragging). A pair is filtered by the left confidence on both sides:
    both sides always show the same pixels.

    Args:
        left: The reference cloud.
        right: The other one, already aligned to ``left``; they are a pair when they have as many points.
        error: float [N] for the heat map of a pair; None: the distance between paired points.
        error_max: The error at the top of the colour scale; None: the 99th percentile.
        unit: Of the coordinates and of the error; shown in the legend.
        size: Of the scene, in that unit; with it errors are shown as shares of the scene.
        labels: The names of the two sides.
        scene: The viewer keeps its camera as long as this stays the same.
        limit: At most this many points a cloud, an even sample; None: all.
        seed: Of the shuffle of clouds without a grid.
        grid: Frames, height and width of the pictures where row ``i`` of the clouds is their pixel ``i``: then the
            viewer knows the pixel of every point (probe, regions), at no bytes a point.
        images: One JPEG a frame for the strip of pictures (``encode_pictures``); needs the grid.
        error_name: What kind of distance the error is, for the legend: "paired", "nearest neighbour".

    Raises:
        NumericError: Shapes do not fit, a cloud is empty, or no point is finite.
    """
    sides = [_checked(cloud, name) for cloud, name in ((left, "left"), (right, "right")) if cloud is not None]
    paired = right is not None and len(left.points) == len(right.points)
    if grid is not None:
        _check_grid(sides, grid)
    box = robust_box([np.asarray(cloud.points, np.float64) for cloud in sides])
    body = _Body()
    order = _order(len(left.points), seed, limit) if grid is None else shuffled(len(left.points), limit)
    header: dict[str, object] = {
        "version": VERSION,
        "scene": scene,
        "unit": unit,
        "size": size if size is not None and np.isfinite(size) and size > 0 else None,
        "labels": list(labels),
        "paired": paired,
        "scale": ((box[1] - box[0]) / (2 * LEVELS)).tolist(),
        "offset": ((box[0] + box[1]) / 2).tolist(),
        "frames": max(grid[0] if grid else 1, *(_frame_count(cloud) for cloud in sides)),
        "grid": None if grid is None else [int(length) for length in grid],
        "left": _pack_side(body, left, order, box, leave_out=_known_by(grid)),
        "right": None,
        "error": None,
        "images": [],
    }
    if right is not None:
        thin = _known_by(grid) | (_without_shared(left, right) if paired else frozenset[str]())
        right_order = order if paired else _order(len(right.points), seed, limit)
        header["right"] = _pack_side(body, right, right_order, box, leave_out=thin)
    if right is not None and (paired or error is not None):
        distances = _paired_error(left, right, error)
        codes, top = encode_error(distances[order], error_max)
        header["error"] = {**body.add(codes), "max": top, "name": error_name}
    if images is not None:
        if grid is None:
            raise NumericError(
                "pictures need a grid", place="images", remedy="Give the grid of the pixels, too."
            )
        header["images"] = [body.add(image) for image in checked_pictures(images, grid[0])]
    return PackedClouds(body.finish(header), order, header)


class _Body:
    """The binary part while it grows; every array starts on a multiple of four bytes."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, values: NDArray[np.generic]) -> dict[str, object]:
        place: dict[str, object] = {"at": self._size, "type": values.dtype.name, "size": int(values.size)}
        data = np.ascontiguousarray(values).tobytes()
        data += b"\0" * (-len(data) % 4)
        self._chunks.append(data)
        self._size += len(data)
        return place

    def finish(self, header: Mapping[str, object]) -> bytes:
        text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        return b"".join([MAGIC, struct.pack("<II", VERSION, len(text)), text, *self._chunks])


def _checked(cloud: CloudData, name: str) -> CloudData:
    count = len(cloud.points)
    if count == 0:
        raise NumericError("the cloud has no points", place=name, remedy="Give at least one point.")
    per_point = (
        ("points", (count, 3)),
        ("colors", (count, 3)),
        ("confidence", (count,)),
        ("frame", (count,)),
        ("dropped", (count,)),
    )
    for attribute, shape in per_point:
        values = getattr(cloud, attribute)
        if values is not None and np.shape(values) != shape:
            problem = f"the shape is {np.shape(values)} where {shape} is needed"
            raise NumericError(problem, place=f"{name}.{attribute}", remedy="Give one row a point.")
    if cloud.frame is not None and not 0 <= int(np.min(cloud.frame)) <= int(np.max(cloud.frame)) < 65536:
        raise NumericError("a frame index is outside 0..65535", place=f"{name}.frame", remedy="Count from 0.")
    return cloud


def _check_grid(sides: Sequence[CloudData], grid: tuple[int, int, int]) -> None:
    frames, height, width = grid
    pixels = frames * height * width
    for cloud in sides:
        if min(grid) < 1 or len(cloud.points) != pixels:
            problem = f"{frames} x {height} x {width} pixels are not {len(cloud.points)} points"
            raise NumericError(problem, place="grid", remedy="Give frames, height and width of the clouds.")
        if cloud.frame is not None and not np.array_equal(
            cloud.frame, np.repeat(np.arange(frames), height * width)
        ):
            raise NumericError(
                "the frames of the points are not those of the grid",
                place="grid",
                remedy="Order the points by frame, row and column.",
            )


def _known_by(grid: tuple[int, int, int] | None) -> frozenset[str]:
    """Name the attributes that a grid makes superfluous."""
    return frozenset[str]() if grid is None else frozenset({"frame"})


def _order(count: int, seed: int, limit: int | None) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(count)[:limit]


def _frame_count(cloud: CloudData) -> int:
    from_points = 1 if cloud.frame is None else int(np.max(cloud.frame)) + 1
    from_cameras = 0 if cloud.cameras is None else len(cloud.cameras.camera_from_world)
    return max(from_points, from_cameras)


def _without_shared(left: CloudData, right: CloudData) -> frozenset[str]:
    """Name the attributes of the right cloud that the browser takes from the left one."""
    names = {"confidence"} if left.confidence is not None else set()
    if np.array_equal(left.colors, right.colors):
        names.add("color")
    if right.frame is None or (left.frame is not None and np.array_equal(left.frame, right.frame)):
        names.add("frame")
    return frozenset(names)


def _pack_side(
    body: _Body,
    cloud: CloudData,
    order: NDArray[np.int64],
    box: tuple[FloatArray, FloatArray],
    *,
    leave_out: frozenset[str] = frozenset(),
) -> dict[str, object]:
    codes, hidden = encode_points(np.asarray(cloud.points, np.float64)[order], *box)
    outside = hidden if cloud.dropped is None else hidden & ~cloud.dropped[order]
    side: dict[str, object] = {
        "count": len(order),
        "outside": int(outside.sum()),
        "position": body.add(codes),
    }
    if "color" not in leave_out:
        side["color"] = body.add(np.asarray(cloud.colors, np.uint8)[order])
    if cloud.confidence is not None and "confidence" not in leave_out:
        side["confidence"] = body.add(encode_confidence(cloud.confidence)[order])
    if cloud.frame is not None and "frame" not in leave_out:
        width = np.uint8 if int(np.max(cloud.frame)) < 256 else np.uint16
        side["frame"] = body.add(np.asarray(cloud.frame)[order].astype(width))
    side["cameras"] = []
    if cloud.cameras is not None:
        poses = np.asarray(cloud.cameras.camera_from_world, np.float64)
        side["cameras"] = encode_cameras(poses, cloud.cameras.intrinsics, cloud.cameras.size)
    return side


def _paired_error(left: CloudData, right: CloudData, error: NDArray[np.floating] | None) -> FloatArray:
    """The error [N] of every pair, in rows of the left cloud."""
    if len(left.points) != len(right.points):
        raise NumericError(
            f"an error needs a pair, but the clouds have {len(left.points)} and {len(right.points)} points",
            place="error",
            remedy="Leave the error out, or give clouds of the same pixels.",
        )
    if error is None:
        with np.errstate(invalid="ignore", over="ignore"):
            offset = np.asarray(right.points, np.float64) - np.asarray(left.points, np.float64)
            return np.asarray(np.linalg.norm(offset, axis=1), np.float64)
    if np.shape(error) != (len(left.points),):
        problem = f"the shape is {np.shape(error)} where {(len(left.points),)} is needed"
        raise NumericError(problem, place="error", remedy="Give one error a point.")
    return np.asarray(error, np.float64)
