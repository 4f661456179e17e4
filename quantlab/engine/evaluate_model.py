"""`quantlab.evaluate`: a loaded model scored as it runs, a packed one by its kernels. It quantizes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

from quantlab.engine.default_scenes import HELD_OUT, listed
from quantlab.engine.evaluate import RunScene
from quantlab.engine.evaluate import evaluate as score
from quantlab.engine.evaluation import Evaluation
from quantlab.engine.execution import execute
from quantlab.engine.subject import subject_of, truth_of
from quantlab.errors import CheckpointError, QuantLabError, SceneError
from quantlab.jobs import Job
from quantlab.models.hub import HUB_FILES, local_file
from quantlab.models.model import Model
from quantlab.models.zoo import MODELS, load_model
from quantlab.packed.load import PackedModel
from quantlab.scenes.scene import Scene


def evaluate(
    model: Model,
    scenes: Scene | Sequence[Scene] | str | PathLike[str],
    *,
    against: Model | None = None,
    icp: bool = False,
    job: Job | None = None,
) -> Evaluation:
    """Score a model as this machine executes it, a packed one by the kernels it was loaded with.

    The record is that of `quantlab.Lab.evaluate`, but ``seconds`` are those of execution and ``packed_bytes`` those of
    the weights on the disk. Without full precision the drift is empty, and ``problems`` says why.

    Args:
        model: What `quantlab.load_model` gives.
        scenes: One, several, or what `quantlab.load_scenes` takes, as "rooms:8".
        against: The model that drift is measured from. None: for a packed one the full-precision model it was made
            from, where its weights are on this machine.
        icp: Also accuracy, completeness and normal consistency (seconds a scene, needs open3d for normals).
        job: Follows and stops it.

    Raises:
        CheckpointError: ``model`` is no Model, or ``against`` is a network of other sizes.
        SceneError: There is no scene, or neither a truth nor another model to compare with.
        NumericError: A network gives no finite numbers.
        DeviceError: Memory ran out.
        JobCancelledError: The job was cancelled.
    """
    if not isinstance(model, Model):
        raise CheckpointError(
            f"a {type(model).__name__} is no loaded model",
            remedy="Pass what quantlab.load_model gives; a bare module is scored by quantlab.Lab(module).evaluate().",
        )
    given = listed(scenes, HELD_OUT) or []
    why = "it is in full precision itself"
    if against is None and isinstance(model, PackedModel):
        against, why = source_of(model)
    if against is not None and (against.family, against.config) != (model.family, model.config):
        raise CheckpointError(
            f"{against.name} is a network of other sizes than {model.name}",
            remedy="Compare with the model it was made from.",
        )
    if against is None and given and all(truth_of(scene) is None for scene in given):
        raise SceneError(
            f"there is nothing to compare with: the scenes have no ground truth, and of full precision: {why}",
            place=model.name,
            remedy="Name scenes with a truth, as rooms:8, or the full-precision model to compare against.",
        )
    return score(
        given,
        None if against is None else _runs(against, given),
        _runs(model, given),
        packed_bytes=model.bytes if isinstance(model, PackedModel) else _half_bytes(model),
        full_bytes=model.full_bytes if isinstance(model, PackedModel) else _half_bytes(model),
        problems=() if against is not None else (f"not compared with full precision: {why}",),
        icp=icp,
        job=job,
    )


def source_of(packed: PackedModel) -> tuple[Model | None, str]:
    """The full-precision model that a packed one was made from, in its dtype and on its device; or why there is none.

    Nothing is downloaded, and weights of another digest are not taken for it.
    """
    about = packed.provenance["model"]
    name = str(about.get("name", ""))
    if name not in MODELS:
        return None, f"it was made from {name!r}, which has to be named (against)"
    if name in HUB_FILES and local_file(name) is None:
        return None, f"the weights of {name} are not on this machine"
    try:
        found = load_model(name, device=str(packed.device), dtype=packed.dtype)
        same = found.sha256 == about.get("sha256")
    except QuantLabError as error:
        return None, error.problem
    return (found, "") if same else (None, f"it was made from other weights than {name} has here")


def _runs(model: Model, scenes: Sequence[Scene]) -> RunScene:
    subject = subject_of(model)
    return lambda index, job: execute(subject, model.network, subject.prepare(scenes[index]), job=job)


def _half_bytes(model: Model) -> int:
    return 2 * sum(parameter.numel() for parameter in model.network.parameters())
