"""The record of an evaluation: scores against the truth and drift from full precision. No torch; it computes none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Scores:
    """A network against the ground truth, means over scenes. None where a number does not exist or was not asked for.

    Attributes:
        auc30: Camera AUC at 30 degrees, 0 to 1; None for scenes of one view. ``auc15``, ``auc5``, ``auc3`` likewise.
        abs_rel: Mean relative depth error after one median scale a scene.
        accuracy: Mean distance prediction -> truth after Sim(3) and ICP, in the truth's units; on demand.
        completeness: Mean distance truth -> prediction, likewise.
        normal_consistency: Mean |cos| between normals, both ways; on demand.
    """

    auc30: float | None = None
    auc15: float | None = None
    auc5: float | None = None
    auc3: float | None = None
    abs_rel: float | None = None
    accuracy: float | None = None
    completeness: float | None = None
    normal_consistency: float | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """A quantized network against its full-precision self, means over scenes; the full-precision one is the truth.

    Attributes:
        point_error: Mean distance after Sim(3), as a share of the full-precision cloud's 5-95 % diagonal; None where
            the quantized cloud is degenerate.
        abs_rel: Mean relative depth difference after one median scale a scene.
        auc30: Camera AUC at 30 degrees, 0 to 1. ``auc15``, ``auc5``, ``auc3`` likewise.
        outputs: Name of each network output to its relative error ||y_hat - y|| / ||y||.
    """

    point_error: float | None
    abs_rel: float | None
    auc30: float | None
    auc15: float | None
    auc5: float | None
    auc3: float | None
    outputs: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SceneScores:
    """The numbers of one scene, by the names of the fields they are averaged into; one that is not there is absent.

    Attributes:
        name: Of the scene.
        drift: Fields of `Drift`, but its outputs.
        truth: Fields of `Scores`, of the quantized network.
        baseline: Fields of `Scores`, of the full-precision network.
    """

    name: str
    drift: Mapping[str, float] = field(default_factory=dict)
    truth: Mapping[str, float] = field(default_factory=dict)
    baseline: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation:
    """What a recipe costs on a set of scenes.

    Attributes:
        ground_truth: Scores against the truth; None where no scene has one.
        full_precision: Drift from the full-precision network; of a packed model that has none beside it, empty.
        seconds: Mean time of one scene through the network under the recipe, as simulation; it is no latency where
            blocks were replayed. Of a packed model, as executed.
        packed_bytes: Size of the weights under the recipe.
        full_bytes: Size of the weights in 16 bits.
        scenes: Names of the scenes averaged over.
        problems: What could not be scored and why, one sentence each (a cloud that collapsed, say).
        replayed: How many blocks were answered from memory, over all scenes.
        baseline: What the full-precision network scores against the same truth, without what is on demand.
        by_scene: The same numbers scene by scene, in the order of ``scenes``.
        latency: Seconds of the first scene as executed by real kernels; None where ``measure`` was not asked.
        memory_bytes: Of the weights as they are executed, likewise.
    """

    ground_truth: Scores | None
    full_precision: Drift
    seconds: float
    packed_bytes: int
    full_bytes: int
    scenes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    replayed: int = 0
    baseline: Scores | None = None
    by_scene: tuple[SceneScores, ...] = ()
    latency: float | None = None
    memory_bytes: int | None = None

    def __repr__(self) -> str:
        drift, truth = self.full_precision, self.ground_truth or Scores()
        told = [
            f"{self.packed_bytes / 1e6:.4g} of {self.full_bytes / 1e6:.4g} MB",
            f"scenes {len(self.scenes)}",
        ]
        if self.latency is not None:
            told.insert(1, f"{1e3 * self.latency:.3g} ms")
        if truth.auc30 is not None:
            told.insert(0, f"AUC@30 {truth.auc30:.3f}")
        if drift.point_error is not None:
            told.insert(0, f"point error {100 * drift.point_error:.3g} % of the scene")
        elif drift.outputs:
            told.insert(0, f"outputs off by up to {100 * max(drift.outputs.values()):.3g} %")
        return f"Evaluation({', '.join(told)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with the field names as keys."""
        told = asdict(self)
        return {**told, **{name: list(told[name]) for name in ("scenes", "problems", "by_scene")}}
