"""The arguments of `quantlab bench`, as typer reads them; the work is in bench.py and speed.py. Nothing heavy here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from quantlab.commands.bench import RESULTS
from quantlab.commands.options import Device, Views
from quantlab.commands.speed import RESULTS as SPEED_RESULTS

bench = typer.Typer(
    name="bench",
    help="Measure whole tables: accuracy by method and bits, speed and memory by way to run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@bench.command()
def accuracy(
    *,
    model: Annotated[
        str | None, typer.Option(help="Models with commas between; the built-in ones if not said.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Presets and variants, likewise; all if not said.")
    ] = None,
    bits: Annotated[
        str | None, typer.Option(help="Columns, as W4A4,W4A8; the papers' five if not said.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds at W4A4 and W4A8; elsewhere one.")] = 3,
    rooms: Annotated[int, typer.Option(min=1, help="Held-out rooms of each cell.")] = 30,
    headline_rooms: Annotated[int, typer.Option(min=1, help="Rooms at W4A4.")] = 100,
    icp_rooms: Annotated[int, typer.Option(min=0, help="The first so many are scored as clouds too.")] = 10,
    views: Views = 4,
    seed: Annotated[int, typer.Option(min=0, help="Which held-out rooms.")] = 7,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one a core.")] = 0,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of cells, tables and plots.")] = RESULTS,
    render: Annotated[
        bool, typer.Option("--render", help="Write the tables from the cells there are.")
    ] = False,
) -> None:
    """Print the accuracy table that papers print; a run that was stopped goes on where it was."""
    from quantlab.commands import bench as verb

    choice = verb.AccuracyChoice(
        model,
        methods,
        bits,
        seeds,
        rooms,
        headline_rooms,
        icp_rooms,
        views,
        seed,
        workers,
        device,
        out,
        render,
    )
    verb.accuracy(choice, ["quantlab", *sys.argv[1:]])


@bench.command()
def speed(
    *,
    shapes: Annotated[str, typer.Option(help="Sizes of the network: vggt-1b, or mini.")] = "vggt-1b",
    levels: Annotated[
        str | None, typer.Option(help="Of linear, block, forward, memory; all if not said.")
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(
            help="Pictures of a whole forward, with commas between; 2,4 if not said, 2,8,16 on a GPU."
        ),
    ] = None,
    threads: Annotated[str, typer.Option(help="Threads of arithmetic, likewise.")] = "1,2",
    rows: Annotated[
        str | None, typer.Option(help="Beginnings of variants' names, as W8A8,OpenVINO; all if not said.")
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(help="Of torchao, onnxruntime, openvino, zentorch; none for none; all if not said."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also where the time of a whole forward goes.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what was measured.")] = False,
    render: Annotated[
        bool, typer.Option("--render", help="Write the tables from the records there are.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of records and tables.")] = SPEED_RESULTS,
    depth: Annotated[int, typer.Option(min=0, max=24, hidden=True, help="Cut the network.")] = 0,
    device: Annotated[
        str, typer.Option(help="cpu; or cuda, where whole forwards and memory are measured.")
    ] = "cpu",
) -> None:
    """Time every way to run a network against the others, and weigh it; a run that was stopped goes on where it was."""
    from quantlab.commands import speed as verb

    choice = verb.SpeedChoice(
        shapes, levels, frames, threads, rows, peers, depth, device, out, quick, fresh, render, profile
    )
    verb.speed(choice, ["quantlab", *sys.argv[1:]])
