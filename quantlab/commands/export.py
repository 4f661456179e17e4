"""`quantlab export`: a recipe carried out and taken away, packed to run here or for another runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantlab.commands import quantize
from quantlab.commands.console import megabytes, printable, say, stage, table
from quantlab.commands.options import (
    Activations,
    Device,
    Dtype,
    Json,
    Model,
    Precision,
    Preset,
    RecipeFile,
    Scope,
    Seed,
    Views,
    Weights,
)
from quantlab.commands.setup import ModelChoice, RecipeChoice, SceneChoice, called, label, warn
from quantlab.errors import RecipeError, StorageError
from quantlab.storage import check_writable, write_json

if TYPE_CHECKING:
    from quantlab.engine.export import ExportDrift
    from quantlab.lab import Lab


class Target(StrEnum):
    """What it is written for."""

    packed = "packed"
    onnx = "onnx"
    openvino = "openvino"


class Rest(StrEnum):
    """How matrices are stored that the recipe leaves alone."""

    bfloat16 = "bfloat16"
    float32 = "float32"


def export(
    *,
    out: Annotated[
        Path, typer.Option(help="Folder for the result: a new or an empty one, or see --overwrite.")
    ],
    model: Model = "mini",
    target: Annotated[
        Target, typer.Option(help="packed: our own, run by quantlab.load_model; or for another runtime.")
    ] = Target.packed,
    scenes: Annotated[
        str | None, typer.Option(help="Calibration, as --scenes elsewhere; the lab's own pool if not said.")
    ] = None,
    views: Views = 4,
    seed: Seed = 0,
    preset: Preset = None,
    weights: Weights = None,
    activations: Activations = None,
    scope: Scope = None,
    recipe: RecipeFile = None,
    static: Annotated[
        bool,
        typer.Option(
            "--static",
            help="One fixed scale for each layer's input, as ONNX and OpenVINO want it; calibrated.",
        ),
    ] = False,
    stages: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps finished blocks: go on from those of quantlab quantize."),
    ] = None,
    rest: Annotated[
        Rest, typer.Option(help="Of packed: how matrices are stored that the recipe leaves alone.")
    ] = Rest.bfloat16,
    drift: Annotated[
        bool,
        typer.Option("--drift/--no-drift", help="Of packed: compare what runs here with the simulation."),
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export to the same target.")
    ] = False,
    device: Device = "cpu",
    dtype: Precision = Dtype.float32,
    json: Json = None,
) -> None:
    """Write the quantized model: a packed checkpoint that runs on integer kernels, ONNX, or OpenVINO."""
    check_writable(json)
    if target is not Target.packed and (not drift or rest is not Rest.bfloat16):
        raise RecipeError(
            "--rest and --no-drift belong to packed checkpoints",
            place=f"--target {target.value}",
            remedy="Leave them out.",
        )
    with _asking_here():
        _require_free(out, target, overwrite=overwrite)
    chosen = RecipeChoice(preset, weights, activations, scope, recipe, seed).load(otherwise="rtn")
    if static:
        from quantlab.deploy import STATIC

        chosen = chosen.set("*", **STATIC)
    loaded = None if scenes is None else SceneChoice(scenes, views, seed).load(split="calibration")
    shown = ModelChoice(model, device, dtype.value).load()
    from quantlab.lab import Lab

    lab = Lab(shown, calibration=loaded, recipe=chosen, seed=seed)
    warn(lab)
    if stages is not None:
        quantize.write(lab, quantize.stages(lab, shown, stages))
    title = f"{called(shown)} under {label(chosen)}"
    if target is Target.packed:
        _packed(lab, title, out, json, rest=rest.value, drift=drift, overwrite=overwrite)
    else:
        _deployed(lab, title, out, json, target.value, overwrite=overwrite)


@contextmanager
def _asking_here() -> Iterator[None]:
    """Refusals that speak of Python speak of the command line instead."""
    try:
        yield
    except StorageError as error:
        remedy = error.remedy.replace("overwrite=True", "--overwrite")
        raise StorageError(error.problem, place=error.place, remedy=remedy) from None


def _require_free(out: Path, target: Target, *, overwrite: bool) -> None:
    """Refuse a place before anything is loaded: a full folder at once, an earlier export when it is known whose."""
    from quantlab.packed.folder import require_free

    if out.suffix not in (".onnx", ".xml"):
        require_free(out, lambda _: overwrite)
        if not overwrite:
            return
    if target is not Target.packed:
        from quantlab.deploy import require_free as require_target

        require_target(target.value, out, overwrite=overwrite)
        return
    from quantlab.engine.standing import require_place
    from quantlab.packed.write import replacing

    require_place(out, target.value, replacing(overwrite=overwrite), overwrite=overwrite)


def _packed(
    lab: Lab, title: str, out: Path, json: Path | None, *, rest: str, drift: bool, overwrite: bool
) -> None:
    with stage("export") as job:
        made = lab.export(out, rest=rest, drift=drift, overwrite=overwrite, job=job)
    if json is not None:
        say(f"written: {write_json(json, made.to_dict())}")
    rows: list[tuple[str, str | float | None]] = [
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
    folder = printable(str(out))
    table(f"{title}, in {folder}", ("", ""), rows, note=f"quantlab.load_model({folder!r}) runs it")


def _drift(drift: ExportDrift, layers: int) -> Iterator[tuple[str, str | None]]:
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


def _deployed(lab: Lab, title: str, out: Path, json: Path | None, target: str, *, overwrite: bool) -> None:
    from quantlab.deploy import export as deploy
    from quantlab.deploy import snippet
    from quantlab.engine.export import percent

    with stage("export") as job:
        made = deploy(lab, target, out, overwrite=overwrite, job=job)
    files = [str(path) for path in made.paths]
    if json is not None:
        record = {
            "files": files,
            "bytes": made.bytes,
            "full_bytes": made.full_bytes,
            "errors": dict(made.errors),
            "rounding": dict(made.rounding),
        }
        say(f"written: {write_json(json, record)}")
    rows: list[tuple[str, str | float | None]] = [
        ("on disk", megabytes(made.bytes)),
        ("full precision", megabytes(made.full_bytes)),
        ("input", " x ".join(map(str, made.shape))),
        *((f"off the simulation, {name}", percent(error)) for name, error in made.errors.items()),
        *((f"off full precision, {name}", percent(error)) for name, error in made.rounding.items()),
    ]
    table(f"{title}, in {printable(files[0])}", ("", ""), rows, note=snippet(target, made.paths[0]))
