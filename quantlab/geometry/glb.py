"""Clouds and their cameras as one binary glTF 2.0 file (GLB) that Blender, three.js and others open. No meshes.

Axes: clouds here are OpenCV's (x right, y down, z forward), glTF's are x right, y up, z backward. Both are
right-handed, so that every point (x, y, z) is written as (x, -y, -z), and nothing is mirrored. Units stay.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantlab.errors import NumericError, StorageError
from quantlab.geometry.cameras import ROTATION_TOLERANCE, FloatArray, as_poses, invert, rotation_defects
from quantlab.geometry.clouds import as_cloud
from quantlab.storage import atomic_write

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
"""From OpenCV's axes to glTF's, and back."""
POINTS, LINES = 0, 1  # glTF's modes of a primitive
FLOAT, BYTE, INDEX = 5126, 5121, 5125  # glTF's types of a component
FRUSTUM_SHARE = 0.04
"""How deep a drawn camera is, as a share of the extent of its cloud."""


@dataclass(frozen=True, slots=True, eq=False)
class NamedCloud:
    """One cloud of the file.

    Attributes:
        name: Of its node.
        points: float [N, 3], finite, OpenCV axes, scene units.
        colours: uint8 [N, 3], sRGB.
        camera_from_world: [S, 4, 4]; None: no cameras. One that is no camera (a NaN, a view of no width) is left out.
        intrinsics: [S, 3, 3] in pixels of pictures of ``size``; None: 60 degrees high.
        size: Width and height of the pictures.
        tint: sRGB colour of the drawn cameras, 0 to 1.
    """

    name: str
    points: ArrayLike
    colours: NDArray[np.uint8]
    camera_from_world: NDArray[np.floating[Any]] | None = None
    intrinsics: NDArray[np.floating[Any]] | None = None
    size: tuple[int, int] = (4, 3)
    tint: tuple[float, float, float] = (0.5, 0.5, 0.5)


def write_glb(path: str | os.PathLike[str], clouds: Sequence[NamedCloud]) -> None:
    """Write clouds into one file; a failed write leaves an older file whole.

    Raises:
        NumericError: A cloud is empty or not finite.
        StorageError: Colours do not match, or the file cannot be written.
    """
    atomic_write(Path(path), glb_bytes(clouds))


def glb_bytes(clouds: Sequence[NamedCloud]) -> bytes:
    """The file as bytes: a node a cloud, with its points, its cameras drawn as lines, and cameras to look through.

    Raises:
        NumericError: There is no cloud, or one is empty or not finite.
        StorageError: Colours do not match the points.
    """
    if not clouds:
        raise NumericError("there is no cloud to write", place="glb", remedy="Give at least one.")
    document = _Document()
    for cloud in clouds:
        document.add_cloud(cloud)
    return document.finish()


class _Document:
    """The JSON and the binary part of the file while they grow."""

    def __init__(self) -> None:
        self._binary = bytearray()
        self._json: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "QuantLab", "extras": {"unit": "scene units"}},
            "extensionsUsed": ["KHR_materials_unlit"],
            "scene": 0,
            "scenes": [{"name": "QuantLab", "nodes": []}],
            **{name: [] for name in ("nodes", "meshes", "materials", "accessors", "bufferViews", "cameras")},
        }

    def add_cloud(self, cloud: NamedCloud) -> None:
        points = as_cloud(cloud.points, cloud.name)
        paint = np.asarray(cloud.colours)
        if paint.shape != points.shape or paint.dtype != np.uint8:
            raise StorageError(
                "colours do not match the points", place=cloud.name, remedy="Give uint8 [N, 3]."
            )
        rgba = np.full((len(paint), 4), 255, np.uint8)
        rgba[:, :3] = _to_linear()[paint]
        attributes = {"POSITION": self._positions(points), "COLOR_0": self._values(rgba, BYTE, "VEC4")}
        mesh = self._mesh(f"{cloud.name} points", attributes, POINTS, self._material((1.0, 1.0, 1.0)))
        children = [self._append("nodes", {"name": f"{cloud.name} points", "mesh": mesh})]
        if cloud.camera_from_world is not None:
            children.append(self._add_cameras(cloud, points))
        node = self._append("nodes", {"name": cloud.name, "children": children})
        self._json["scenes"][0]["nodes"].append(node)

    def _add_cameras(self, cloud: NamedCloud, points: FloatArray) -> int:
        poses = np.asarray(cloud.camera_from_world, np.float64)
        windows = _windows(cloud, len(poses))
        numbers = _usable(poses, windows)
        extent = float(np.linalg.norm(np.ptp(points, axis=0))) or 1.0
        world_from_camera = invert(as_poses(poses[numbers], f"cameras of {cloud.name}"))
        node: dict[str, Any] = {"name": f"{cloud.name} cameras"}
        if len(numbers):
            lines = _frusta(world_from_camera, windows[numbers], FRUSTUM_SHARE * extent)
            attributes = {"POSITION": self._positions(lines.reshape(-1, 3))}
            material = self._material([float(_linear(np.asarray(value))) for value in cloud.tint])
            node["mesh"] = self._mesh(f"{cloud.name} cameras", attributes, LINES, material)
            node["children"] = [
                self._append("nodes", self._camera_node(int(number), pose, windows[number], extent))
                for number, pose in zip(numbers, world_from_camera, strict=True)
            ]
        return self._append("nodes", node)

    def _camera_node(
        self, index: int, world_from_camera: FloatArray, window: FloatArray, extent: float
    ) -> dict[str, Any]:
        """A camera to look through: glTF's looks along -z with y up, as OpenCV's does after the flip on both sides."""
        left, right, top, bottom = window
        lens = {
            "yfov": float(np.arctan(bottom) - np.arctan(top)),
            "aspectRatio": float((right - left) / (bottom - top)),
            "znear": 1e-3 * extent,
        }
        name = f"camera {index + 1}"
        camera = self._append("cameras", {"type": "perspective", "name": name, "perspective": lens})
        matrix = FLIP @ world_from_camera @ FLIP
        return {"name": name, "camera": camera, "matrix": [float(x) for x in matrix.T.reshape(-1)]}

    def _positions(self, points: FloatArray) -> int:
        """Points in OpenCV's axes as an accessor; glTF wants their bounds."""
        with np.errstate(over="ignore"):
            moved = (points * [1.0, -1.0, -1.0]).astype("<f4")
        if not np.isfinite(moved).all():
            raise NumericError(
                "a point lies beyond what 32 bits hold", place="glb", remedy="Clean the cloud first."
            )
        bounds = {"min": moved.min(axis=0).tolist(), "max": moved.max(axis=0).tolist()}
        return self._values(moved, FLOAT, "VEC3", **bounds)

    def _values(self, values: NDArray[Any], kind: int, shape: str, **more: Any) -> int:
        data = np.ascontiguousarray(values).tobytes()
        view = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(data), "target": 34962}
        self._binary += data + b"\0" * (-len(data) % 4)
        accessor = {
            "bufferView": self._append("bufferViews", view),
            "componentType": kind,
            "count": len(values),
            "type": shape,
            **({"normalized": True} if kind == BYTE else {}),
            **more,
        }
        return self._append("accessors", accessor)

    def _mesh(self, name: str, attributes: dict[str, int], mode: int, material: int) -> int:
        primitive = {"attributes": attributes, "mode": mode, "material": material}
        return self._append("meshes", {"name": name, "primitives": [primitive]})

    def _material(self, colour: Sequence[float]) -> int:
        """One that no light changes; what knows no such thing sees a matt one."""
        surface = {"baseColorFactor": [*colour, 1.0], "metallicFactor": 0.0, "roughnessFactor": 1.0}
        unlit: dict[str, Any] = {"KHR_materials_unlit": {}}
        return self._append("materials", {"pbrMetallicRoughness": surface, "extensions": unlit})

    def _append(self, kind: str, item: dict[str, Any]) -> int:
        self._json[kind].append(item)
        return len(self._json[kind]) - 1

    def finish(self) -> bytes:
        content = {name: value for name, value in self._json.items() if value != []}
        content["buffers"] = [{"byteLength": len(self._binary)}]
        text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        size = 12 + 8 + len(text) + 8 + len(self._binary)
        if size >= 2**32:
            raise StorageError(
                "the clouds are too large for one GLB file", place="glb", remedy="Clean them with a voxel."
            )
        head = struct.pack("<4sIII4s", b"glTF", 2, size, len(text), b"JSON")
        return b"".join([head, text, struct.pack("<I4s", len(self._binary), b"BIN\0"), bytes(self._binary)])


