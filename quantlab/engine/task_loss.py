"""How far a network's result is from its full-precision result, task by task, without ground truth. It runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quantlab.engine.evaluate import relative_errors
from quantlab.geometry.cameras import unproject
from quantlab.models.prediction import Prediction

HUBER = 0.01
"""Camera errors (radians, shares of the scene's size) beyond this count linearly."""
FOCAL = (1e-6, 1e9)
"""Focal lengths, in pixels, are compared within these bounds."""
DIRECT = ("world_points",)
"""Outputs that are world points of a head of their own, where the Prediction's points are unprojected depth."""


@dataclass(frozen=True, slots=True)
class TaskLoss:
    """Terms without units, each about a relative error; 0 where the network has no such output.

    Attributes:
        reconstruction: Error of the output of the block that was quantized.
        camera: Huber loss of rotations, translations and focal lengths.
        depth: Mean error over mean depth.
        points: Mean distance of the points over the size of the cloud; of the point head where there is one.
        consistency: Mean distance of the point head's points from the unprojected depth, over that size. It is not
            zero at full precision.
        outputs: Mean relative error of the outputs, of a network that gives no reconstruction.
    """

    reconstruction: float = 0.0
    camera: float = 0.0
    depth: float = 0.0
    points: float = 0.0
    consistency: float = 0.0
    outputs: float = 0.0

    def relative_to(self, other: TaskLoss) -> float:
        """The sum of all terms, each in units of the same term of ``other``: what a search of scales minimises.

        The paper gives no weights. Terms that ``other`` has at zero are left out.
        """
        pairs = [(getattr(self, entry.name), getattr(other, entry.name)) for entry in fields(self)]
        return float(sum(own / unit for own, unit in pairs if 0 < unit < float("inf")))

    @property
    def distance(self) -> float:
        """The distance from the full-precision result, 0 there: what a block's sensitivity is."""
        return self.camera + self.depth + self.points + self.outputs


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a network makes of a scene: its outputs, and the reconstruction read from them, if it is one."""

    outputs: Mapping[str, Tensor]
    prediction: Prediction | None


def task_loss(exact: Result, rounded: Result, *, reconstruction: float = 0.0) -> TaskLoss:
    """The loss of one scene; infinite where the rounded network gives a NaN or an infinity.

    Source:
        QVGGT (arXiv:2605.31124): reconstruction, camera (Huber), depth, points, and the distance of direct from
        unprojected points. Units, weights and the Huber threshold are our reading.
    """
    if exact.prediction is None or rounded.prediction is None:
        errors = relative_errors(exact.outputs, rounded.outputs)
        outputs = sum(errors.values()) / len(errors) if errors else 0.0
        return _finite(TaskLoss(reconstruction=reconstruction, outputs=outputs))
    one, other = exact.prediction, rounded.prediction
    cloud, moved = _direct(exact), _direct(rounded)
    size = _size(cloud)
    lifted = unproject(other.depth, other.intrinsics, other.camera_from_world)
    return _finite(
        TaskLoss(
            reconstruction=reconstruction,
            camera=_camera(one, other, size),
            depth=float(np.abs(other.depth - one.depth).mean() / max(float(np.abs(one.depth).mean()), 1e-12)),
            points=_distance(moved, cloud) / size,
            consistency=_distance(moved, lifted) / size,
        )
    )


def mean_loss(losses: Iterable[TaskLoss]) -> TaskLoss:
    """The mean over scenes, term by term."""
    table = list(losses)
    return TaskLoss(
        **{
            entry.name: float(np.mean([getattr(loss, entry.name) for loss in table]))
            for entry in fields(TaskLoss)
        }
    )


def _finite(loss: TaskLoss) -> TaskLoss:
    values = {entry.name: getattr(loss, entry.name) for entry in fields(TaskLoss)}
    return TaskLoss(**{name: value if np.isfinite(value) else float("inf") for name, value in values.items()})


def _camera(one: Prediction, other: Prediction, size: float) -> float:
    """Mean Huber loss of entries: nine of the rotation, three of the translation, two focal lengths."""
    turned = other.camera_from_world[:, :3, :3] - one.camera_from_world[:, :3, :3]
    moved = (other.camera_from_world[:, :3, 3] - one.camera_from_world[:, :3, 3]) / size
    zoomed = np.log(_focal(other) / _focal(one))
    errors = np.abs(np.concatenate((turned.reshape(len(turned), 9), moved, zoomed), axis=1))
    huber = np.where(errors <= HUBER, errors**2 / (2 * HUBER), errors - HUBER / 2)
    return float(huber.mean())


def _focal(prediction: Prediction) -> NDArray[np.float64]:
    focal = np.stack((prediction.intrinsics[:, 0, 0], prediction.intrinsics[:, 1, 1]), axis=1)
    return np.clip(focal.astype(np.float64), *FOCAL)  # a field of view of nothing has an infinite one


def _direct(result: Result) -> NDArray[Any]:
    """World points of a head of their own, else the Prediction's."""
    prediction = result.prediction
    found = next((result.outputs[name] for name in DIRECT if name in result.outputs), None)
    if prediction is None:
        raise ValueError("a result without a reconstruction has no points")
    if found is None or tuple(found.shape[1:]) != prediction.points.shape:
        return prediction.points
    return found[0].double().cpu().numpy()


def _size(cloud: NDArray[Any]) -> float:
    """Mean distance of the points from their centre."""
    flat = cloud.reshape(-1, 3).astype(np.float64)
    return max(float(np.linalg.norm(flat - flat.mean(axis=0), axis=1).mean()), 1e-12)


def _distance(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.linalg.norm(one.astype(np.float64) - other, axis=-1).mean())
