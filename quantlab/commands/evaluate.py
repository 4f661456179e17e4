"""`quantlab evaluate`: scores of a recipe against the truth and against full precision. It computes no score."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.commands.console import megabytes, printable, say, stage, table
from quantlab.commands.setup import ModelChoice, RecipeChoice, SceneChoice, called, label, names, warn
from quantlab.engine.executable import executable
from quantlab.figures.readable import duration
from quantlab.storage import check_writable, write_json
from quantlab.views.timing import explained

if TYPE_CHECKING:
    from quantlab.engine.evaluation import Evaluation
    from quantlab.engine.measurement import Measurement
    from quantlab.engine.recipe import Recipe
    from quantlab.lab import Lab
    from quantlab.models.model import Model

ROWS = {
    "camera AUC@30": "auc30",
    "camera AUC@15": "auc15",
    "camera AUC@5": "auc5",
    "camera AUC@3": "auc3",
    "depth AbsRel": "abs_rel",
    "accuracy": "accuracy",
    "completeness": "completeness",
    "normal consistency": "normal_consistency",
    "point error": "point_error",
}


def run(
    model: ModelChoice,
    scenes: SceneChoice,
    recipe: RecipeChoice,
    *,
    calibration: str | None,
    icp: bool,
    measure: bool = False,
    json_file: Path | None,
) -> None:
    """Score the model under the recipe on the scenes, print the scores, write all of them.

    Raises:
        QuantLabError: Something that was asked for does not exist or cannot be done.
    """
    check_writable(json_file)
    chosen = recipe.load(otherwise="full_precision")
    loaded, shown = scenes.load(), model.load()
    asked = None if calibration is None else SceneChoice(calibration, scenes.views, scenes.seed)
    pool = None if asked is None else asked.load(split="calibration")
    from quantlab.lab import Lab

    lab = Lab(shown, calibration=pool, evaluation=loaded, recipe=chosen, seed=scenes.seed)
    warn(lab)
    measured = measured_on(lab) if measure else None
    with stage("evaluate") as job:
        evaluation = lab.evaluate(job=job, icp=icp)
    if json_file is not None:
        say(f"written: {write_json(json_file, record(shown, chosen, evaluation, measured))}")
    _print(f"{called(shown)} under {label(chosen)} on {names(loaded)}", evaluation, measured)


def measured_on(lab: Lab) -> Measurement:
    """The lab's first scene as executed, with what a person should know of it."""
    with stage("measure") as job:
        measured = lab.measure(job=job)
    nearest = executable(lab.recipe, lab.structure)
    if nearest != lab.recipe:
        changes = "; ".join(lab.recipe.diff(nearest))
        say(
            f"note: {len(measured.simulated)} layers are simulated; the nearest recipe that runs fast: {changes}"
        )
    return measured


def record(
    model: Model, recipe: Recipe, evaluation: Evaluation, measured: Measurement | None = None
) -> dict[str, Any]:
    """The whole result as plain data, in the form that tables and later versions read."""
    return {
        "model": model.name,
        "planted": model.planted,
        "recipe": json.loads(recipe.to_json()),
        **evaluation.to_dict(),
        "measurement": None if measured is None else measured.to_dict(),
    }


def _print(title: str, evaluation: Evaluation, measured: Measurement | None) -> None:
    truth = {} if evaluation.ground_truth is None else asdict(evaluation.ground_truth)
    drift = asdict(evaluation.full_precision)
    rows = [
        (label, truth.get(field), drift.get(field))
        for label, field in ROWS.items()
        if truth.get(field) is not None or drift.get(field) is not None
    ]
    size = f"{megabytes(evaluation.packed_bytes)} packed, {megabytes(evaluation.full_bytes)} in 16 bits"
    time = _time(evaluation) if measured is None else timed(measured)
    note = f"{size}; {time}\n" + "\n".join(map(printable, evaluation.problems))
    table(title, ("", "against ground truth", "against full precision"), rows, note=note.rstrip())


def timed(measured: Measurement) -> str:
    """The measured latency and memory in a line, and how they came about in the lines below."""
    first = f"{' '.join(duration(measured.seconds))} a scene as executed"
    return f"{first}\n{explained(measured)}"


def _time(evaluation: Evaluation) -> str:
    """What is known of the time: nothing where blocks were answered from memory, as in the app's tile."""
    if evaluation.replayed:
        return "time not measured (--measure)"
    return f"{evaluation.seconds:.3g} s a scene, arithmetic simulated (--measure executes it)"
