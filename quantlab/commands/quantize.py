"""`quantlab quantize`: a recipe carried out block by block into a folder, resumable. No rounding here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.commands.console import megabytes, printable, say
from quantlab.commands.setup import ModelChoice, RecipeChoice, SceneChoice, called, label, names, warn

if TYPE_CHECKING:
    from quantlab.engine.stages_folder import Finished, StageFolder
    from quantlab.lab import Lab
    from quantlab.models.model import Model


def run(
    model: ModelChoice, scenes: SceneChoice | None, recipe: RecipeChoice, *, out: Path, seed: int
) -> None:
    """Quantize the model; print the time of every block on the way, and size, memory and time at last.

    Without scenes the lab's own are taken, and of them those that the recipe selects.

    Raises:
        QuantLabError: Something that was asked for does not exist or cannot be done, or the folder holds something
            else.
    """
    begun = time.perf_counter()
    chosen = recipe.load(otherwise="rtn")
    loaded = None if scenes is None else scenes.load(split="calibration")
    shown = model.load()
    from quantlab.engine.watch import watched
    from quantlab.lab import Lab

    lab = Lab(
        shown, calibration=loaded, evaluation=None if loaded is None else loaded[:1], recipe=chosen, seed=seed
    )
    warn(lab)
    learned = "the lab's own scenes" if loaded is None else names(loaded)
    say(f"{called(shown)} under {label(chosen)}, calibrated on {learned}, into {out}")
    with watched() as memory:
        size = write(lab, stages(lab, shown, out))
    peak = "peak memory unknown" if memory.added is None else f"peak memory {megabytes(memory.added)}"
    seconds = time.perf_counter() - begun
    print(f"{printable(str(out))}: {megabytes(size)} packed, {peak}, {seconds:.1f} s")  # noqa: T201 - the result


def stages(lab: Lab, model: Model, path: Path) -> StageFolder:
    """The folder that keeps the finished blocks of the lab's recipe, and finds those of a former run.

    Raises:
        StorageError: It belongs to another model, recipe or calibration, or holds something else.
    """
    from quantlab import __version__
    from quantlab.engine.stages_folder import Identity, StageFolder, digest_of

    recipe, scenes = lab.recipe, digest_of(lab.calibration)
    identity = Identity(__version__, model.sha256, model.dtype, recipe.to_dict(), scenes)
    return StageFolder(path, identity, recipe, told=_tell)


def write(lab: Lab, folder: StageFolder) -> int:
    """Carry the lab's recipe out into the folder; answers the bytes of everything that is quantized."""
    quantizer = lab.calibrated(store=folder)
    staged = {name for stage in folder.finished for name in stage.names}
    layers = {name: quantizer.layer(name) for name in lab.plan().quantized}
    outside = {name: layer for name, layer in layers.items() if layer is not None and name not in staged}
    fits = quantizer.fits.items()
    return folder.finish(outside, {name: fit.correction for name, fit in fits if fit.correction is not None})


def _tell(stage: Finished) -> None:
    done = "was there already" if stage.known else f"{len(stage.names)} layers, {megabytes(stage.bytes)}"
    say(f"{stage.stage}: {stage.seconds:.1f} s, {done}")
