"""The arguments of `quantlab export`, as typer reads them. It loads nothing heavy; the work is in export.py."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

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
from quantlab.commands.setup import ModelChoice, RecipeChoice, SceneChoice


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
            help="Take the nearest recipe that ONNX and OpenVINO hold: 8-bit inputs, one fixed scale a layer.",
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
    from quantlab.commands import export as verb

    verb.run(
        ModelChoice(model, device, dtype.value),
        None if scenes is None else SceneChoice(scenes, views, seed),
        RecipeChoice(preset, weights, activations, scope, recipe, seed),
        verb.ExportChoice(
            out, target.value, static=static, stages=stages, rest=rest.value, drift=drift, overwrite=overwrite
        ),
        json_file=json,
    )
