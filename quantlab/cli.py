"""The command line: arguments in, messages and exit codes out. What a verb does is in commands/.

Exit codes: 0 done; 1 a bug of QuantLab, with its traceback; 2 something you can put right; 3 `doctor` found
something missing that the lab needs; 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from quantlab import __version__
from quantlab.app.options import FIRST_PORT
from quantlab.commands.bench_options import bench
from quantlab.commands.export_options import export
from quantlab.commands.options import (
    Activations,
    Device,
    Dtype,
    Json,
    Measure,
    Model,
    Precision,
    Preset,
    RecipeFile,
    Scenes,
    Scope,
    Seed,
    Views,
    Weights,
)
from quantlab.commands.search_options import search
from quantlab.commands.setup import ModelChoice, RecipeChoice, SceneChoice
from quantlab.errors import JobCancelledError, QuantLabError

USER_ERROR = 2
UNHEALTHY = 3
INTERRUPTED = 130


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
    dtype: Precision = Dtype.float32,
    profile: Annotated[
        Path | None, typer.Option(help="A profile measured elsewhere (.npz), in place of measuring.")
    ] = None,
    save_profile: Annotated[
        Path | None, typer.Option(help="Keep the profile in this file, to look at elsewhere.")
    ] = None,
    measure: Measure = False,
    json: Json = None,
) -> None:
    """Find the layers with heavy tails, and the branches that suffer under a recipe (rtn W4A4 if none is given)."""
    from quantlab.commands import inspect as verb

    verb.run(
        ModelChoice(model, device, dtype.value),
        SceneChoice(scenes, views, seed),
        RecipeChoice(preset, weights, activations, scope, recipe, seed),
        profiles=verb.ProfileFiles(profile, save_profile),
        measure=measure,
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
    measure: Measure = False,
    kernel: Annotated[
        str, typer.Option(help="Of a packed folder: auto, reference, or the kernel by name.")
    ] = "auto",
    compute: Annotated[
        str, typer.Option(help="Of a packed folder: float32, or bfloat16 between the quantized layers.")
    ] = "float32",
    against: Annotated[
        str | None,
        typer.Option(help="Of a packed folder: what it is compared with, if not the model it was made from."),
    ] = None,
    device: Device = "cpu",
    dtype: Precision = Dtype.float32,
    json: Json = None,
) -> None:
    """Score a recipe against the ground truth and against full precision (itself, without a preset or recipe).

    A packed folder as --model is scored as it runs here: by integer kernels, without a recipe of its own.
    """
    from quantlab.commands import evaluate as verb

    verb.run(
        ModelChoice(model, device, dtype.value),
        SceneChoice(scenes, views, seed),
        RecipeChoice(preset, weights, activations, scope, recipe, seed),
        verb.PackedChoice(kernel, compute, against),
        calibration=calibration,
        icp=icp,
        measure=measure,
        json_file=json,
    )


@cli.command()
def quantize(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the result; one that was begun is gone on with.")],
    model: Model = "mini",
    scenes: Annotated[
        str | None,
        typer.Option(
            help="Calibration: rooms:N, a folder of pictures, a picture, or a film; the lab's own pool if not said."
        ),
    ] = None,
    views: Views = 4,
    seed: Seed = 0,
    preset: Preset = None,
    weights: Weights = None,
    activations: Activations = None,
    scope: Scope = None,
    recipe: RecipeFile = None,
    device: Device = "cpu",
    dtype: Precision = Dtype.float32,
) -> None:
    """Quantize block by block, in the memory of one block, into a folder; what was killed goes on where it was.

    The folder keeps finished blocks; `quantlab export --stages` with the same recipe writes what runs.
    """
    from quantlab.commands import quantize as verb

    verb.run(
        ModelChoice(model, device, dtype.value),
        None if scenes is None else SceneChoice(scenes, views, seed),
        RecipeChoice(preset, weights, activations, scope, recipe, seed),
        out=out,
        seed=seed,
    )


@cli.command()
def report(
    *,
    out: Annotated[Path, typer.Option(help="The HTML file.")],
    model: Model = "mini",
    scenes: Scenes = "demo",
    views: Views = 4,
    seed: Seed = 0,
    preset: Preset = None,
    weights: Weights = None,
    activations: Activations = None,
    scope: Scope = None,
    recipe: RecipeFile = None,
    note: Annotated[str, typer.Option(help="What you want to say to the reader.")] = "",
    icp: Annotated[bool, typer.Option("--icp", help="Score the clouds too, which takes longer.")] = False,
    measure: Measure = False,
    device: Device = "cpu",
    dtype: Precision = Dtype.float32,
) -> None:
    """Write one offline HTML file: clouds in 3D, numbers, layers, recipe and where all of it comes from."""
    from quantlab.commands import report as verb

    verb.run(
        ModelChoice(model, device, dtype.value),
        SceneChoice(scenes, views, seed),
        RecipeChoice(preset, weights, activations, scope, recipe, seed),
        verb.ReportChoice(out, note=note, icp=icp, measure=measure),
        ["quantlab", *sys.argv[1:]],
    )


cli.command()(search)
cli.command()(export)


@cli.command()
def app(
    *,
    model: Model = "mini",
    scene: Annotated[str, typer.Option(help="demo, a folder of pictures, a picture, or a film.")] = "demo",
    device: Device = "cpu",
    dtype: Precision = Dtype.float32,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="First port tried; the next free one is taken, and told.")
    ] = FIRST_PORT,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the default browser.")
    ] = True,
    root_path: Annotated[
        str,
        typer.Option(
            help="Where a proxy shows the page: /user/me/proxy/7860, or https://hub/user/me/proxy/7860."
        ),
    ] = "",
) -> None:
    """Open the lab in the browser, on this machine only."""
    from quantlab.app import launch

    launch(
        model=model,
        scene=scene,
        device=device,
        dtype=dtype.value,
        port=port,
        open_browser=browser,
        root_path=root_path,
    )


cli.add_typer(bench)


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
