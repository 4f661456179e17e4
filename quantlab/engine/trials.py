"""Recipes really run on a few calibration scenes, to learn how far each is from full precision. It chooses none."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.engine.comparison import pair
from quantlab.engine.evaluate import relative_errors
from quantlab.engine.execution import Run, execute
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.engine.replay import BlockCache
from quantlab.engine.search_record import Measured
from quantlab.engine.subject import Subject, scene_label
from quantlab.engine.survey import full_precision
from quantlab.errors import NumericError
from quantlab.jobs import Job, between, check, part
from quantlab.memory import release

if TYPE_CHECKING:
    from quantlab.engine.sources import Sources
    from quantlab.models.structure import Structure

POINTS = 4096
"""Points at which squares are kept, over all scenes of a trial."""
REMEMBERED = 4096
CACHE_BYTES = 512 << 20
"""Of blocks that recipes tried one after another have in common; freed by `Trials.release`."""


class Trials:
    """Runs recipes on the first calibration scenes, in a twin of its own; a recipe is run once.

    Blocks that a recipe has in common with one before are answered from memory. Scenes are those that recipes may
    learn from: never held-out ones.

    Args:
        subject: How the network is run.
        structure: Of the network.
        sources: Where the scenes come from.
        working: Held for each single trial, and free between them, so that a long search leaves room for others.
    """

    def __init__(
        self,
        subject: Subject,
        structure: Structure,
        sources: Sources,
        working: AbstractContextManager[object],
    ) -> None:
        self._subject, self._sources, self._working = subject, sources, working
        self._quantizer = Quantizer(
            subject.network, structure, sources.profiled, calibration_for=sources.pool.calibration
        )
        self.structure = structure
        self._cache = BlockCache(limit_bytes=CACHE_BYTES)
        self._values: dict[int, Any] = {}
        self._exact: dict[int, Run] = {}
        self._known: dict[tuple[Recipe, int], Measured] = {}

    def scenes(self, count: int) -> tuple[str, ...]:
        """Names of the first ``count`` scenes, or of as many as there are."""
        chosen = self._sources.to_try(count)
        return tuple(scene_label(scene, index) for index, scene in enumerate(chosen))

    def measure(
        self, recipe: Recipe, scenes: int, job: Job | None = None, *, text: str = "", once: bool = False
    ) -> Measured:
        """How far the recipe's result is from full precision on the first ``scenes`` scenes.

        Args:
            recipe: What to run.
            scenes: How many scenes.
            job: Progress and cancellation.
            text: Begins the job's reports.
            once: No later recipe begins as this one does: its blocks are not worth their memory.

        Raises:
            RecipeError: The recipe cannot be carried out.
            JobCancelledError: The job was cancelled.
        """
        key = (recipe, scenes)
        if key not in self._known:
            check(job)
            with self._working:
                found = self._measure(recipe, scenes, job, text, stores=not once)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = found
        return self._known[key]

    def release(self) -> None:
        """Free what only makes trials faster; what was measured stays."""
        with self._working:
            self._cache.clear()
            self._exact.clear()
            release()

    def _measure(self, recipe: Recipe, scenes: int, job: Job | None, text: str, *, stores: bool) -> Measured:
        inputs = self._inputs(scenes)
        exact = [self._reference(index, between(job, 0.0, 0.3)) for index in range(len(inputs))]
        self._subject.check()
        try:
            self._quantizer.apply(recipe, between(job, 0.3, 0.6))
            states = {name: state for name, state in self._quantizer.states().items() if name}
            runs = [
                execute(
                    self._subject,
                    self._quantizer.network,
                    value,
                    cache=self._cache,
                    states=states,
                    stores=stores,
                    job=part(between(job, 0.6, 1.0), index, len(inputs)),
                    text=text,
                )
                for index, value in enumerate(inputs)
            ]
            found = [_distances(one, other) for one, other in zip(exact, runs, strict=True)]
        except NumericError:
            return _broken(exact)
        return _measured(found)

    def _inputs(self, count: int) -> list[Any]:
        scenes = self._sources.to_try(count)
        for index, scene in enumerate(scenes):
            if index not in self._values:
                self._values[index] = self._subject.prepare(scene)
        return [self._values[index] for index in range(len(scenes))]

    def _reference(self, index: int, job: Job | None) -> Run:
        if index not in self._exact:
            self._exact[index] = execute(
                self._subject,
                self._quantizer.reference,
                self._values[index],
                cache=self._cache,
                states=full_precision(self.structure),
                answers=False,
                job=job,
            )
        return self._exact[index]


def _distances(exact: Run, rounded: Run) -> NDArray[np.float64]:
    """Distances of paired points over the size of the scene, NaN where there is none; else errors of the outputs."""
    if exact.prediction is None or rounded.prediction is None:
        return np.array(list(relative_errors(exact.outputs, rounded.outputs).values()) or [0.0])
    pairs = pair(exact.prediction, rounded.prediction)
    return pairs.errors.ravel().astype(np.float64) / pairs.scale


def _measured(scenes: Sequence[NDArray[np.float64]]) -> Measured:
    """Means over scenes, every scene the same weight, and squares at points drawn once and for all."""
    kept = [_drawn(distances, POINTS // len(scenes)) for distances in scenes]
    with np.errstate(over="ignore"):
        return Measured(
            drift=float(np.mean([np.nanmean(distances) for distances in scenes])),
            scenes=tuple(float(np.nanmean(distances)) for distances in scenes),
            squared=float(np.mean([np.nanmean(np.square(distances)) for distances in scenes])),
            points=np.concatenate([np.square(np.nan_to_num(own)) for own in kept]).astype(np.float32),
        )


def _broken(scenes: Sequence[Run]) -> Measured:
    """Of a network whose result is no number, or a cloud that collapsed."""
    count = sum(_size(run, POINTS // len(scenes)) for run in scenes)
    none = (float("inf"),) * len(scenes)
    return Measured(float("inf"), float("inf"), np.full(count, np.inf, np.float32), none)


def _size(run: Run, most: int) -> int:
    full = len(run.outputs) if run.prediction is None else run.prediction.points[..., 0].size
    return min(most, full)


def _drawn(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The same ``count`` of the values whenever there are as many values."""
    if len(values) <= count:
        return values
    return values[np.sort(np.random.default_rng(0).choice(len(values), count, replace=False))]
