"""What runs a lab's network: full precision, quantized, measured, remembered. The public surface is `quantlab.lab`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar, cast

from numpy.typing import ArrayLike
from torch import nn

from quantlab.calibration.profile import Profile
from quantlab.engine.blame import Found, Inquiry, blame, region_of
from quantlab.engine.blame_record import Blame
from quantlab.engine.comparison import Comparison, pair
from quantlab.engine.desk import Desk
from quantlab.engine.diagnose import Known, diagnose
from quantlab.engine.diagnosis import Diagnosis
from quantlab.engine.evaluate import evaluate
from quantlab.engine.evaluation import Evaluation
from quantlab.engine.execution import Run, execute
from quantlab.engine.plan import Plan, plan
from quantlab.engine.quantize import Quantizer, require_quantizable
from quantlab.engine.recipe import Recipe
from quantlab.engine.replay import BlockCache
from quantlab.engine.search_passes import Pace
from quantlab.engine.sources import Sources
from quantlab.engine.stages import StageStore
from quantlab.engine.steps import layer_view
from quantlab.engine.subject import Predict, subject_of, truth_of
from quantlab.engine.survey import RECORDED, full_precision, survey
from quantlab.engine.trials import Trials
from quantlab.engine.views import LayerView
from quantlab.errors import SceneError
from quantlab.jobs import Job, between, part
from quantlab.models.fingerprint import fingerprint
from quantlab.models.model import Model
from quantlab.models.structure import Structure

T = TypeVar("T")

REMEMBERED = 24
"""Runs and results of recent recipes that undo and redo find again."""
REFERENCES = 64
"""Full-precision runs that are kept; of more scenes the oldest are run again when needed."""


class Workbench(Desk):
    """A network, its scenes, and what was made of them, one call at a time; arguments as `quantlab.Lab`'s."""

    def __init__(
        self,
        model: Model | nn.Module,
        calibration: Sequence[Any] | None,
        evaluation: Sequence[Any] | None,
        *,
        predict: Predict | None,
        recipe: Recipe | None,
        seed: int,
    ) -> None:
        self.model = model
        self._subject = subject_of(model, predict)
        require_quantizable(self._subject.network, self._subject.structure)
        # Nothing that a lab holds may hold the lab: it is freed, with gigabytes, when its last user lets go of it.
        self._sources = Sources(self._subject, calibration, evaluation, seed)
        self.calibration, self.evaluation = self._sources.calibration, self._sources.evaluation
        super().__init__(recipe or Recipe.preset("rtn", weights=4, activations=4))
        self._work = threading.RLock()
        self._blocks = BlockCache()
        self._references: dict[int, Run] = {}
        self._ran: Plan | None = None
        self._profile: Profile | None = None
        self._recent: OrderedDict[Hashable, Any] = OrderedDict()
        self._tail_errors: Known = {}
        self._pace = Pace()

    @property
    def name(self) -> str:
        """What people call the model."""
        return self._subject.name

    @property
    def fingerprint(self) -> str:
        """What tells its weights from others: their sha256, and a mark where outliers were planted in them.

        Raises:
            StorageError: The file of the weights is gone.
        """
        return fingerprint(self.model)

    @property
    def structure(self) -> Structure:
        """Layers, branches and blocks of the network."""
        return self._subject.structure

    @property
    def seed(self) -> int:
        """Of the rooms that the lab draws."""
        return self._sources.seed

    @property
    def calibration_given(self) -> bool:
        """Whether a person chose the calibration scenes; otherwise the lab did."""
        return self._sources.given

    @property
    def pace(self) -> float | None:
        """Seconds that one scene through the simulated network takes here; None before one went through it whole."""
        return self._pace.seconds

    def reference(self, scene: int = 0, *, job: Job | None = None) -> Run:
        """A scene through the full-precision network; run once and kept."""
        with self._work:
            if scene not in self._references:
                value = self._subject.prepare(self._scene(scene))
                # What it remembers spares a quantized run the blocks before the first quantized one.
                cache = self._blocks if scene < RECORDED else None
                states, network = full_precision(self.structure), self._quantizer.reference
                run = execute(
                    self._subject, network, value, cache=cache, states=states, answers=False, job=job
                )
                self._keep_reference(scene, self._pace.noted(run))
            return self._references[scene]

    def blame(
        self,
        region: ArrayLike,
        scene: int = 0,
        *,
        verify: int = 8,
        found: Found | None = None,
        job: Job | None = None,
    ) -> Blame:
        """Which quantized layers damage a region of the compared cloud, the worst first.

        Args:
            region: bool [S, H, W], True at the pixels to ask about, as ``comparison.errors > 0.1``.
            scene: Which of the evaluation scenes.
            verify: So many of the first suspects are restored one by one, and the damage measured; the rest keep a
                first-order estimate.
            found: Called with the record as it grows: with the estimates at once, then after each measurement.
            job: Follows and stops it.

        Raises:
            SceneError: There is no such scene or reconstruction, or the region is no mask of its pixels or empty.
        """
        recipe = self.recipe
        with self._work:
            return self._blame(recipe, region, scene, verify, found, job)

    def _remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """A result of a recent recipe, or a new one; of two threads that ask at once one works and the other waits."""
        with self._work:
            if key not in self._recent:
                self._keep(key, make())
            self._recent.move_to_end(key)
            return cast("T", self._recent[key])

    def _keep(self, key: Hashable, result: object) -> None:
        self._recent[key] = result
        while len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)

    def _asked(self, recipe: Recipe | None) -> Recipe:
        """The recipe that a question is about, which must be one that can be carried out."""
        return self.recipe if recipe is None else self._possible(recipe)

    @cached_property
    def _quantizer(self) -> Quantizer:
        profiled, pool = self._sources.profiled, self._sources.pool
        return Quantizer(self._subject.network, self.structure, profiled, calibration_for=pool.calibration)

    @cached_property
    def _trials(self) -> Trials:
        return Trials(self._subject, self.structure, self._sources, self._work)

    @contextmanager
    def _trying(self) -> Iterator[Trials]:
        """The trials; what only makes them faster is freed at the end."""
        try:
            yield self._trials
        finally:
            self._trials.release()

    def _apply(self, recipe: Recipe, job: Job | None, store: StageStore | None = None) -> None:
        """Bring the quantized twin to the recipe, which reads weights: the files they are mapped from must be whole."""
        self._subject.check()
        self._quantizer.apply(recipe, job, store=store)

    def _scene(self, index: int) -> Any:
        if not 0 <= index < len(self.evaluation):
            raise SceneError(
                f"there is no scene {index}",
                place="evaluation",
                remedy=f"The lab has {len(self.evaluation)}, counted from 0.",
            )
        return self.evaluation[index]

    def _run_quantized(self, recipe: Recipe, scene: int, job: Job | None) -> Run:
        key = ("run", recipe, scene)
        if key not in self._recent:
            value = self.reference(scene, job=between(job, 0.0, 0.4)).value
            self._apply(recipe, between(job, 0.4, 0.5))
            states = {name: state for name, state in self._quantizer.states().items() if name}
            network, section = self._quantizer.network, between(job, 0.5, 1.0)
            run = execute(self._subject, network, value, cache=self._blocks, states=states, job=section)
            self._ran = self._quantizer.plan
            self._keep(key, self._pace.noted(run))
        return cast("Run", self._recent[key])

    def _evaluate(self, recipe: Recipe, job: Job | None, *, icp: bool) -> Evaluation:
        self._apply(recipe, part(job, 0, 2))
        return evaluate(
            self.evaluation,
            lambda scene, section: self.reference(scene, job=section),
            lambda scene, section: self._run_quantized(recipe, scene, section),
            packed_bytes=self._quantizer.packed_bytes,
            full_bytes=plan(self.structure, recipe).full_bytes,
            icp=icp,
            job=part(job, 1, 2),
        )

    def _diagnosed(self, recipe: Recipe, job: Job | None) -> Diagnosis:
        return self._remember(("diagnosis", recipe), lambda: self._diagnose(recipe, job))

    def _diagnose(self, recipe: Recipe, job: Job | None) -> Diagnosis:
        self._apply(recipe, part(job, 0, 2))
        return diagnose(
            self._subject,
            self._quantizer,
            self._sources.profiled.inputs,
            scenes=self._sources.names,
            known=self._tail_errors,
            cache=self._blocks,
            job=part(job, 1, 2),
        )

    def _survey(self, job: Job | None) -> Profile:
        names, runs = self._sources.names, dict[int, Run]()
        profile = survey(
            self._subject,
            self._quantizer,
            self._blocks,
            scenes=names,
            found=lambda index, run: self._found(index, run, runs),
            job=job,
        )
        for scene, run in runs.items():
            self._keep_reference(scene, run)
        return profile

    def _found(self, index: int, run: Callable[[], Run], runs: dict[int, Run]) -> None:
        """A calibration scene has run at full precision; where it is judged on too, that need not be done again."""
        for scene, given in enumerate(self.evaluation[:REFERENCES]):
            if given is self.calibration[index] and scene not in self._references:
                runs[scene] = run()

    def _keep_reference(self, scene: int, run: Run) -> None:
        self._references[scene] = run
        while len(self._references) > REFERENCES:
            del self._references[next(iter(self._references))]

    def _compare(self, recipe: Recipe, scene: int, job: Job | None) -> Comparison:
        left = self.reference(scene, job=between(job, 0.0, 0.4)).prediction
        right = self._run_quantized(recipe, scene, between(job, 0.4, 1.0)).prediction
        if left is None or right is None:
            raise SceneError(
                "this network gives no reconstruction to compare",
                place=self.name,
                remedy="Use evaluate(), which compares its outputs.",
            )
        return pair(left, right, truth_of(self._scene(scene)))

    def _blame(
        self, recipe: Recipe, region: ArrayLike, scene: int, verify: int, found: Found | None, job: Job | None
    ) -> Blame:
        comparing, diagnosing, job = between(job, 0.0, 0.2), between(job, 0.2, 0.3), between(job, 0.3, 1.0)
        key = ("comparison", recipe, scene)
        comparison = self._remember(key, lambda: self._compare(recipe, scene, comparing))
        value, inside = self.reference(scene).value, region_of(region, comparison)
        self._apply(recipe, None)
        inquiry = Inquiry(self._subject, self._quantizer, self._blocks, comparison, value, inside, scene)
        asked = ("blame", recipe, scene, inside.tobytes())
        result = blame(
            inquiry,
            lambda: self._diagnosed(recipe, diagnosing).layers,
            verify=verify,
            begun=self._recent.get(asked),
            found=found,
            job=job,
        )
        self._keep(asked, result)
        return result

    def _layer(self, recipe: Recipe, name: str, job: Job | None) -> LayerView:
        if self._sources.profiled.pending and name in self.structure.layers:
            self._quantizer.samples(name, between(job, 0.0, 0.7))
        self._apply(recipe, between(job, 0.7, 0.9))
        return layer_view(name, self._quantizer, job=between(job, 0.9, 1.0))
