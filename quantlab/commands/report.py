"""`quantlab report`: one offline HTML file about a recipe. It measures through the lab and draws nothing itself."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from quantlab.commands.console import megabytes, say, stage
from quantlab.commands.setup import ModelChoice, RecipeChoice, SceneChoice, warn
from quantlab.report.page import POINTS, checked, write


@dataclass(frozen=True, slots=True)
class ReportChoice:
    """What goes into the report besides model, scenes and recipe; see `quantlab.report.write`."""

    out: Path
    shown: int = 0
    points: int = POINTS
    note: str = ""
    icp: bool = False
    measure: bool = False
    calibration: str | None = None


def run(
    model: ModelChoice, scenes: SceneChoice, recipe: RecipeChoice, chosen: ReportChoice, typed: list[str]
) -> None:
    """Measure and write.

    Args:
        model: Which network.
        scenes: What it is judged on.
        recipe: What is done to it; rtn W4A4 where nothing is said.
        chosen: What goes in, and where it goes.
        typed: The command line, for the report's last section.

    Raises:
        QuantLabError: Something that was asked for does not exist or cannot be done.
    """
    checked(chosen.out)
    asked = recipe.load(otherwise="rtn")
    loaded, shown = scenes.load(), model.load()
    pool = None
    if chosen.calibration is not None:
        pool = SceneChoice(chosen.calibration, scenes.views, scenes.seed).load(split="calibration")
    from quantlab.lab import Lab

    lab = Lab(shown, calibration=pool, evaluation=loaded, recipe=asked, seed=scenes.seed)
    warn(lab)
    with stage("report") as job:
        path = write(
            lab,
            chosen.out,
            scene=chosen.shown,
            points=chosen.points,
            note=chosen.note,
            icp=chosen.icp,
            measure=chosen.measure,
            command=shlex.join(typed),
            job=job,
        )
    say(f"written: {path} ({megabytes(path.stat().st_size)}); it opens by double click, without a network")
