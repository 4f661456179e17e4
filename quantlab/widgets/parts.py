"""Pure pieces of the widgets: layer names, recipe patterns, number rows, clouds as bytes. No toolkit, no lab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from quantlab.engine.settings import BRANCH_FIELDS
from quantlab.figures.outlier_map import KINDS, STREAM_NAMES, Placed
from quantlab.figures.readable import duration, short, size
from quantlab.viewer.pack import CameraData, CloudData, pack_clouds

if TYPE_CHECKING:
    from quantlab.engine.comparison import Comparison
    from quantlab.engine.evaluation import Evaluation
    from quantlab.models.prediction import Prediction
    from quantlab.models.structure import Structure

MOST_POINTS = 400_000
"""A cloud; beyond it an even sample travels to the page."""
TOP_ERROR = 0.1
"""The end of the error map's scale, as a share of the scene: fixed, so that two recipes can be compared."""
APPLY_TO = {"this layer": "layer", "its kind": "kind", "its block": "block", "all layers": "all"}


def short_name(layer: Placed) -> str:
    """``aggregator.global_blocks.3.mlp.fc2`` as ``global 3 · fc2``; other layers keep the end of their name."""
    stream = STREAM_NAMES.get(layer.stream, layer.stream)
    if layer.index >= 0 and layer.kind in KINDS:
        return f"{stream} {layer.index} · {layer.kind}"
    tail = ".".join(layer.name.split(".")[-2:])
    return f"{stream} · {tail}" if layer.stream else layer.name


def branch_of(structure: Structure, layer: str) -> str:
    """The attention or MLP branch a layer belongs to, or ""."""
    return next((name for name, branch in structure.branches.items() if layer in branch.layers), "")


def pattern_for(structure: Structure, layer: str, setting: str, apply_to: str) -> str:
    """The pattern under which a setting of ``layer`` is written.

    Args:
        structure: Knows the layer.
        layer: Its name.
        setting: Its settings belong to layers, except for those that belong to the branch around it.
        apply_to: "layer", "kind" (the same place in every block of its stream), "block" or "all".
    """
    info = structure.layers[layer]
    own = branch_of(structure, layer) if setting in BRANCH_FIELDS else layer
    if apply_to == "all":
        return "*"
    if not info.block or apply_to == "layer":
        return own or layer
    if apply_to == "block":
        return info.block
    stem, _, index = info.block.rpartition(".")
    return f"{stem}.*{own[len(info.block) :]}" if index.isdigit() else own or layer


def number_rows(
    comparison: Comparison | None, now: Evaluation | None, before: Evaluation | None
) -> list[dict[str, str]]:
    """The numbers under the clouds, each with its unit and its former value."""
    error = comparison.point_error if comparison is not None else None
    rows = []
    distance = "mean distance of paired points after alignment, as a share of the scene's size"
    rows.append(_row("point error", error, _drift(before, "point_error"), distance))
    truth = now is not None and now.ground_truth is not None
    against = "against the true cameras" if truth else "against full precision"
    for label, name in (("AUC@30", "auc30"), ("AUC@5", "auc5"), ("AbsRel", "abs_rel")):
        rows.append(_row(label, _score(now, name), _score(before, name), against))
    if now is None:
        return rows
    bytes_now, unit = size(now.packed_bytes)
    former = (
        " ".join(size(before.packed_bytes))
        if before is not None and before.packed_bytes != now.packed_bytes
        else ""
    )
    of = f"the weights under this recipe; {' '.join(size(now.full_bytes))} in 16 bits"
    rows.append({"label": "size", "value": bytes_now, "unit": unit, "former": former, "help": of})
    value, unit = duration(now.seconds)
    slow = "one scene through simulated quantization, slower than integer execution"
    rows.append({"label": "forward", "value": value, "unit": unit, "former": "", "help": slow})
    return rows


def _row(label: str, value: float | None, former: float | None, text: str) -> dict[str, str]:
    shown, was = short(value), short(former) if former is not None else ""
    return {"label": label, "value": shown, "unit": "", "former": was if was != shown else "", "help": text}


def _drift(evaluation: Evaluation | None, name: str) -> float | None:
    return None if evaluation is None else getattr(evaluation.full_precision, name)


def _score(evaluation: Evaluation | None, name: str) -> float | None:
    """Against the truth where there is one, else against full precision."""
    if evaluation is None:
        return None
    value: float | None = getattr(evaluation.ground_truth or evaluation.full_precision, name)
    return value


def clouds_payload(comparison: Comparison, scene: str) -> bytes:
    """Both clouds as the viewer takes them; it keeps its camera as long as ``scene`` stays the same."""
    packed = pack_clouds(
        _cloud(comparison.left),
        _cloud(comparison.right),
        error_max=TOP_ERROR * comparison.scale,
        size=comparison.scale,
        scene=scene,
        limit=MOST_POINTS,
    )
    return packed.data


def _cloud(prediction: Prediction) -> CloudData:
    frames, height, width = prediction.points.shape[:3]
    frame: Any = np.repeat(np.arange(frames), height * width)
    return CloudData(
        points=prediction.points.reshape(-1, 3),
        colors=prediction.images.reshape(-1, 3),
        confidence=prediction.confidence.reshape(-1),
        frame=frame,
        cameras=CameraData(prediction.camera_from_world, prediction.intrinsics, (width, height)),
    )