def _windows(cloud: NamedCloud, count: int) -> FloatArray:
    """What each picture covers at depth 1, [S, 4]: left, right, top, bottom in OpenCV's axes."""
    width, height = cloud.size
    if cloud.intrinsics is None:
        reach = float(np.tan(np.radians(30)))
        window = [-reach * width / height, reach * width / height, -reach, reach]
        return np.tile(np.array(window), (count, 1))
    lens = np.asarray(cloud.intrinsics, np.float64)
    with np.errstate(all="ignore"):
        found = [
            -lens[:, 0, 2] / lens[:, 0, 0],
            (width - lens[:, 0, 2]) / lens[:, 0, 0],
            -lens[:, 1, 2] / lens[:, 1, 1],
            (height - lens[:, 1, 2]) / lens[:, 1, 1],
        ]
    return np.asarray(np.stack(found, axis=1), np.float64)


def _usable(poses: FloatArray, windows: FloatArray) -> NDArray[np.intp]:
    """The numbers of the cameras that are some; a network may predict a field of view of zero, or a NaN."""
    seen = (
        np.isfinite(windows).all(axis=1) & (windows[:, 0] < windows[:, 1]) & (windows[:, 2] < windows[:, 3])
    )
    finite = np.isfinite(poses).all(axis=(1, 2))
    rigid = np.zeros(len(poses), dtype=bool)
    rigid[finite] = rotation_defects(poses[finite]) <= ROTATION_TOLERANCE
    return np.flatnonzero(seen & rigid)


