"""`quantlab export`: a recipe carried out and taken away, packed to run here or for another runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from quantlab.commands import quantize
from quantlab.commands.console import megabytes, printable, say, stage, table
from quantlab.commands.setup import ModelChoice, RecipeChoice, SceneChoice, called, label, warn
from quantlab.errors import RecipeError, StorageError
from quantlab.storage import check_writable, write_json

if TYPE_CHECKING:
    from quantlab.engine.export import ExportDrift
    from quantlab.lab import Lab

PACKED = "packed"
Row = tuple[str, str | float | None]


class _Written(NamedTuple):
    """What to say of an export: as plain data, where it is, a table, and how to run it."""

    record: dict[str, Any]
    place: str
    rows: list[Row]
    note: str


@dataclass(frozen=True, slots=True)
class ExportChoice:
    """What is written, and where; see `quantlab.Lab.export` and `quantlab.deploy.export`.

    Attributes:
        out: Folder for it.
        target: "packed", or a key of `quantlab.deploy.TARGETS`.
        static: Whether the recipe gives way to the nearest that such a target holds.
        stages: Folder that keeps finished blocks.
        rest: Of packed.
        drift: Of packed.
        overwrite: Whether an earlier export to the same target may go.
    """

    out: Path
    target: str = PACKED
    static: bool = False
    stages: Path | None = None
    rest: str = "bfloat16"
    drift: bool = True
    overwrite: bool = False

    def check(self) -> None:
        """Refuse before anything is loaded what does not go together, and a place that is taken.

        Raises:
            RecipeError: Options of a packed checkpoint for another target.
            StorageError: Something stands there, or it cannot be written.
        """
        if self.target != PACKED and (not self.drift or self.rest != "bfloat16"):
            raise RecipeError(
                "--rest and --no-drift belong to packed checkpoints",
                place=f"--target {self.target}",
                remedy="Leave them out.",
            )
        with _asking_here():
            _require_free(self)


def run(
    model: ModelChoice,
    scenes: SceneChoice | None,
    recipe: RecipeChoice,
    choice: ExportChoice,
    *,
    json_file: Path | None,
) -> None:
    """Carry the recipe out, write it, and print how large it is and how far off.

    Args:
        model: Which network.
        scenes: Calibration; None: the lab's own.
        recipe: rtn W4A4 where nothing is said.
        choice: What is written, and where.
        json_file: The same as plain data.

    Raises:
        QuantLabError: Something that was asked for does not exist or cannot be done.
    """
    check_writable(json_file)
    choice.check()
    chosen = recipe.load(otherwise="rtn")
    loaded = None if scenes is None else scenes.load(split="calibration")
    shown = model.load()
    from quantlab.lab import Lab

    lab = Lab(shown, calibration=loaded, recipe=chosen, seed=recipe.seed)
    differs = _fit(lab) if choice.static else ""
    warn(lab)
    if choice.stages is not None:
        quantize.write(lab, quantize.stages(lab, shown, choice.stages))
    made = (_packed if choice.target == PACKED else _deployed)(lab, choice)
    if json_file is not None:
        say(f"written: {write_json(json_file, {**made.record, 'differs': differs})}")
    rows = [("changed by --static", differs), *made.rows] if differs else made.rows
    table(f"{called(shown)} under {label(lab.recipe)}, in {made.place}", ("", ""), rows, note=made.note)


def _fit(lab: Lab) -> str:
    """Let the lab's recipe give way to the nearest that ONNX and OpenVINO hold; what that changed, in words."""
    from quantlab.deploy import differs, fitted

    told = differs(lab.recipe, lab.structure)
    if told:
        lab.recipe = fitted(lab.recipe, lab.structure)
    return told


@contextmanager
def _asking_here() -> Iterator[None]:
    """Refusals that speak of Python speak of the command line instead."""
    try:
        yield
    except StorageError as error:
        remedy = error.remedy.replace("overwrite=True", "--overwrite")
        raise StorageError(error.problem, place=error.place, remedy=remedy) from None


def _require_free(choice: ExportChoice) -> None:
    """Refuse a place before anything is loaded: a full folder at once, an earlier export when it is known whose."""
    from quantlab.packed.folder import require_free

    out, overwrite = choice.out, choice.overwrite
    if out.suffix not in (".onnx", ".xml"):
        require_free(out, lambda _: overwrite)
        if not overwrite:
            return
    if choice.target != PACKED:
        from quantlab.deploy import require_free as require_target

        require_target(choice.target, out, overwrite=overwrite)
        return
    from quantlab.engine.standing import require_place
    from quantlab.packed.write import replacing

    require_place(out, choice.target, replacing(overwrite=overwrite), overwrite=overwrite)


def _packed(lab: Lab, choice: ExportChoice) -> _Written:
    with stage("export") as job:
        made = lab.export(
            choice.out, rest=choice.rest, drift=choice.drift, overwrite=choice.overwrite, job=job
        )
    rows: list[Row] = [
        ("on disk", megabytes(made.bytes)),
        ("full precision", f"{megabytes(made.full_bytes)}, in bfloat16 {megabytes(made.half_bytes)}"),
        (
            "smaller",
            f"{made.full_bytes / made.bytes:.1f}x, than bfloat16 {made.half_bytes / made.bytes:.1f}x",
        ),
        ("layers packed", str(made.layers)),
        ("layers kept", str(made.kept)),
        ("seconds", f"{made.seconds:.3g}"),
    ]
    if made.drift is not None:
        rows.extend(_drift(made.drift, made.layers))
    folder = printable(str(choice.out))
    return _Written(made.to_dict(), folder, rows, f"quantlab.load_model({folder!r}) runs it")


def _drift(drift: ExportDrift, layers: int) -> Iterator[Row]:
    from quantlab.engine.export import percent

    kernels = [f"{count} by {kernel}" for kernel, count in drift.kernels.items()]
    alone = layers - sum(drift.kernels.values())
    yield "executed here", ", ".join([*kernels, *([f"{alone} weights only"] if alone > 0 else [])])
    shares = {
        "difference from the simulation, outputs": drift.outputs,
        "difference from the simulation, points": drift.point_error,
        "of that by storing, outputs": drift.stored or None,
        "points off full precision, simulated": drift.simulated,
        "points off full precision, executed here": drift.executed,
    }
    for name, share in shares.items():
        if share is not None or name != "of that by storing, outputs":
            yield name, None if share is None else percent(share)


def _deployed(lab: Lab, choice: ExportChoice) -> _Written:
    from quantlab.deploy import export, snippet
    from quantlab.engine.export import percent

    with stage("export") as job:
        made = export(lab, choice.target, choice.out, overwrite=choice.overwrite, job=job)
    record = {
        "files": [str(path) for path in made.paths],
        "bytes": made.bytes,
        "full_bytes": made.full_bytes,
        "errors": dict(made.errors),
        "rounding": dict(made.rounding),
    }
    rows: list[Row] = [
        ("on disk", megabytes(made.bytes)),
        ("full precision", megabytes(made.full_bytes)),
        ("input", " x ".join(map(str, made.shape))),
        *((f"off the simulation, {name}", percent(error)) for name, error in made.errors.items()),
        *((f"off full precision, {name}", percent(error)) for name, error in made.rounding.items()),
    ]
    first = made.paths[0]
    return _Written(record, printable(str(first)), rows, snippet(choice.target, first))
