"""Taking a lab's quantized network away as a packed checkpoint, read back and compared. It writes no tensor itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantlab.engine.execution import Run
from quantlab.engine.measuring import Measuring
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import FULL_PRECISION
from quantlab.engine.stages_folder import digest_of
from quantlab.engine.standing import require_place
from quantlab.engine.subject import scene_label
from quantlab.errors import NumericError
from quantlab.geometry.clouds import valid_mask
from quantlab.geometry.scores import point_error
from quantlab.jobs import Job, between, step
from quantlab.kernels.choose import execute
from quantlab.models.model import Model
from quantlab.models.prediction import Prediction
from quantlab.models.reconstruction import Reconstruction
from quantlab.packed.read import read_packed
from quantlab.packed.rest import check_rest
from quantlab.packed.write import Source, replacing, write_packed


@dataclass(frozen=True, slots=True)
class ExportDrift:
    """How far what `quantlab.load_model` runs on this machine is from the network that the lab simulates.

    Outputs are compared by the largest difference of any, over the largest magnitude of that output; clouds by the
    point error, as everywhere, which is None where the network gives no cloud.

    Attributes:
        outputs: Of the checkpoint as executed, from the simulation.
        point_error: Likewise.
        scene: Which was run: the first to evaluate.
        kernels: Kernel to how many layers it executed.
        stored: Outputs of the checkpoint by the reference kernel, from the simulation: what storing it cost, which is
            nothing where ``rest`` keeps every number.
        simulated: The simulation's own drift from full precision: point error, of a network without a cloud outputs.
        executed: The same of the checkpoint as executed.
    """

    outputs: float
    point_error: float | None
    scene: str
    kernels: Mapping[str, int] = field(default_factory=dict)
    stored: float = 0.0
    simulated: float | None = None
    executed: float | None = None

    def told(self) -> str:
        """The same in a few words, which go on from what was exported."""
        if self.outputs == 0:
            return "executed here exactly as simulated"
        if self.simulated is None or self.executed is None:
            return f"executed here {percent(self.outputs)} off what is simulated"
        both = f"{percent(self.executed)} as executed here, {percent(self.simulated)} as simulated"
        return f"off full precision by {both}"


@dataclass(frozen=True, slots=True)
class Exported:
    """A packed checkpoint that was written.

    Attributes:
        folder: Where; `quantlab.load_model` runs it.
        bytes: On the disk, everything included.
        full_bytes: Of all parameters in float32.
        half_bytes: Of all parameters in bfloat16.
        layers: Quantized ones.
        kept: Layers in full precision.
        parameters: Rounded ones outside of all layers, for a recipe of scope "all".
        seconds: Of the export, calibration included.
        drift: Of what runs here, from the simulation; None where it was not asked for.
    """

    folder: Path
    bytes: int
    full_bytes: int
    half_bytes: int
    layers: int
    kept: int
    parameters: int
    seconds: float
    drift: ExportDrift | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "folder": str(self.folder)}


class Exporting(Measuring):
    """A workbench whose quantized network can be taken away."""

    def export(
        self,
        folder: str | PathLike[str],
        *,
        rest: str = "bfloat16",
        drift: bool = True,
        overwrite: bool = False,
        job: Job | None = None,
    ) -> Exported:
        """Write the network as the recipe has it: packed codes that `quantlab.load_model` runs without this lab.

        Args:
            folder: A new or empty one, or with ``overwrite`` one that was exported before.
            rest: How matrices are stored that the recipe leaves alone: "bfloat16", or "float32" for no change at all.
                A recipe of scope "all" also rounds large parameters outside of all layers, unless "float32" is asked.
            drift: Run the first scene to evaluate through the written checkpoint, by the kernels that are fastest here
                and by the reference, and compare with the simulation.
            overwrite: Replace a packed checkpoint.
            job: Follows and stops it; nothing is left behind then.

        Raises:
            StorageError: The folder cannot be written, or something else stands there.
            RecipeError: The recipe cannot be carried out, or ``rest`` is unknown.
        """
        check_rest(rest)
        require_place(Path(folder), "packed", replacing(overwrite=overwrite), overwrite=overwrite)
        recipe, begun = self.recipe, time.perf_counter()
        with self._work:
            simulated = self._run_quantized(recipe, 0, between(job, 0.0, 0.5)) if drift else None
            self._apply(recipe, between(job, 0.5, 0.6) if drift else between(job, 0.0, 0.6))
            written = write_packed(
                self._quantizer.network,
                Path(folder),
                self._source(recipe, rest),
                rest=rest,
                overwrite=overwrite,
                measure=None if simulated is None else lambda part: asdict(self._drift(part, simulated, job)),
                job=between(job, 0.6, 0.9),
            )
        count = sum(parameter.numel() for parameter in self._subject.network.parameters())
        return Exported(
            written.folder,
            written.bytes,
            4 * count,
            2 * count,
            written.layers,
            written.kept,
            written.parameters,
            time.perf_counter() - begun,
            None if written.drift is None else ExportDrift(**written.drift),
        )

    def _source(self, recipe: Recipe, rest: str) -> Source:
        network, model = self._subject.network, self.model
        kind, sizes = (
            (network.kind, network.sizes.to_dict()) if isinstance(network, Reconstruction) else (None, {})
        )
        bits = recipe.defaults.get("weights", FULL_PRECISION)
        rounds = recipe.scope == "all" and rest != "float32" and bits < FULL_PRECISION
        calibrated = self._quantizer.plan is not None and self._quantizer.plan.calibrated
        about = {
            "model": {
                "name": self.name,
                "kind": kind,
                "sha256": self.fingerprint.partition("+")[0],
                "planted": self._subject.planted,
                "dtype": model.dtype if isinstance(model, Model) else None,
            },
            "recipe": recipe.to_dict(),
            "seed": recipe.seed,
            "scenes": digest_of(self.calibration) if calibrated else None,
        }
        return Source(kind, sizes, about, {"recipe.yaml": recipe.to_yaml()}, bits if rounds else None)

    def _drift(self, folder: Path, simulated: Run, job: Job | None) -> ExportDrift:
        network, value, exact = self._subject.network, simulated.value, self.reference()
        given = None if isinstance(network, Reconstruction) else network
        packed = read_packed(folder, network=given).network
        packed.to(next(iter(simulated.outputs.values())).device)
        if isinstance(packed, Reconstruction) and isinstance(network, Reconstruction):
            packed.compute_dtype = network.compute_dtype
        step(job, 90, 100, "comparing with the simulation")
        with torch.no_grad():
            stored = self._subject.run(packed, value)
            step(job, 95, 100, "comparing with the simulation, as executed here")
            kernels = execute(packed).kernels
            outputs = self._subject.run(packed, value)
        prediction = self._subject.decode(outputs, value)
        return ExportDrift(
            largest_difference(simulated.outputs, outputs),
            cloud_difference(simulated.prediction, prediction),
            scene_label(self.evaluation[0], 0),
            kernels,
            largest_difference(simulated.outputs, stored),
            _off(exact, simulated.outputs, simulated.prediction),
            _off(exact, outputs, prediction),
        )


def _off(exact: Run, outputs: Mapping[str, Tensor], prediction: Prediction | None) -> float | None:
    """Drift from full precision; None where a cloud collapsed."""
    if exact.prediction is None:
        return largest_difference(exact.outputs, outputs)
    return cloud_difference(exact.prediction, prediction)


def percent(share: float) -> str:
    """A share as people read it, three digits."""
    return f"{100 * share:.3g} %"


def largest_difference(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """The largest ``max|a - b| / max|a|`` of all outputs; 0 where both are the same."""
    shares = [0.0]
    for name, output in wanted.items():
        size = float(output.abs().max()) if output.numel() else 0.0
        error = float((output.double() - found[name].double()).abs().max()) if output.numel() else 0.0
        shares.append(error / size if size > 0 else error)
    return max(shares)


def cloud_difference(wanted: Prediction | None, found: Prediction | None) -> float | None:
    """The point error between two clouds; None where there are none, or they cannot be aligned."""
    if wanted is None or found is None:
        return None
    try:
        return point_error(found.points, wanted.points, valid_mask(wanted.points, found.points))
    except NumericError:
        return None