def _frusta(world_from_camera: FloatArray, windows: FloatArray, depth: float) -> FloatArray:
    """The edges of every camera as pairs of world points, [S, 10, 2, 3]: four rays, the picture, what is up."""
    left, right, top, bottom = windows.T
    ones, zeros = np.ones_like(left), np.zeros_like(left)
    roof = top - 0.35 * (bottom - top)
    places = {
        "eye": np.stack([zeros, zeros, zeros], -1),
        "a": np.stack([left, top, ones], -1),
        "b": np.stack([right, top, ones], -1),
        "c": np.stack([right, bottom, ones], -1),
        "d": np.stack([left, bottom, ones], -1),
        "up": np.stack([(left + right) / 2, roof, ones], -1),
    }
    edges = ("eye a", "eye b", "eye c", "eye d", "a b", "b c", "c d", "d a", "a up", "up b")
    pairs = np.stack([np.stack([places[end] for end in edge.split()], 1) for edge in edges], 1) * depth
    turned = np.einsum("sij,sekj->seki", world_from_camera[:, :3, :3], pairs)
    return np.asarray(turned + world_from_camera[:, None, None, :3, 3], np.float64)


def _linear(values: NDArray[Any]) -> NDArray[Any]:
    """Light of an sRGB value, both 0 to 1 (IEC 61966-2-1): glTF's vertex colours are light."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _to_linear() -> NDArray[np.uint8]:
    """The 256 sRGB codes as linear ones."""
    return np.rint(255 * _linear(np.arange(256) / 255)).astype(np.uint8)
