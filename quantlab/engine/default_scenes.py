"""Which scenes a lab works on, and that no recipe ever learns from held-out rooms. It runs nothing.

Three sets: what a lab profiles (``calibration``), what it judges on (``evaluation``), and what a recipe may learn
from: `learnable` scenes, or for other selections than "all" some of the `candidates`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from torch import Tensor

from quantlab.engine.subject import Subject
from quantlab.errors import SceneError
from quantlab.models.zoo import MODELS
from quantlab.scenes.load import load_scene, load_scenes
from quantlab.scenes.scene import Scene
from quantlab.scenes.synthetic import room, rooms

CALIBRATION_ROOMS = 4
POOL_ROOMS = 40
DEGENERATE = 0.1
"""Share of the pool that is defective on purpose, so that filters have something to find."""
HELD_OUT = "held-out"
LEARNED_FROM = "calibration"


def scenes_for(
    subject: Subject, calibration: Sequence[Any] | None, evaluation: Sequence[Any] | None, seed: int
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The scenes to profile and to evaluate on.

    Raises:
        SceneError: There are none.
    """
    calibration, evaluation = listed(calibration, LEARNED_FROM), listed(evaluation, HELD_OUT)
    if evaluation is None:
        evaluation = [load_scene("demo")] if subject.any_pictures and calibration is None else calibration
    if calibration is None:
        calibration = _calibration_rooms(CALIBRATION_ROOMS, seed) if knows_rooms(subject) else evaluation
    if not calibration or not evaluation:
        raise SceneError(
            "a lab needs scenes or inputs to run", place="calibration", remedy="Pass calibration=[...]."
        )
    return tuple(calibration), tuple(evaluation)


def knows_rooms(subject: Subject) -> bool:
    """Whether the network was trained on the built-in rooms, and so is calibrated on rooms unless told otherwise."""
    return subject.name in MODELS and MODELS[subject.name].rooms


def learnable(scenes: Sequence[Any], seed: int) -> tuple[Any, ...]:
    """What a recipe may learn from of these scenes: held-out rooms are only for judging.

    Where they are all held out, as many rooms of the split "calibration" stand in for them, at most four.
    """
    allowed = tuple(scene for scene in scenes if not is_held_out(scene))
    if allowed:
        return allowed
    return tuple(_room_like(scenes[0], index, seed) for index in range(min(len(scenes), CALIBRATION_ROOMS)))


def candidates(scenes: Sequence[Any], seed: int, *, given: bool) -> tuple[Any, ...]:
    """The pool that a selection picks from.

    Args:
        scenes: Those that a recipe may learn from when nothing is selected.
        seed: Of the rooms that are drawn.
        given: Whether a person chose them: then they are the pool. Otherwise, where they are rooms, they begin a pool
            of 40 rooms of the split "calibration", a tenth of them defective on purpose.
    """
    if given or not all(isinstance(scene, Scene) and scene.split for scene in scenes):
        return tuple(scenes)
    drawn = range(len(scenes), max(POOL_ROOMS, len(scenes)))
    random = np.random.default_rng([seed, POOL_ROOMS])
    count = min(round(DEGENERATE * POOL_ROOMS), len(drawn))
    defective = set(random.choice(drawn, size=count, replace=False).tolist())
    others = (_room_like(scenes[0], index, seed, float(index in defective)) for index in drawn)
    return (*scenes, *others)


def further(scenes: Sequence[Any], count: int, seed: int, *, given: bool) -> tuple[Any, ...]:
    """``count`` scenes to try recipes on: those that may be learned from, then more calibration rooms like them.

    Scenes that a person chose, or that are no rooms, are all there are.
    """
    if given or not all(isinstance(scene, Scene) and scene.split for scene in scenes):
        return tuple(scenes[:count])
    return (*scenes, *(_room_like(scenes[0], index, seed) for index in range(len(scenes), count)))[:count]


def is_held_out(scene: Any) -> bool:
    """Whether the scene is a room that scores are measured on, under whatever name."""
    return isinstance(scene, Scene) and scene.split == HELD_OUT


def _calibration_rooms(count: int, seed: int) -> list[Scene]:
    return rooms(count, seed=seed, split=LEARNED_FROM)


def _room_like(scene: Scene, index: int, seed: int, degenerate: float = 0.0) -> Scene:
    """A calibration room with as many pictures of the same size."""
    size = scene.images[0].shape[:2]
    return room(index, views=len(scene), seed=seed, size=size, split=LEARNED_FROM, degenerate=degenerate)


def listed(given: Any, split: str) -> Sequence[Any] | None:
    """One scene or input may come without a list around it; a name is loaded, as "demo", "rooms:4" or a folder."""
    if isinstance(given, str | PathLike):
        return load_scenes(given, split=split)
    return [given] if isinstance(given, Scene | Tensor | Mapping) else given
