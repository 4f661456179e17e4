"""From a lab and a target's name to files that were loaded back and compared. Tracing and writing are elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quantlab import __version__
from quantlab.deploy.onnx_file import Arrays, export_onnx, run_onnx
from quantlab.deploy.openvino_ir import export_openvino, run_openvino
from quantlab.deploy.refusals import require_plan
from quantlab.deploy.runtimes import require, version
from quantlab.errors import RecipeError, StorageError
from quantlab.jobs import Job, between, step
from quantlab.lab import Lab
from quantlab.registry import Registry
from quantlab.storage import check_writable


@dataclass(frozen=True, slots=True)
class Target:
    """One format.

    Attributes:
        label: What people call it.
        suffix: Of its file.
        write: ``write(network, example, path, names=..., notes=...)``.
        run: ``run(path, example)`` gives the outputs by name.
        libraries: What it needs.
    """

    label: str
    suffix: str
    write: Callable[..., Path]
    run: Callable[[Path, Tensor], Arrays]
    libraries: tuple[str, ...]


TARGETS: Registry[Target] = Registry("deploy target", RecipeError)
TARGETS.register("onnx")(
    Target("ONNX", ".onnx", export_onnx, run_onnx, ("onnxscript", "onnx", "onnxruntime"))
)
TARGETS.register("openvino")(
    Target("OpenVINO", ".xml", export_openvino, run_openvino, ("onnxscript", "onnx", "openvino"))
)


@dataclass(frozen=True, slots=True)
class Deployed:
    """What was written, and how close it came.

    Attributes:
        paths: The files, the one to load first.
        bytes: Of all files.
        full_bytes: Of the network's parameters in float32.
        shape: Of the only input it takes.
        errors: Output to the difference between the runtime and the simulation, as `difference` has it. A sum in
            another order can flip a rounding, which all that follows sees: compare with ``rounding``.
        rounding: Output to the difference between the simulation and full precision.
        versions: Of the libraries.
    """

    paths: tuple[Path, ...]
    bytes: int
    full_bytes: int
    shape: tuple[int, ...]
    errors: Mapping[str, float]
    rounding: Mapping[str, float]
    versions: Mapping[str, str]

    @property
    def max_error(self) -> float:
        """The largest of the errors."""
        return max(self.errors.values(), default=0.0)


def export(lab: Lab, target: str, path: str | Path, *, scene: int = 0, job: Job | None = None) -> Deployed:
    """Write the lab's recipe for another runtime, load it back, and compare it with the simulation on one scene.

    Args:
        lab: Its recipe must be static W8A8, or round weights only.
        target: "onnx" or "openvino".
        path: A file, or a folder (made where there is none) that gets ``model.onnx`` or ``model.xml``.
        scene: Which evaluation scene: its size and number of pictures are the only ones the file takes.
        job: Follows and stops it, between steps.

    Raises:
        RecipeError: There is no such target, or it cannot hold the recipe; found before anything is calibrated.
        MissingLibraryError: A library is not installed; says what to run.
        StorageError: The files cannot be written.
    """
    chosen = TARGETS[target]
    require_plan(lab.plan(), lab.structure, chosen.label)
    for library in chosen.libraries:
        require(library)
    file = _file(Path(path), chosen)
    run = lab.quantized(scene, job=between(job, 0.0, 0.4))
    step(job, 4, 10, f"write {file.name}")
    notes = {"quantlab": __version__, "model": lab.name, "recipe": json.dumps(lab.recipe.to_dict())}
    quantizer = lab.calibrated(job=between(job, 0.4, 0.5))
    written = chosen.write(quantizer.network, run.value, file, names=tuple(run.outputs), notes=notes)
    step(job, 9, 10, f"run {file.name}")
    found = chosen.run(written, run.value)
    files, full = _written(written), lab.reference(scene).outputs
    return Deployed(
        paths=files,
        bytes=sum(file.stat().st_size for file in files),
        full_bytes=sum(4 * parameter.numel() for parameter in quantizer.reference.parameters()),
        shape=tuple(run.value.shape),
        errors={name: difference(found[name], _array(output)) for name, output in run.outputs.items()},
        rounding={
            name: difference(_array(run.outputs[name]), _array(output)) for name, output in full.items()
        },
        versions={library: version(library) for library in chosen.libraries},
    )


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Root mean square of the difference, relative to that of ``expected``."""
    size = float(np.linalg.norm(expected))
    return float(np.linalg.norm(found - expected)) / size if size else float(np.linalg.norm(found))


def _array(output: Tensor) -> NDArray[np.float32]:
    return np.asarray(output.cpu().numpy())


def _file(path: Path, target: Target) -> Path:
    if path.suffix != target.suffix:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the folder cannot be made: {error.strerror or error}",
                place=str(path),
                remedy=f"Name another folder, or a file that ends in {target.suffix}.",
            ) from error
        path /= f"model{target.suffix}"
    check_writable(path)
    return path


def _written(path: Path) -> tuple[Path, ...]:
    beside = (path.with_name(f"{path.name}.data"), path.with_suffix(".bin"))
    return (path, *(file for file in beside if file.exists()))
