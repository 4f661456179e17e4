"""Which scenes a lab works on when it is told only some, or none. It runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from torch import Tensor

from quantlab.engine.subject import Subject
from quantlab.errors import SceneError
from quantlab.scenes.load import load_scene, load_scenes
from quantlab.scenes.scene import Scene
from quantlab.scenes.synthetic import rooms

ROOM_MODELS = ("mini", "mini-outliers")
"""Models that were trained on the built-in rooms, and so are calibrated on rooms unless told otherwise."""
CALIBRATION_ROOMS = 4


def scenes_for(
    subject: Subject, calibration: Sequence[Any] | None, evaluation: Sequence[Any] | None, seed: int
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The scenes to calibrate and to evaluate on.

    Raises:
        SceneError: There are none.
    """
    calibration, evaluation = _listed(calibration), _listed(evaluation)
    knows_rooms = subject.name in ROOM_MODELS
    if evaluation is None:
        evaluation = [load_scene("demo")] if subject.any_pictures and calibration is None else calibration
    if calibration is None:
        calibration = rooms(CALIBRATION_ROOMS, seed=seed, split="calibration") if knows_rooms else evaluation
    if not calibration or not evaluation:
        raise SceneError(
            "a lab needs scenes or inputs to run", place="calibration", remedy="Pass calibration=[...]."
        )
    return tuple(calibration), tuple(evaluation)


def _listed(given: Any) -> Sequence[Any] | None:
    """One scene or input may come without a list around it; a name is loaded, as "demo", "rooms:4" or a folder."""
    if isinstance(given, str | PathLike):
        return load_scenes(given)
    return [given] if isinstance(given, Scene | Tensor | Mapping) else given
