"""`quantlab evaluate`: scores of a recipe, or of a packed folder as it runs here. It computes no score."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.commands.console import megabytes, printable, say, stage, table
from quantlab.commands.setup import ModelChoice, RecipeChoice, SceneChoice, called, label, names, warn
from quantlab.engine.executable import executable
from quantlab.errors import RecipeError
from quantlab.figures.readable import duration
from quantlab.storage import check_writable, write_json
from quantlab.views.timing import explained

if TYPE_CHECKING:
    from quantlab.engine.evaluation import Evaluation
    from quantlab.engine.measurement import Measurement
    from quantlab.engine.recipe import Recipe
    from quantlab.lab import Lab
    from quantlab.models.model import Model
    from quantlab.packed.load import PackedModel

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


@dataclass(frozen=True, slots=True)
class PackedChoice:
    """How a packed folder is run, and which model it is compared with."""

    kernel: str = "auto"
    compute: str = "float32"
    against: str | None = None


def run(
    model: ModelChoice,
    scenes: SceneChoice,
    recipe: RecipeChoice,
    packed: PackedChoice,
    *,
    calibration: str | None,
    icp: bool,
    measure: bool = False,
    json_file: Path | None,
) -> None:
    """Score the model under the recipe, or the packed folder, on the scenes; print the scores, write all of them.

    Raises:
        QuantLabError: Something that was asked for does not exist or cannot be done.
    """
    from quantlab.packed.manifest import is_packed

    check_writable(json_file)
    if is_packed(model.name):
        if recipe != RecipeChoice(seed=recipe.seed) or calibration is not None or measure:
            raise RecipeError(
                "a packed checkpoint is quantized already, and always executed",
                place=model.name,
                remedy="Leave out the recipe, --calibration and --measure; its time is printed anyway.",
            )
        _run_packed(model, scenes, packed, icp=icp, json_file=json_file)
        return
    if packed != PackedChoice():
        raise RecipeError(
            "--kernel, --compute and --against belong to a packed checkpoint",
            place=model.name,
            remedy="Leave them out, or name a folder that quantlab export wrote.",
        )
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
    time = _time(evaluation) if measured is None else timed(measured)
    _print(f"{called(shown)} under {label(chosen)} on {names(loaded)}", evaluation, time)


def _run_packed(
    choice: ModelChoice, scenes: SceneChoice, packed: PackedChoice, *, icp: bool, json_file: Path | None
) -> None:
    loaded = scenes.load()
    with stage("choose kernels"):
        model = choice.load_packed(packed.kernel, packed.compute)
    other = (
        None if packed.against is None else ModelChoice(packed.against, choice.device, choice.dtype).load()
    )
    from quantlab.engine.evaluate_model import evaluate

    with stage("evaluate") as job:
        evaluation = evaluate(model, loaded, against=other, icp=icp, job=job)
    if json_file is not None:
        say(f"written: {write_json(json_file, packed_record(model, evaluation))}")
    time = f"{' '.join(duration(evaluation.seconds))} a scene as executed"
    ran = model.execution.summary().partition("\n")[0]
    _print(f"{_origin(model)} on {names(loaded)}", evaluation, f"{time}\nkernels: {ran}")


def packed_record(model: PackedModel, evaluation: Evaluation) -> dict[str, Any]:
    """As `record`, but of a packed model, and with how it was executed."""
    from quantlab.engine.machine import processor

    return {
        "model": model.name,
        "planted": model.planted,
        "recipe": dict(model.recipe),
        **evaluation.to_dict(),
        "provenance": dict(model.provenance),
        "execution": {**model.execution.to_dict(), "machine": processor()},
    }


def _origin(model: PackedModel) -> str:
    """Folder, model and recipe in a few words; the recipe may be of methods that this process does not know."""
    bits = [model.recipe.get("defaults", {}).get(field, 16) for field in ("weights", "activations")]
    recipe = f"{model.recipe.get('name', 'a recipe')} W{bits[0]}A{bits[1]}"
    planted = ", outliers planted" if model.planted else ""
    return printable(f"{model.name} ({model.provenance['model'].get('name')}{planted}, {recipe})")


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


def _print(title: str, evaluation: Evaluation, time: str) -> None:
    truth = {} if evaluation.ground_truth is None else asdict(evaluation.ground_truth)
    drift = asdict(evaluation.full_precision)
    columns = {"against ground truth": truth, "against full precision": drift}
    columns = {
        head: found
        for head, found in columns.items()
        if any(found.get(field) is not None for field in ROWS.values())
    }
    rows = [
        (label, *(found.get(field) for found in columns.values()))
        for label, field in ROWS.items()
        if any(found.get(field) is not None for found in columns.values())
    ]
    size = f"{megabytes(evaluation.packed_bytes)} packed, {megabytes(evaluation.full_bytes)} in 16 bits"
    note = f"{size}; {time}\n" + "\n".join(map(printable, evaluation.problems))
    table(title, ("", *columns), rows, note=note.rstrip())


def timed(measured: Measurement) -> str:
    """The measured latency and memory in a line, and how they came about in the lines below."""
    first = f"{' '.join(duration(measured.seconds))} a scene as executed"
    return f"{first}\n{explained(measured)}"


def _time(evaluation: Evaluation) -> str:
    """What is known of the time: nothing where blocks were answered from memory, as in the app's tile."""
    if evaluation.replayed:
        return "time not measured (--measure)"
    return f"{evaluation.seconds:.3g} s a scene, arithmetic simulated (--measure executes it)"
