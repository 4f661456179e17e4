"""The options that verbs share, as typer reads them: names, help and completion. They load nothing heavy."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from quantlab.commands.setup import MODELS, PRESETS


class Dtype(StrEnum):
    """The arithmetic of the full-precision network."""

    float32 = "float32"
    bfloat16 = "bfloat16"


def _complete_model(typed: str) -> list[str]:
    return [name for name in MODELS if name.startswith(typed)]


def _complete_preset(typed: str) -> list[str]:
    return [name for name in PRESETS if name.startswith(typed)]


Model = Annotated[
    str,
    typer.Option(
        help="mini, mini-outliers, pi3-mini, vggt-1b, pi3, or a checkpoint file or folder.",
        autocompletion=_complete_model,
    ),
]
Scenes = Annotated[str, typer.Option(help="demo, rooms:N, a folder of pictures, a picture, or a film.")]
Views = Annotated[int, typer.Option(min=1, help="Pictures of each room.")]
Seed = Annotated[int, typer.Option(min=0, help="Which rooms, and the seed of the recipe.")]
Preset = Annotated[
    str | None, typer.Option(help=f"Method: {', '.join(PRESETS)}.", autocompletion=_complete_preset)
]
Weights = Annotated[int | None, typer.Option(help="Bits of the weights, 2 to 8 or 16; 4 if not said.")]
Activations = Annotated[int | None, typer.Option(help="Bits of the activations, likewise.")]
Scope = Annotated[str | None, typer.Option(help="What a preset quantizes: trunk (default), linears, all.")]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="A recipe file, in place of a preset.")]
Precision = Annotated[Dtype, typer.Option(help="Arithmetic of the network.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the whole result to this file.")]
Measure = Annotated[
    bool, typer.Option("--measure", help="Execute the recipe with real kernels, and time the first scene.")
]
