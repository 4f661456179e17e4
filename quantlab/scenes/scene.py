"""The records of what goes in: pictures of one place and, where known, the truth. No files, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import SceneError
from quantlab.geometry.cameras import rotation_defects
from quantlab.scenes.origin import Origin

ROTATION_TOLERANCE = 1e-3
"""Poses written with four decimals pass; scaled, sheared or mirrored ones do not."""

_TRUTH_SHAPES = {
    "camera_from_world": ("S", 4, 4),
    "intrinsics": ("S", 3, 3),
    "depth": ("S", "H", "W"),
    "points": ("S", "H", "W", 3),
}


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is known about S pictures of H x W pixels. Values are brought to the dtypes below.

    Attributes:
        camera_from_world: float64 [S, 4, 4], OpenCV axes, scene units.
        intrinsics: float64 [S, 3, 3], pixels of the scene's own images.
        depth: float32 [S, H, W], along the optical axis; not finite or not positive where unknown.
        points: float32 [S, H, W, 3] in the world.

    Raises:
        SceneError: Shapes that do not fit together, poses that are not rigid, focal lengths not positive.
    """

    camera_from_world: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    depth: NDArray[np.float32]
    points: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name in ("camera_from_world", "intrinsics"):
            object.__setattr__(self, name, _numbers(getattr(self, name), np.float64, name))
        for name in ("depth", "points"):
            object.__setattr__(self, name, _numbers(getattr(self, name), np.float32, name))
        _check_shapes({name: getattr(self, name).shape for name in _TRUTH_SHAPES})
        _check_poses(self.camera_from_world)
        _check_intrinsics(self.intrinsics)

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.camera_from_world)

    def __repr__(self) -> str:
        return f"Truth(of {len(self)} pictures of {self.depth.shape[2]} x {self.depth.shape[1]})"

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[S, H, W]: where depth and point are known."""
        known = np.isfinite(self.points).all(axis=-1) & np.isfinite(self.depth)
        return np.asarray(known & (self.depth > 0), dtype=bool)


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Scene:
    """Pictures of one place, as they came; the model preprocesses.

    Attributes:
        name: What people see; may hold any character, so escape it where it is shown.
        images: uint8 [H, W, 3] RGB each; sizes may differ when there is no truth.
        truth: Ground truth for all of the images, or None.
        notes: What a person should know of how the scene came about (a frame that is one colour throughout).
        split: Of a generated room, the split it was drawn from, as "held-out"; "" for everything else. Copies of the
            scene keep it, whatever they are called.
        origin: How the scene can be had again, for sessions that name it; None where it cannot.

    Raises:
        SceneError: No image, an image of another kind, or truth of another count or size.
    """

    name: str
    images: tuple[NDArray[np.uint8], ...]
    truth: Truth | None = None
    notes: tuple[str, ...] = ()
    split: str = ""
    origin: Origin | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(self.images))
        object.__setattr__(self, "notes", tuple(self.notes))
        if not self.images:
            raise SceneError("the scene has no images", place=self.name, remedy="Give at least one picture.")
        for index, image in enumerate(self.images):
            _check_image(image, f"{self.name}, image {index}")
        if self.truth is not None:
            _check_fit(self.truth, self.images, self.name)

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.images)

    def __repr__(self) -> str:
        height, width = self.images[0].shape[:2]
        truth = "with" if self.truth is not None else "without"
        return f"Scene({self.name!r}, {len(self)} pictures of {width} x {height}, {truth} ground truth)"


def _numbers(value: Any, dtype: type[np.floating[Any]], name: str) -> NDArray[Any]:
    try:
        return np.ascontiguousarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise SceneError(f"the true {name} are not numbers", place=name, remedy="Give an array.") from error


def _check_shapes(shapes: dict[str, tuple[int, ...]]) -> None:
    known: dict[str, int] = {}
    for name, shape in shapes.items():
        wanted = _TRUTH_SHAPES[name]
        fits = len(shape) == len(wanted)
        for letter, length in zip(wanted, shape, strict=False):
            expected = known.setdefault(letter, length) if isinstance(letter, str) else letter
            fits = fits and length == expected
        if not fits or 0 in shape:
            text = ", ".join(str(known.get(str(letter), letter)) for letter in wanted)
            raise SceneError(
                f"the true {name} have shape {list(shape)}, not [{text}]",
                place=name,
                remedy="Give one entry for every image, in the images' size.",
            )


def _check_poses(poses: NDArray[np.float64]) -> None:
    if not np.isfinite(poses).all():
        view = int((~np.isfinite(poses)).any(axis=(1, 2)).argmax())
        raise SceneError(
            f"the true pose of image {view} is not finite",
            place="camera_from_world",
            remedy="Leave this image out, or correct its pose.",
        )
    defects = rotation_defects(poses)
    if defects.max() > ROTATION_TOLERANCE:
        raise SceneError(
            f"the true pose of image {int(defects.argmax())} is not a rotation and a shift",
            place="camera_from_world",
            remedy="Remove scale, shear and mirroring: R R^T must be the identity and det R must be 1.",
        )
    if np.abs(poses[:, 3] - [0, 0, 0, 1]).max() > ROTATION_TOLERANCE:
        raise SceneError(
            "the last row of a true pose is not 0 0 0 1",
            place="camera_from_world",
            remedy="Check that the matrices are not transposed.",
        )


def _check_intrinsics(intrinsics: NDArray[np.float64]) -> None:
    focal = intrinsics[:, [0, 1], [0, 1]]
    if not np.isfinite(intrinsics).all() or not (focal > 0).all():
        raise SceneError(
            "a true focal length is not positive, or the intrinsics are not finite",
            place="intrinsics",
            remedy="Give [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels.",
        )


def _check_image(image: Any, place: str) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        kind = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise SceneError(
            f"an image is {kind}, not uint8 [height, width, 3]",
            place=place,
            remedy="Give RGB arrays, or load files with quantlab.load_scene.",
        )
    if 0 in image.shape:
        raise SceneError("an image has no pixels", place=place, remedy="Leave it out.")


def _check_fit(truth: Truth, images: Sequence[NDArray[np.uint8]], place: str) -> None:
    if len(truth) != len(images):
        raise SceneError(
            f"there are {len(images)} images but {len(truth)} true poses",
            place=place,
            remedy="Give one pose for every image, in the same order.",
        )
    size = truth.depth.shape[1:]
    for index, image in enumerate(images):
        if image.shape[:2] != size:
            raise SceneError(
                f"image {index} has {image.shape[1]} x {image.shape[0]} pixels but the true depth "
                f"{size[1]} x {size[0]}",
                place=place,
                remedy="Bring images, depth and intrinsics to one size.",
            )
