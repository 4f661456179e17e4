"""Lab: the one object that owns a model, its scenes, profile, recipe and results. It draws nothing.

Front ends (app, widgets, command line) are thin skins over it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, TypeVar, cast

from torch import nn

from quantlab.calibration.profile import Profile
from quantlab.engine.calibrate import Calibration
from quantlab.engine.comparison import Comparison, pair
from quantlab.engine.cost import Cost, cost
from quantlab.engine.default_scenes import scenes_for
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
from quantlab.engine.steps import layer_view
from quantlab.engine.subject import Predict, scene_label, subject_of, truth_of
from quantlab.engine.survey import RECORDED, full_precision, survey
from quantlab.engine.views import LayerView
from quantlab.errors import SceneError
from quantlab.jobs import Job, between, part
from quantlab.models.model import Model
from quantlab.models.structure import Structure

T = TypeVar("T")

INTERACTIVE_SECONDS = 2.0
"""A lab whose forward takes longer queues edits instead of following each one."""
REMEMBERED = 24
"""Runs and results of recent recipes that undo and redo find again."""
REFERENCES = 64
"""Full-precision runs that are kept; of more scenes the oldest are run again when needed."""


class Lab(Desk):
    """A network, the scenes it is calibrated and judged on, and a recipe that can be changed and changed back.

    Args:
        model: What `load_model` gives, or any torch module.
        calibration: Scenes (for a bare module: its inputs) for profiles and for recipes that need statistics.
            None: rooms of the split "calibration".
        evaluation: Scenes that clouds and numbers are shown of. None: the scene "demo", or ``calibration``.
        predict: For a bare module: ``predict(module, input)`` runs it and returns tensors.
        recipe: The recipe to start with. None: round to nearest, 4 bits.
        seed: Of the calibration rooms.

    Every long method takes ``job``: it reports progress and can be cancelled, and then the lab is as it was.
    Methods may be called from several threads; work is done one call at a time.

    Raises:
        SceneError: A bare module came without inputs.
        CheckpointError, RecipeError: The network is quantized already, or holds no layer that can be.
    """

    def __init__(
        self,
        model: Model | nn.Module,
        calibration: Sequence[Any] | None = None,
        evaluation: Sequence[Any] | None = None,
        *,
        predict: Predict | None = None,
        recipe: Recipe | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self._subject = subject_of(model, predict)
        require_quantizable(self._subject.network, self._subject.structure)
        self.calibration, self.evaluation = scenes_for(self._subject, calibration, evaluation, seed)
        super().__init__(recipe or Recipe.preset("rtn", weights=4, activations=4))
        self._work = threading.RLock()
        self._blocks = BlockCache()
        self._references: dict[int, Run] = {}
        self._ran: Plan | None = None
        self._profile: Profile | None = None
        self._recent: OrderedDict[Hashable, Any] = OrderedDict()
        self._tail_errors: Known = {}

    def __repr__(self) -> str:
        scenes = f"{len(self.calibration)} calibration and {len(self.evaluation)} evaluation scenes"
        return (
            f"Lab({self.name!r}, {len(self.structure.layers)} layers, {scenes}, recipe {self.recipe.name!r})"
        )

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What people call the model."""
        return self._subject.name

    @property
    def structure(self) -> Structure:
        """Layers, branches and blocks of the network."""
        return self._subject.structure

    @property
    def interactive(self) -> bool:
        """Whether a forward pass is short enough to follow every edit at once; runs the first scene to find out."""
        return self.reference().seconds < INTERACTIVE_SECONDS

    def estimate(self, scene: int = 0) -> Cost:
        """What bringing one scene up to the recipe would take; nothing is run."""
        recipe, run = self.recipe, self._references.get(scene)
        if run is not None and ("run", recipe, scene) in self._recent:
            return Cost(0.0, 0, measured=True)
        return cost(self.structure, plan(self.structure, recipe), self._ran, run)

    # -- results ------------------------------------------------------------------------------------------------

    def reference(self, scene: int = 0, *, job: Job | None = None) -> Run:
        """A scene through the full-precision network; run once and kept."""
        with self._work:
            if scene not in self._references:
                value = self._subject.prepare(self._scene(scene))
                # What it remembers spares a quantized run the blocks before the first quantized one.
                cache = self._blocks if scene < RECORDED else None
                states, network = full_precision(self.structure), self._quantizer.reference
                self._keep_reference(
                    scene,
                    execute(
                        self._subject, network, value, cache=cache, states=states, answers=False, job=job
                    ),
                )
            return self._references[scene]

    def quantized(self, scene: int = 0, *, job: Job | None = None) -> Run:
        """A scene through the network as the recipe has it; blocks that the change cannot reach are not run again."""
        recipe = self.recipe
        with self._work:
            return self._run_quantized(recipe, scene, job)

    def profile(self, *, job: Job | None = None) -> Profile:
        """Tails of every layer's input over the calibration scenes; measured once."""
        with self._work:
            if self._profile is None:
                names, runs = self._calibration_names, dict[int, Run]()
                self._profile = survey(
                    self._subject,
                    self._quantizer,
                    self._blocks,
                    scenes=names,
                    found=lambda index, run: self._found(index, run, runs),
                    job=job,
                )
                for scene, run in runs.items():
                    self._keep_reference(scene, run)
            return self._profile

    def diagnose(self, *, job: Job | None = None) -> Diagnosis:
        """Tail-relative error of each layer and branch, quantized alone as the recipe in force has it."""
        recipe = self.recipe
        return self._remember(("diagnosis", recipe), lambda: self._diagnose(recipe, job))

    def evaluate(self, *, job: Job | None = None, icp: bool = False) -> Evaluation:
        """Drift from full precision, scores against the truth where there is one, and size, over the evaluation scenes.

        Args:
            job: Follows and stops it.
            icp: Also accuracy, completeness and normal consistency (seconds a scene, needs open3d for normals).
        """
        recipe = self.recipe
        return self._remember(("evaluation", recipe, icp), lambda: self._evaluate(recipe, job, icp=icp))

    def compare(self, scene: int = 0, *, job: Job | None = None) -> Comparison:
        """Full-precision and quantized clouds of a scene, aligned and paired point for point.

        Raises:
            SceneError: The network gives no reconstruction.
            NumericError: A cloud is degenerate.
        """
        recipe = self.recipe
        return self._remember(("comparison", recipe, scene), lambda: self._compare(recipe, scene, job))

    def layer(self, name: str, *, job: Job | None = None) -> LayerView:
        """What the recipe does to one layer, step by step, on calibration samples.

        Raises:
            RecipeError: There is no such layer; the nearest is named.
        """
        recipe = self.recipe
        return self._remember(("layer", recipe, name), lambda: self._layer(recipe, name, job))

    # -- work ---------------------------------------------------------------------------------------------------

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

    @cached_property
    def _calibration(self) -> Calibration:
        values = [self._subject.prepare(scene) for scene in self.calibration]
        return Calibration(
            values, self._subject.run, layouts=[self._subject.layout(value) for value in values]
        )

    @cached_property
    def _quantizer(self) -> Quantizer:
        return Quantizer(self._subject.network, self.structure, self._calibration)

    def _apply(self, recipe: Recipe, job: Job | None) -> None:
        """Bring the quantized twin to the recipe, which reads weights: the files they are mapped from must be whole."""
        self._subject.check()
        self._quantizer.apply(recipe, job)

    @property
    def _calibration_names(self) -> tuple[str, ...]:
        return tuple(scene_label(scene, index) for index, scene in enumerate(self.calibration))

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
            self._keep(key, run)
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

    def _diagnose(self, recipe: Recipe, job: Job | None) -> Diagnosis:
        self._apply(recipe, part(job, 0, 2))
        return diagnose(
            self._subject,
            self._quantizer,
            self._calibration.inputs,
            scenes=self._calibration_names,
            known=self._tail_errors,
            cache=self._blocks,
            job=part(job, 1, 2),
        )

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
        truth = truth_of(self._scene(scene))
        return pair(left, right, None if truth is None else truth.points)

    def _layer(self, recipe: Recipe, name: str, job: Job | None) -> LayerView:
        if self._calibration.pending and name in self.structure.layers:
            self._quantizer.samples(name, between(job, 0.0, 0.7))
        self._apply(recipe, between(job, 0.7, 1.0))
        return layer_view(name, self._quantizer)
