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
from quantlab.deploy import onnx_file, openvino_ir
from quantlab.deploy.graph import INPUT
from quantlab.deploy.onnx_file import Arrays, export_onnx, run_onnx
from quantlab.deploy.openvino_ir import export_openvino, run_openvino
from quantlab.deploy.place import Place
from quantlab.deploy.refusals import require_plan
from quantlab.deploy.runtimes import require, version
from quantlab.engine.plan import plan
from quantlab.engine.recipe import Recipe
from quantlab.errors import RecipeError
from quantlab.jobs import Job, between, step
from quantlab.lab import Lab
from quantlab.registry import Registry


@dataclass(frozen=True, slots=True)
class Target:
    """One format.

    Attributes:
        label: What people call it.
        suffix: Of its file.
        data: In its stead, of the file beside it that holds weights.
        write: ``write(network, example, path, names=..., notes=...)``.
        run: ``run(path, example)`` gives the outputs by name.
        wrote: Whether a file is one that ``write`` made.
        code: Two lines that run a file: {path} is its text, ``images`` an array of the shape it takes.
        libraries: What it needs.
    """

    label: str
    suffix: str
    data: str
    write: Callable[..., Path]
    run: Callable[[Path, Tensor], Arrays]
    wrote: Callable[[Path], bool]
    code: str
    libraries: tuple[str, ...]


RUN_ONNX = (
    "import onnxruntime\n"
    f'outputs = onnxruntime.InferenceSession({{path}}).run(None, {{{{"{INPUT}": images}}}})'
)
RUN_OPENVINO = (
    f'import openvino\noutputs = openvino.Core().compile_model({{path}}, "CPU")({{{{"{INPUT}": images}}}})'
)

TARGETS: Registry[Target] = Registry("deploy target", RecipeError)
ONNX = ("onnxscript", "onnx", "onnxruntime")
OPENVINO = ("onnxscript", "onnx", "openvino")
TARGETS.register("onnx")(
    Target("ONNX", ".onnx", ".onnx.data", export_onnx, run_onnx, onnx_file.is_ours, RUN_ONNX, ONNX)
)
TARGETS.register("openvino")(
    Target(
        "OpenVINO",
        ".xml",
        ".bin",
        export_openvino,
        run_openvino,
        openvino_ir.is_ours,
        RUN_OPENVINO,
        OPENVINO,
    )
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


def export(
    lab: Lab,
    target: str,
    path: str | Path,
    *,
    recipe: Recipe | None = None,
    scene: int = 0,
    overwrite: bool = False,
    job: Job | None = None,
) -> Deployed:
    """Write the lab's recipe for another runtime, load it back, and compare it with the simulation on one scene.

    What takes its place under ``path`` was loaded and run before: when anything fails, what stood there stays.

    Args:
        lab: Its recipe must be static W8A8, or round weights only; `fitted` is the nearest that is.
        target: "onnx" or "openvino".
        path: A new or an empty folder, which gets ``model.onnx`` or ``model.xml`` and ``recipe.yaml``; or a new file
            of that ending.
        recipe: Another recipe than the one in force, which stays.
        scene: Which evaluation scene: its size and number of pictures are the only ones the file takes.
        overwrite: Replace an earlier export to the same target, and nothing else.
        job: Follows and stops it, between steps.

    Raises:
        RecipeError: There is no such target, or it cannot hold the recipe; found before anything is calibrated.
        MissingLibraryError: A library is not installed; says what to run.
        StorageError: Something stands there already, or the files cannot be written.
    """
    chosen, recipe = TARGETS[target], recipe or lab.recipe
    require_plan(plan(lab.structure, recipe), lab.structure, chosen.label)
    for library in chosen.libraries:
        require(library)
    place = _place(target, path, overwrite=overwrite)
    place.require_free()
    run = lab.quantized(scene, recipe=recipe, job=between(job, 0.0, 0.4))
    quantizer = lab.calibrated(recipe=recipe, job=between(job, 0.4, 0.5))
    notes = {"quantlab": __version__, "model": lab.name, "recipe": json.dumps(recipe.to_dict())}
    with place.written() as file:
        step(job, 5, 10, f"write {file.name}")
        chosen.write(quantizer.network, run.value, file, names=tuple(run.outputs), notes=notes)
        place.note(file, recipe.to_yaml())
        step(job, 9, 10, f"run {file.name}")
        found = chosen.run(file, run.value)
    files, full = place.files(), lab.reference(scene).outputs
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


def stands(target: str, path: str | Path) -> bool:
    """Whether an earlier export to this target stands there, which ``overwrite`` would replace.

    Raises:
        RecipeError: There is no such target.
    """
    return _place(target, path).taken()


def require_free(target: str, path: str | Path, *, overwrite: bool = False) -> None:
    """Find out before anything is loaded that `export` would refuse the place.

    Raises:
        RecipeError: There is no such target.
        StorageError: Something stands there already, or the folder around it is missing.
    """
    _place(target, path, overwrite=overwrite).require_free()


def snippet(target: str, path: str | Path) -> str:
    """Two lines of Python that run an exported file on an array called ``images``.

    Raises:
        RecipeError: There is no such target.
    """
    return TARGETS[target].code.format(path=repr(str(path)))


def _place(target: str, path: str | Path, *, overwrite: bool = False) -> Place:
    chosen = TARGETS[target]
    return Place(Path(path), chosen.label, chosen.suffix, chosen.data, chosen.wrote, overwrite)


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Root mean square of the difference, relative to that of ``expected``."""
    size = float(np.linalg.norm(expected))
    return float(np.linalg.norm(found - expected)) / size if size else float(np.linalg.norm(found))


def _array(output: Tensor) -> NDArray[np.float32]:
    return np.asarray(output.cpu().numpy())
