"""Scores runs of a quantized network against full precision and against the truth, scene by scene. Runs no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from quantlab.engine.evaluation import Drift, Evaluation, SceneScores, Scores
from quantlab.engine.execution import Run
from quantlab.engine.subject import scene_label, truth_of
from quantlab.errors import MissingLibraryError, NumericError, SceneError
from quantlab.geometry.clouds import valid_mask
from quantlab.geometry.reconstruction import reconstruction_scores
from quantlab.geometry.scores import auc, camera_errors, depth_scores, point_error
from quantlab.jobs import Job, between, part, step
from quantlab.models.prediction import Prediction
from quantlab.scenes.scene import Truth

THRESHOLDS = (30, 15, 5, 3)
"""Degrees at which the camera AUC is stated."""
RunScene = Callable[[int, Job | None], Run]
"""``run(index, job)`` takes one of the scenes through a network."""


def evaluate(
    scenes: Sequence[Any],
    reference: RunScene | None,
    quantized: RunScene,
    *,
    packed_bytes: int,
    full_bytes: int,
    problems: Sequence[str] = (),
    icp: bool = False,
    job: Job | None = None,
) -> Evaluation:
    """Score a quantized network on scenes; every number is a mean over the scenes that have it.

    Camera AUC is that of each scene, then the mean; depth takes one median scale a scene; ``point_error`` is after
    Sim(3). What cannot be computed (a collapsed cloud) is None and said in ``problems``.

    Args:
        scenes: Scenes with or without truth, or bare inputs.
        reference: Runs a scene at full precision; None: there is only the truth to compare with.
        quantized: Runs it under the recipe.
        packed_bytes: Size of the weights under the recipe.
        full_bytes: Their size in 16 bits.
        problems: What cannot be scored, as is known before.
        icp: Accuracy, completeness and normal consistency too.
        job: Told of every scene, handed on in parts to the runs.

    Raises:
        SceneError: There is no scene.
        JobCancelledError: The job was cancelled.
    """
    if not len(scenes):
        raise SceneError("there is no scene to evaluate", place="evaluation", remedy="Give at least one.")
    tally = _Tally(problems=list(problems))
    for index, scene in enumerate(scenes):
        name = scene_label(scene, index)
        step(job, index, len(scenes), name)
        section = part(job, index, len(scenes))
        share = 0.5 if reference else 0.0
        exact = reference(index, between(section, 0.0, share)) if reference else None
        rounded = quantized(index, between(section, share, 1.0))
        tally.scene(name, exact, rounded, truth_of(scene), icp=icp)
    step(job, len(scenes), len(scenes), "done")
    return tally.evaluation(packed_bytes, full_bytes)


def relative_errors(exact: Mapping[str, Tensor], rounded: Mapping[str, Tensor]) -> dict[str, float]:
    """||y_hat - y|| / ||y|| of every output that both have; where y is all zeros, ||y_hat - y||."""
    found: dict[str, float] = {}
    for name, output in exact.items():
        if name in rounded and rounded[name].shape == output.shape:
            found[name] = _relative_error(output.double(), rounded[name].double())
    return found


def _relative_error(exact: Tensor, rounded: Tensor) -> float:
    peak = float(exact.abs().max()) if exact.numel() else 0.0
    unit = peak or 1.0  # the squares of what float64 holds may be beyond it
    error, size = float(((rounded - exact) / unit).norm()), float((exact / unit).norm())
    return error / size if size > 0 else error


def camera_scores(predicted: Prediction, camera_from_world: Any) -> dict[str, float]:
    """AUC of one scene by field name; nothing for a scene of one view."""
    rotation, translation = camera_errors(predicted.camera_from_world, camera_from_world)
    if not len(rotation):
        return {}
    return {f"auc{degrees}": auc(rotation, translation, degrees) for degrees in THRESHOLDS}


@dataclass(slots=True)
class _Tally:
    """Numbers of each scene, to be averaged."""

    scenes: list[SceneScores] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    replayed: int = 0
    outputs: dict[str, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    has_truth: bool = False
    has_baseline: bool = False

    def scene(self, name: str, exact: Run | None, rounded: Run, truth: Truth | None, *, icp: bool) -> None:
        """Take one scene in; ``exact`` is None where nothing ran at full precision."""
        drift, scores, baseline = dict[str, float](), dict[str, float](), dict[str, float]()
        self.scenes.append(SceneScores(name, drift, scores, baseline))
        self.seconds.append(rounded.seconds)
        self.replayed += rounded.replayed
        if exact is not None:
            for output, error in relative_errors(exact.outputs, rounded.outputs).items():
                self.outputs.setdefault(output, []).append(error)
        if rounded.prediction is None:
            return
        if exact is not None and exact.prediction is not None:
            self.has_baseline = True
            self._drift(name, exact.prediction, rounded.prediction, drift)
        if truth is not None:
            self.has_truth = True
            self._truth(name, rounded.prediction, truth, scores)
            if exact is not None and exact.prediction is not None:
                self._truth(name, exact.prediction, truth, baseline)
            if icp and truth.depth.shape == rounded.prediction.depth.shape:
                predicted = rounded.prediction
                self._try(name, scores, lambda: _cloud(predicted, truth))

    def evaluation(self, packed_bytes: int, full_bytes: int) -> Evaluation:
        """The means."""
        drift = _means_of([scene.drift for scene in self.scenes])
        truth = _means_of([scene.truth for scene in self.scenes])
        baseline = _means_of([scene.baseline for scene in self.scenes])
        fields = ("point_error", "abs_rel", *(f"auc{degrees}" for degrees in THRESHOLDS))
        return Evaluation(
            ground_truth=Scores(**truth) if self.has_truth else None,
            full_precision=Drift(**{key: drift.get(key) for key in fields}, outputs=_means(self.outputs)),
            seconds=float(np.mean(self.seconds)),
            packed_bytes=packed_bytes,
            full_bytes=full_bytes,
            scenes=tuple(scene.name for scene in self.scenes),
            problems=tuple(self.problems),
            replayed=self.replayed,
            baseline=Scores(**baseline) if self.has_truth and self.has_baseline else None,
            by_scene=tuple(self.scenes),
        )

    def _drift(self, name: str, exact: Prediction, rounded: Prediction, table: dict[str, float]) -> None:
        kept = valid_mask(exact.points, rounded.points)
        self._try(name, table, lambda: {"point_error": point_error(rounded.points, exact.points, kept)})
        self._try(name, table, lambda: {"abs_rel": depth_scores(rounded.depth, exact.depth).abs_rel})
        self._try(name, table, lambda: camera_scores(rounded, exact.camera_from_world))

    def _truth(self, name: str, predicted: Prediction, truth: Truth, table: dict[str, float]) -> None:
        self._try(name, table, lambda: camera_scores(predicted, truth.camera_from_world))
        if truth.depth.shape != predicted.depth.shape:
            sizes = [f"{shape[2]} x {shape[1]}" for shape in (truth.depth.shape, predicted.depth.shape)]
            self._problem(
                f"{name}: depth and points are not scored: the truth has {sizes[0]} pixels, the network {sizes[1]}"
            )
            return
        self._try(
            name, table, lambda: {"abs_rel": depth_scores(predicted.depth, truth.depth, truth.mask).abs_rel}
        )

    def _try(self, name: str, table: dict[str, float], compute: Callable[[], Mapping[str, float]]) -> None:
        try:
            table.update(compute())
        except (NumericError, MissingLibraryError) as error:
            self._problem(f"{name}: {error}")

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)


def _cloud(predicted: Prediction, truth: Truth) -> dict[str, float]:
    scores = reconstruction_scores(predicted.points, truth.points, truth.mask)
    found = {"accuracy": scores.accuracy, "completeness": scores.completeness}
    if scores.normal_consistency is not None:
        found["normal_consistency"] = scores.normal_consistency
    return found


def _means_of(scenes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each number's mean over the scenes that have it."""
    names = dict.fromkeys(name for scene in scenes for name in scene)
    return _means({name: [scene[name] for scene in scenes if name in scene] for name in names})


def _means(table: Mapping[str, Iterable[float]]) -> dict[str, float]:
    return {name: float(np.mean(list(values))) for name, values in table.items()}
