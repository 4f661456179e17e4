"""Asks a lab for everything that a report shows, and keeps it as one record. It draws nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantlab.engine.plan import Plan, plan
from quantlab.engine.presets import PRESETS
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import FULL_PRECISION
from quantlab.errors import MissingLibraryError, NumericError, RecipeError, SceneError
from quantlab.jobs import Job, between, step
from quantlab.report.provenance import Provenance, provenance
from quantlab.views.clouds import pair_of_clouds

if TYPE_CHECKING:
    from quantlab.calibration.profile import Profile
    from quantlab.engine.comparison import Comparison
    from quantlab.engine.diagnosis import Diagnosis
    from quantlab.engine.evaluation import Evaluation
    from quantlab.engine.measurement import Measurement
    from quantlab.engine.views import LayerView
    from quantlab.lab import Lab
    from quantlab.models.structure import LayerInfo

WORST = 6
"""Layers that are drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """What a report shows.

    Attributes:
        model: Its name.
        planted: Outliers were planted artificially.
        recipe: In force when the report was made.
        from_preset: What the recipe changes of the preset it started from; None where it started from none.
        plan: What it does to every layer.
        layers: All layers, in execution order.
        profile: Tails of their inputs.
        diagnosis: Their errors.
        evaluation: What the recipe costs.
        measurement: What executing it takes; None: not measured.
        scene: Name of the scene in 3D.
        comparison: Its two clouds; None where there are none.
        clouds: The same as the viewer takes them.
        no_clouds: Why there are none.
        worst: The layers with the largest errors (largest kurtosis, where nothing is rounded), worst first.
        note: What the author says.
        provenance: Where all of it comes from.
    """

    model: str
    planted: bool
    recipe: Recipe
    from_preset: tuple[str, ...] | None
    plan: Plan
    layers: tuple[LayerInfo, ...]
    profile: Profile
    diagnosis: Diagnosis
    evaluation: Evaluation
    measurement: Measurement | None
    scene: str
    comparison: Comparison | None
    clouds: bytes
    no_clouds: str
    worst: tuple[LayerView, ...]
    note: str
    provenance: Provenance


def gather(
    lab: Lab,
    *,
    points: int,
    scene: int = 0,
    note: str = "",
    command: str = "",
    icp: bool = False,
    measure: bool = False,
    job: Job | None = None,
) -> ReportData:
    """Measure what was not measured yet, under the recipe in force.

    Args:
        lab: The lab; neither its recipe nor its history changes.
        points: Of each cloud, at most.
        scene: Which evaluation scene is shown in 3D.
        note: What the author says.
        command: What was typed.
        icp: Score the clouds too (accuracy, completeness, normal consistency).
        measure: Execute the recipe and time it; off: only where the lab has done so.
        job: Follows and stops it.

    Raises:
        SceneError: There is no such scene.
        RecipeError: Somebody changed the recipe meanwhile: the numbers would be those of two recipes.
        JobCancelledError: The job was cancelled.
    """
    named = _scene_name(lab, scene)
    recipe = lab.recipe
    profile = lab.profile(job=between(job, 0.0, 0.4))
    diagnosis = lab.diagnose(job=between(job, 0.4, 0.7))
    evaluation = lab.evaluate(job=between(job, 0.7, 0.85), icp=icp)
    comparison, no_clouds = _compare(lab, scene, between(job, 0.85, 0.88))
    timing = between(job, 0.88, 0.9)
    measurement = lab.measure(scene, job=timing) if measure else lab.measured(scene)
    worst = _worst(lab, profile, diagnosis, between(job, 0.9, 1.0))
    _require_same(lab, recipe)
    return ReportData(
        model=lab.name,
        planted=bool(getattr(lab.model, "planted", False)),
        recipe=recipe,
        from_preset=_from_preset(recipe),
        plan=plan(lab.structure, recipe),
        layers=tuple(lab.structure.layers.values()),
        profile=profile,
        diagnosis=diagnosis,
        evaluation=evaluation,
        measurement=measurement,
        scene=named,
        comparison=comparison,
        clouds=b"" if comparison is None else _pack(comparison, named, points),
        no_clouds=no_clouds,
        worst=worst,
        note=note.strip(),
        provenance=provenance(lab, recipe, profile.scenes, scene=named, command=command),
    )


def _require_same(lab: Lab, recipe: Recipe) -> None:
    if lab.recipe != recipe:
        raise RecipeError(
            "the recipe was changed while the report was made",
            place="report",
            remedy="Make the report again.",
        )


def _scene_name(lab: Lab, index: int) -> str:
    if not 0 <= index < len(lab.evaluation):
        raise SceneError(
            f"there is no scene {index}",
            place="evaluation",
            remedy=f"The lab has {len(lab.evaluation)}, counted from 0.",
        )
    return str(getattr(lab.evaluation[index], "name", f"input {index + 1}"))


def _compare(lab: Lab, scene: int, job: Job | None) -> tuple[Comparison | None, str]:
    """The clouds, or why there are none: everything else can be reported without them."""
    try:
        return lab.compare(scene, job=job), ""
    except (SceneError, NumericError, MissingLibraryError) as error:
        return None, str(error)


def _pack(comparison: Comparison, scene: str, points: int) -> bytes:
    return pair_of_clouds(comparison, comparison.left, comparison.right, scene=scene, limit=points)


def _worst(lab: Lab, profile: Profile, diagnosis: Diagnosis, job: Job | None) -> tuple[LayerView, ...]:
    names = [name for name, error in diagnosis.worst_layers(WORST) if error > 0]
    names = names or [layer.name for layer in profile.worst(WORST)]
    views = []
    for index, name in enumerate(names):
        step(job, index, len(names), name)
        views.append(lab.layer(name, job=between(job, index / len(names), (index + 1) / len(names))))
    return tuple(views)


def _from_preset(recipe: Recipe) -> tuple[str, ...] | None:
    if recipe.name not in PRESETS:
        return None
    rounds = ("kv_bits", "kv_bits") if PRESETS[recipe.name].only == "kv" else ("weights", "activations")
    weights, activations = (int(recipe.defaults.get(name, FULL_PRECISION)) for name in rounds)
    base = Recipe.preset(recipe.name, weights=weights, activations=activations)
    return tuple(base.diff(recipe))
