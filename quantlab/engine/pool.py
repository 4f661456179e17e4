"""The scenes a recipe may be calibrated on: described once, then picked from. How to pick is decided elsewhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from quantlab.calibration.features import SceneFeatures, deep_blocks, pool_features, scene_features
from quantlab.calibration.picked import Picked, PoolFeatures
from quantlab.calibration.selection import chance, select
from quantlab.engine.calibrate import Calibration
from quantlab.engine.selection_settings import Selection
from quantlab.engine.subject import Subject, scene_label
from quantlab.errors import RecipeError
from quantlab.jobs import Job, part, step

REMEMBERED = 8
"""Picked sets whose inputs and samples are kept, so that undo finds them."""


class Pool:
    """Candidate scenes for calibration.

    What is learned of a scene is kept as soon as it is known: a look at the pool that is stopped goes on where it was.

    Args:
        subject: How scenes are prepared and run.
        draw: Gives the scenes; asked once, when they are needed.
        network: Gives the full-precision network that is run.
        everything: The calibration of the method "all", and which scenes those are.
    """

    def __init__(
        self,
        subject: Subject,
        draw: Callable[[], Sequence[Any]],
        network: Callable[[], nn.Module],
        everything: Callable[[], tuple[Calibration, Sequence[Any]]],
    ) -> None:
        self._subject, self._draw, self._network, self._everything = subject, draw, network, everything
        self._looked: dict[tuple[tuple[str, ...], int], SceneFeatures] = {}
        self._calibrations: OrderedDict[Hashable, Calibration] = OrderedDict()

    @cached_property
    def scenes(self) -> tuple[Any, ...]:
        """The candidates, in their order."""
        return tuple(self._draw())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What people call them."""
        return tuple(scene_label(scene, index) for index, scene in enumerate(self.scenes))

    def features(self, selection: Selection, job: Job | None = None) -> PoolFeatures:
        """What tells the scenes apart: one full-precision pass over those that were not looked at yet.

        Raises:
            RecipeError: The pool is empty.
            DeviceError, JobCancelledError: As ever.
        """
        step(job, 0, 1, "drawing the pool")
        if not self.scenes:
            raise RecipeError(
                f"method {selection.method!r} has no scenes to pick from",
                place="calibration",
                remedy="Pass calibration=[...].",
            )
        blocks = deep_blocks(self._subject.structure, selection.deep_blocks)
        for index in range(len(self.scenes)):
            if (blocks, index) not in self._looked:
                self._looked[blocks, index] = self._look(blocks, index, job)
        return pool_features(
            self.names, blocks, [self._looked[blocks, index] for index in range(len(self.scenes))]
        )

    def map(self, selection: Selection, seed: int, job: Job | None = None) -> Picked:
        """What the selection picks, with all that a map of the pool shows."""
        picked = select(selection.method, self.features(selection, job), selection.wish(seed))
        if selection.method != "all":
            return picked
        own = {id(scene) for scene in self._everything()[1]}
        here = [index for index, scene in enumerate(self.scenes) if id(scene) in own]
        return replace(picked, picked=np.array(here, dtype=np.int64))

    def calibration(self, selection: Selection, seed: int, job: Job | None = None) -> Calibration:
        """The scenes a recipe with this selection learns from; its samples are not collected yet."""
        if selection.method == "all":
            return self._everything()[0]
        picked = tuple(int(index) for index in self._picked(selection, seed, job))
        if picked not in self._calibrations:
            values = [self._subject.prepare(self.scenes[index]) for index in picked]
            layouts = [self._subject.layout(value) for value in values]
            self._calibrations[picked] = Calibration(
                values, self._subject.run, layouts=layouts, which=picked, decode=self._subject.decode
            )
        self._calibrations.move_to_end(picked)
        while len(self._calibrations) > REMEMBERED:
            self._calibrations.popitem(last=False)
        return self._calibrations[picked]

    def _picked(self, selection: Selection, seed: int, job: Job | None) -> NDArray[np.int64]:
        if len(self.scenes) == 1 or not selection.how.looks:  # no need to look
            return chance(len(self.scenes), selection.wish(seed))
        return self.map(selection, seed, job).picked

    def _look(self, blocks: tuple[str, ...], index: int, job: Job | None) -> SceneFeatures:
        name, count = self.names[index], len(self.scenes)
        step(job, index, count, name)
        value, network = self._subject.prepare(self.scenes[index]), self._network()
        return scene_features(
            network,
            self._subject.structure,
            blocks,
            lambda given: self._subject.run(network, given),
            value,
            self._subject.layout(value),
            job=part(job, index, count),
            text=f"pool {index + 1} of {count}",
        )
