"""The scenes of a lab, prepared: to profile, to judge on, to learn from, to pick from. It runs nothing."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property
from operator import is_
from typing import Any

from torch import nn

from quantlab.engine.calibrate import Calibration
from quantlab.engine.default_scenes import candidates, further, learnable, scenes_for
from quantlab.engine.pool import Pool
from quantlab.engine.subject import Subject, scene_label
from quantlab.engine.twin import twin


class Sources:
    """What a lab works on; nothing is prepared before it is asked for.

    Args:
        subject: How scenes are prepared and run.
        calibration, evaluation: As a person gave them; None where not.
        seed: Of rooms that are drawn.

    Attributes:
        calibration: The scenes that are profiled.
        evaluation: Those that are judged on.
        given: Whether a person chose the calibration scenes.
        seed: Of rooms that are drawn.

    Raises:
        SceneError: There are none.
    """

    def __init__(
        self,
        subject: Subject,
        calibration: Sequence[Any] | None,
        evaluation: Sequence[Any] | None,
        seed: int,
    ) -> None:
        self.calibration, self.evaluation = scenes_for(subject, calibration, evaluation, seed)
        self.seed, self._subject = seed, subject
        self.given = calibration is not None
        self._to_try: tuple[Any, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the calibration scenes."""
        return tuple(scene_label(scene, index) for index, scene in enumerate(self.calibration))

    @cached_property
    def profiled(self) -> Calibration:
        """The calibration scenes, held-out ones included where a person gave them: for looking, not for learning."""
        return self._prepared(self.calibration, "all")

    @cached_property
    def learned_from(self) -> tuple[Calibration, tuple[Any, ...]]:
        """What recipes that select nothing learn from, and its scenes: never a held-out room."""
        scenes = learnable(self.calibration, self.seed)
        if len(scenes) == len(self.calibration) and all(map(is_, scenes, self.calibration)):
            return self.profiled, scenes
        return self._prepared(scenes, "learnable"), scenes

    @cached_property
    def _network(self) -> nn.Module:
        """The full-precision network, which runs the pool."""
        return twin(self._subject.network)

    @cached_property
    def pool(self) -> Pool:
        """What recipes that select learn from."""
        return Pool(
            self._subject,
            lambda: candidates(self.learned_from[1], self.seed, given=self.given),
            lambda: self._network,
            lambda: self.learned_from,
        )

    def to_try(self, count: int) -> tuple[Any, ...]:
        """At most ``count`` scenes to try recipes on, the first ones those that are learned from; never held-out."""
        if len(self._to_try) < count:  # asked at every trial, and rooms take time to draw
            self._to_try = further(self.learned_from[1], count, self.seed, given=self.given)
        return self._to_try[:count]

    def _prepared(self, scenes: Sequence[Any], which: Hashable) -> Calibration:
        values = [self._subject.prepare(scene) for scene in scenes]
        layouts = [self._subject.layout(value) for value in values]
        decode = self._subject.decode
        return Calibration(values, self._subject.run, layouts=layouts, which=which, decode=decode)
