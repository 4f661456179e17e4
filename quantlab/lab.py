"""Lab: the one object that owns a model, its scenes, profile, recipe and results. It draws nothing.

Front ends (app, widgets, command line) are thin skins over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from quantlab.calibration.picked import Picked
from quantlab.calibration.profile import Profile
from quantlab.calibration.profile_check import check_profile
from quantlab.calibration.profile_file import load_profile, save_profile
from quantlab.engine.comparison import Comparison
from quantlab.engine.cost import Cost, cost
from quantlab.engine.diagnosis import Diagnosis
from quantlab.engine.evaluation import Evaluation
from quantlab.engine.execution import Run
from quantlab.engine.export import Exporting
from quantlab.engine.plan import plan
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.engine.scan import OPTIONS, SCENES, Ask, scan
from quantlab.engine.search import TRIES, Wish, search
from quantlab.engine.search_record import Search, Sensitivity
from quantlab.engine.selection_settings import Selection, selection_from
from quantlab.engine.session_file import read_session, save_session
from quantlab.engine.session_notes import describe
from quantlab.engine.session_open import reopen
from quantlab.engine.stages import StageStore
from quantlab.engine.subject import Predict
from quantlab.engine.views import LayerView
from quantlab.jobs import Job
from quantlab.models.model import Model
from quantlab.storage import check_writable

INTERACTIVE_SECONDS = 2.0
"""A lab whose forward takes longer queues edits instead of following each one."""


class Lab(Exporting):
    """A network, the scenes it is calibrated and judged on, and a recipe that can be changed and changed back.

    Args:
        model: What `load_model` gives, or any torch module.
        calibration: Scenes (for a bare module: its inputs) for profiles and for recipes that need statistics; a
            recipe that selects scenes picks from them. None: rooms of the split "calibration". Held-out rooms are
            profiled where they are given, but no recipe learns from them: calibration rooms stand in for them.
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
        super().__init__(model, calibration, evaluation, predict=predict, recipe=recipe, seed=seed)

    def __repr__(self) -> str:
        scenes = f"{len(self.calibration)} calibration and {len(self.evaluation)} evaluation scenes"
        return (
            f"Lab({self.name!r}, {len(self.structure.layers)} layers, {scenes}, recipe {self.recipe.name!r})"
        )

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def interactive(self) -> bool:
        """Whether a forward pass is short enough to follow every edit at once; runs the first scene to find out.

        What the machine does for others meanwhile does not count: it passes, and the answer is given once.
        """
        run = self.reference()
        return min(run.seconds, run.seconds if run.worked is None else run.worked) < INTERACTIVE_SECONDS

    def estimate(self, scene: int = 0) -> Cost:
        """What bringing one scene up to the recipe would take; nothing is run."""
        recipe, run = self.recipe, self._references.get(scene)
        if run is not None and ("run", recipe, scene) in self._recent:
            return Cost(0.0, 0, measured=True)
        return cost(self.structure, plan(self.structure, recipe), self._ran, run)

    # -- results ------------------------------------------------------------------------------------------------

    def quantized(self, scene: int = 0, *, recipe: Recipe | None = None, job: Job | None = None) -> Run:
        """A scene through the network as the recipe has it; blocks that the change cannot reach are not run again.

        Here as in `evaluate` and `compare`, ``recipe`` stands in for the one in force, which stays.
        """
        recipe = self._asked(recipe)
        with self._work:
            return self._run_quantized(recipe, scene, job)

    def profile(self, *, job: Job | None = None) -> Profile:
        """Tails of every layer's input over the calibration scenes; measured once."""
        with self._work:
            if self._profile is None:
                self._profile = self._survey(job)
            return self._profile

    def diagnose(self, *, job: Job | None = None) -> Diagnosis:
        """Tail-relative error of each layer and branch, quantized alone as the recipe in force has it."""
        return self._diagnosed(self.recipe, job)

    def evaluate(
        self, *, recipe: Recipe | None = None, job: Job | None = None, icp: bool = False
    ) -> Evaluation:
        """Drift from full precision, scores against the truth where there is one, and size, over the evaluation scenes.

        Args:
            recipe: Another recipe than the one in force, which stays.
            job: Follows and stops it.
            icp: Also accuracy, completeness and normal consistency (seconds a scene, needs open3d for normals).
        """
        recipe = self._asked(recipe)
        found = self._remember(("evaluation", recipe, icp), lambda: self._evaluate(recipe, job, icp=icp))
        known = self.measured(recipe=recipe)
        return found if known is None else replace(found, latency=known.seconds, memory_bytes=known.bytes)

    def compare(self, scene: int = 0, *, recipe: Recipe | None = None, job: Job | None = None) -> Comparison:
        """Full-precision and quantized clouds of a scene, aligned and paired point for point.

        Args:
            scene: Which of the evaluation scenes.
            recipe: Another recipe than the one in force, which stays.
            job: Follows and stops it.

        Raises:
            SceneError: The network gives no reconstruction.
            NumericError: A cloud is degenerate.
        """
        recipe = self._asked(recipe)
        return self._remember(("comparison", recipe, scene), lambda: self._compare(recipe, scene, job))

    @property
    def pool(self) -> tuple[Any, ...]:
        """The scenes that a selection picks from; rooms are drawn when first asked for. Never a held-out room."""
        with self._work:
            return self._sources.pool.scenes

    def pool_map(self, selection: Selection | str | None = None, *, job: Job | None = None) -> Picked:
        """Which scenes of the pool a selection picks and why, for `quantlab.figures.pool_map`.

        The first call runs every scene of the pool once at full precision; what was learned of it is kept.

        Args:
            selection: A `Selection`, or a method's name, as "nfds". None: the recipe's.
            job: Follows and stops it.
        """
        recipe = self.recipe
        chosen = recipe.calibration if selection is None else selection_from(selection)
        pool = self._sources.pool
        return self._remember(("pool", chosen, recipe.seed), lambda: pool.map(chosen, recipe.seed, job))

    def layer(self, name: str, *, job: Job | None = None) -> LayerView:
        """What the recipe does to one layer, step by step, on calibration samples.

        Raises:
            RecipeError: There is no such layer; the nearest is named.
        """
        recipe = self.recipe
        return self._remember(("layer", recipe, name), lambda: self._layer(recipe, name, job))

    def calibrated(
        self, *, recipe: Recipe | None = None, job: Job | None = None, store: StageStore | None = None
    ) -> Quantizer:
        """The holder of the quantized network, brought to the recipe; ``store`` keeps blocks that are finished."""
        with self._work:
            self._apply(self._asked(recipe), job, store)
            return self._quantizer

    # -- decisions ----------------------------------------------------------------------------------------------

    def scan(
        self,
        bits: Sequence[int] = OPTIONS,
        mode: str = "alone",
        *,
        vary: str = "weights",
        scenes: int = SCENES,
        job: Job | None = None,
    ) -> Sensitivity:
        """What each layer's bits do to the result, one layer at a time; everything else as the recipe has it.

        Args:
            bits: The options; full precision is always one more.
            mode: "alone": the other layers in full precision; "restored": as the recipe has them.
            vary: "weights", or "both": weights and inputs get the same bits.
            scenes: How many calibration scenes each trial runs; never held-out ones.
            job: Follows and stops it; what was measured by then is kept.
        """
        ask = Ask(tuple(bits), mode, vary, scenes)
        with self._trying() as trials:
            return scan(trials, self.recipe, ask, job)

    def search(
        self,
        budget: int | str | None = None,
        *,
        bits: Sequence[int] = OPTIONS,
        mode: str = "alone",
        vary: str = "weights",
        scenes: int = SCENES,
        tries: int = TRIES,
        seed: int = 0,
        job: Job | None = None,
    ) -> Search:
        """The bits of smallest error within a size, and the front around it; ``lab.recipe = found.chosen.recipe``.

        Args:
            budget: Bytes or "10 MB" of the whole network, "50%" of the quantized layers' size at 8 bits, or "30 ms" of
                a forward pass on the first scene here, "30 ms or fastest" if in doubt. None: what it weighs now.
            bits: As in `scan`, like ``mode``, ``vary`` and ``scenes``.
            mode: Likewise.
            vary: Likewise.
            scenes: Likewise.
            tries: How many changes of the result are run to improve it.
            seed: Of their order.
            job: Follows and stops it; what was measured by then is kept.

        Raises:
            RecipeError: The budget is neither size nor time, or too small.
        """
        wish = Wish(budget, Ask(tuple(bits), mode, vary, scenes, seed), tries, seed)
        with self._trying() as trials:
            return search(trials, self.recipe, wish, job, clock=self.measure)

    # -- to keep and to pass on ---------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the session: names and digests of model and scenes, every recipe with undo and redo, and the view.

        A text of a few kilobytes without weights or pictures; `quantlab.load_session` opens it.

        Raises:
            StorageError: The file cannot be written; an older one is untouched then.
        """
        return save_session(describe(self), path)

    def save_profile(self, path: str | PathLike[str], *, job: Job | None = None) -> Path:
        """Write the profile (measured first, where it was not yet) with the fingerprint of the weights, as .npz.

        Raises:
            StorageError: The file cannot be written.
        """
        check_writable(Path(path))
        save_profile(replace(self.profile(job=job), fingerprint=self.fingerprint), Path(path))
        return Path(path)

    def load_profile(self, path: str | PathLike[str], *, other_weights: bool = False) -> Profile:
        """Take over a profile that was measured elsewhere, so that `profile` need not run the network.

        Args:
            path: Of a file that `save_profile` wrote.
            other_weights: Accept one of other weights of the same layers.

        Raises:
            StorageError: The file is no profile, or of another network or other weights; the lab keeps its own.
        """
        return self.use_profile(load_profile(Path(path)), other_weights=other_weights, place=str(path))

    def use_profile(
        self, profile: Profile, *, other_weights: bool = False, place: str = "profile"
    ) -> Profile:
        """Take over a profile that is loaded already; as `load_profile`, which reads it from ``place``."""
        mark = "" if other_weights or not profile.fingerprint else self.fingerprint
        check_profile(profile, self.structure, mark, place=place)
        with self._work:
            self._profile = profile
        return profile


def load_session(
    path: str | PathLike[str],
    model: Any = None,
    scenes: Any = None,
    *,
    calibration: Any = None,
    predict: Predict | None = None,
    device: str = "cpu",
) -> Lab:
    """Open a session that `Lab.save` wrote: the same model and scenes, every recipe, undo and redo. Runs nothing.

    What is not as it was (other weights under the same name, a picture that was edited) is a `SessionWarning`.

    Args:
        path: The session file. Pictures that are not where they were are looked for beside it.
        model: In place of the session's: loaded, or a name or path. Needed for what was never a file.
        scenes: In place of its evaluation scenes: a list, or what `load_scenes` takes.
        calibration: In place of its calibration scenes, likewise.
        predict: For a bare module, as `Lab` takes it.
        device: Where the model is loaded.

    Raises:
        StorageError: The file is no session, is damaged, or was made by a newer QuantLab.
        CheckpointError, SceneError: The model or a scene is not here; says which to give.
        RecipeError: A recipe cannot be carried out on the model given.
    """
    record, folder = read_session(path), Path(path).absolute().parent
    return reopen(
        record,
        Lab,
        model=model,
        scenes=scenes,
        calibration=calibration,
        predict=predict,
        device=device,
        folder=folder,
    )
