"""The arguments of `quantlab search`, as typer reads them. It loads nothing heavy; the work is in search.py."""

from __future__ import annotations

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


def search(
    *,
    budget: Annotated[
        str | None,
        typer.Option(
            help="'50%' of the quantized layers' 8-bit size, '10 MB' in all, '30 ms' a forward pass here, or"
            " '30 ms or fastest'; the recipe's own size if not said."
        ),
    ] = None,
    model: Model = "mini",
    scenes: Annotated[
        str | None,
        typer.Option(
            help="What to search on, as rooms:N, a folder or a film; the lab's own rooms if not said."
        ),
    ] = None,
    views: Views = 4,
    seed: Seed = 0,
    preset: Preset = None,
    weights: Weights = None,
    activations: Activations = None,
    scope: Scope = None,
    recipe: RecipeFile = None,
    bits: Annotated[str, typer.Option(help="Bits a layer may have; 16 is always one more.")] = "2,3,4,6,8",
    vary: Annotated[str, typer.Option(help="weights, or both: inputs get the same bits.")] = "weights",
    mode: Annotated[
        str, typer.Option(help="How single layers are measured: alone, or restored in the quantized network.")
    ] = "alone",
    trials: Annotated[int, typer.Option(min=1, help="Scenes that each trial runs.")] = 4,
    tries: Annotated[int, typer.Option(min=0, help="Changes run at last to improve the result.")] = 24,
    device: Device = "cpu",
    dtype: Precision = Dtype.float32,
    out: Annotated[Path | None, typer.Option(help="Write the chosen recipe to this file.")] = None,
    json: Json = None,
) -> None:
    """Find the bits of every layer that hurt least within a size, and write them as a recipe."""
    from quantlab.commands import search as verb

    verb.run(
        ModelChoice(model, device, dtype.value),
        None if scenes is None else SceneChoice(scenes, views, seed),
        RecipeChoice(preset, weights, activations, scope, recipe, seed),
        verb.SearchChoice(budget, bits, mode, vary, trials, tries, seed),
        out=out,
        json_file=json,
    )
