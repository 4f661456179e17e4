"""The two clouds the viewer shows: which prediction stands left and right, and the bytes of it. It aligns nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.app.status import scene_notes
from quantlab.viewer.pack import CameraData, CloudData, pack_clouds

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.engine.comparison import Comparison
    from quantlab.models.prediction import Prediction

SIDES = {"full": "full precision", "now": "quantized", "former": "former", "truth": "ground truth"}
"""The sides by the names the viewer colours them by."""
NOTHING_QUANTIZED = "nothing quantized"
MOST_POINTS = 600_000
"""Per cloud; beyond it an even sample is shown, and the viewer says how many."""


def compare_panel(session: Session) -> dict[str, Any]:
    """What the viewer needs: the address of the clouds, and the choices for both sides."""
    results, view = session.results, session.view
    former = results.former.comparison if results.former is not None else None
    comparison = results.comparison or former
    value: dict[str, Any] = {
        "payload": "",
        "left": view.left,
        "right": view.right,
        "sides": [],
        "notes": scene_notes(session),
        "stale": results.comparison is None,
    }
    if comparison is None:
        return {**value, "message": _waiting(session)}
    available = {
        "full": True,
        "now": True,
        "former": former is not None,
        "truth": comparison.truth is not None,
    }
    is_rounded = results.comparison is None or session.open_lab().plan().quantized
    labels = SIDES if is_rounded else {**SIDES, "now": NOTHING_QUANTIZED}
    value["sides"] = [{"id": key, "label": labels[key]} for key, is_there in available.items() if is_there]
    left = view.left if available.get(view.left) else "full"
    right = view.right if available.get(view.right) else "now"
    clouds = {
        "full": comparison.left,
        "now": comparison.right,
        "former": former.right if former is not None else None,
    }
    scene = f"{session.model} {session.scene}"
    name = session.keep_cloud(
        _packed(comparison, clouds, (left, right), (labels[left], labels[right]), scene)
    )
    return {**value, "left": left, "right": right, "payload": f"/quantlab/clouds/{session.handle}/{name}"}


def _waiting(session: Session) -> str:
    """Why there is no cloud."""
    if session.job is not None:
        return "Reconstructing the scene…"
    if session.results.evaluation is not None:
        return "The quantized cloud cannot be laid over the full-precision one."
    return "Press Run to reconstruct the scene."


def _packed(
    comparison: Comparison,
    predictions: dict[str, Prediction | None],
    chosen: tuple[str, str],
    labels: tuple[str, str],
    scene: str,
) -> bytes:
    sides = [_cloud(comparison, predictions.get(side)) for side in chosen]
    size = comparison.scale
    top = size * _nice(float(np.nanpercentile(comparison.errors, 99)) / size)
    return pack_clouds(
        sides[0], sides[1], error_max=top, size=size, labels=labels, scene=scene, limit=MOST_POINTS
    ).data


def _nice(share: float) -> float:
    """The end of the error scale as a share of the scene: 1, 2 or 5 times a power of ten, to stay as errors change."""
    wanted = max(share, 1e-4)
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= wanted))


def _cloud(comparison: Comparison, prediction: Prediction | None) -> CloudData:
    """A prediction as the viewer takes it; None is the truth: the left one's pixels in their colours, no cameras."""
    shown = prediction or comparison.left
    points = shown.points if prediction is not None else comparison.truth
    frames, height, width = shown.points.shape[:3]
    cameras = CameraData(shown.camera_from_world, shown.intrinsics, (width, height))
    frame: NDArray[np.integer[Any]] = np.repeat(np.arange(frames), height * width)
    return CloudData(
        points=np.asarray(points, np.float32).reshape(-1, 3),
        colors=shown.images.reshape(-1, 3),
        confidence=shown.confidence.reshape(-1),
        frame=frame,
        cameras=cameras if prediction is not None else None,
    )
