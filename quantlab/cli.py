"""The command line: arguments in, messages and exit codes out. What a verb does is in commands/.

Exit codes: 0 done; 1 a bug of QuantLab, with its traceback; 2 something you can put right; 3 `doctor` found
something missing that the lab needs; 130 interrupted.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from quantlab import __version__
from quantlab.app.options import FIRST_PORT
from quantlab.commands.setup import MODELS, PRESETS, ModelChoice, RecipeChoice, SceneChoice
from quantlab.errors import JobCancelledError, QuantLabError

USER_ERROR = 2
UNHEALTHY = 3
INTERRUPTED = 130


class Dtype(StrEnum):
    """The arithmetic of the full-precision network."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class Verbs(TyperGroup):
    """The verbs; an error a user can cause ends as one line on stderr, everything else as a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that was asked for."""
        try:
            return super().invoke(ctx)
        except JobCancelledError as error:
            raise typer.Exit(_tell(error, INTERRUPTED)) from error
        except QuantLabError as error:
            raise typer.Exit(_tell(error, USER_ERROR)) from error


cli = typer.Typer(
    cls=Verbs,
    name="quantlab",
    help="A lab bench for quantizing 3D reconstruction transformers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _complete_model(typed: str) -> list[str]:
    return [name for name in MODELS if name.startswith(typed)]


def _complete_preset(typed: str) -> list[str]:
    return [name for name in PRESETS if name.startswith(typed)]


Model = Annotated[
    str,
    typer.Option(
        help="mini, mini-outliers, vggt-1b, or a checkpoint file or folder.", autocompletion=_complete_model
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
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the whole result to this file.")]


def _show_version(asked: bool) -> None:  # noqa: FBT001 -- typer calls it so
    if asked:
        typer.echo(f"quantlab {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version.")
]


@cli.callback()
def common(*, version: Version = False) -> None:
    """See which layers are in trouble, score a recipe, or open the lab in the browser."""


@cli.command()
def inspect(
    *,
    model: Model = "mini",
    scenes: Scenes = "rooms:8",
    views: Views = 4,
    seed: Seed = 0,
    preset: Preset = None,
    weights: Weights = None,
    activations: Activations = None,
    scope: Scope = None,
    recipe: RecipeFile = None,
    device: Device = "cpu",
    dtype: Annotated[Dtype, typer.Option(help="Arithmetic of the network.")] = Dtype.float32,
    json: Json = None,
) -> None:
    """Find the layers with heavy tails, and the branches that suffer under a recipe (rtn W4A4 if none is given)."""
    from quantlab.commands import inspect as verb

    verb.run(
        ModelChoice(model, device, dtype.value),
        SceneChoice(scenes, views, seed),
        RecipeChoice(preset, weights, activations, scope, recipe, seed),
        json_file=json,
    )


@cli.command()
def evaluate(
    *,
    model: Model = "mini",
    scenes: Scenes = "rooms:8",
    views: Views = 4,
    seed: Seed = 0,
    preset: Preset = None,
    weights: Weights = None,
    activations: Activations = None,
    scope: Scope = None,
    recipe: RecipeFile = None,
    calibration: Annotated[
        str | None, typer.Option(help="Scenes to calibrate on, as --scenes; the lab's own if not said.")
    ] = None,
    icp: Annotated[
        bool, typer.Option("--icp/--no-icp", help="Also score the clouds (accuracy ...), which takes longer.")
    ] = True,
    device: Device = "cpu",
    dtype: Annotated[Dtype, typer.Option(help="Arithmetic of the network.")] = Dtype.float32,
    json: Json = None,
) -> None:
    """Score a recipe against the ground truth and against full precision (itself, without a preset or recipe)."""
    from quantlab.commands import evaluate as verb

    verb.run(
        ModelChoice(model, device, dtype.value),
        SceneChoice(scenes, views, seed),
        RecipeChoice(preset, weights, activations, scope, recipe, seed),
        calibration=calibration,
        icp=icp,
        json_file=json,
    )


@cli.command()
def app(
    *,
    model: Model = "mini",
    scene: Annotated[str, typer.Option(help="demo, a folder of pictures, a picture, or a film.")] = "demo",
    device: Device = "cpu",
    dtype: Annotated[Dtype, typer.Option(help="Arithmetic of the network.")] = Dtype.float32,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="First port tried; the next free one is taken, and told.")
    ] = FIRST_PORT,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the default browser.")
    ] = True,
) -> None:
    """Open the lab in the browser, on this machine only."""
    from quantlab.app import launch

    launch(model=model, scene=scene, device=device, dtype=dtype.value, port=port, open_browser=browser)


@cli.command()
def doctor(*, json: Json = None) -> None:
    """Say what this machine can run, what is missing, and how to get it."""
    from quantlab.commands import doctor as verb

    if not verb.run(json_file=json):
        raise typer.Exit(UNHEALTHY)


def main() -> None:
    """Entry point of the `quantlab` command."""
    cli(prog_name="quantlab")


def _tell(error: QuantLabError, code: int) -> int:
    typer.echo(f"quantlab: {error}", err=True)
    return code


if __name__ == "__main__":
    main()
