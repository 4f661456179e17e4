"""One network under test with its rooms: calibrates it by a recipe, cold, and scores it. It writes no files.

Full precision runs through every room once; what it gave is kept for all recipes. Nothing of one recipe is kept for
the next: each gets a Lab of its own, so that no remembered layer, sample or fit makes its calibration look fast.
"""

from __future__ import annotations

import time

import torch

from quantlab.bench.cells import Measured
from quantlab.bench.protocol import Protocol
from quantlab.engine.default_scenes import CALIBRATION_ROOMS, knows_rooms
from quantlab.engine.evaluate import evaluate
from quantlab.engine.execution import Run, execute
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.engine.scope import scope_layers
from quantlab.engine.subject import subject_of
from quantlab.engine.watch import anonymous_bytes, watched
from quantlab.errors import NumericError, SceneError
from quantlab.geometry.reconstruction import has_open3d, reconstruction_scores
from quantlab.jobs import Job, between, part, step
from quantlab.lab import Lab
from quantlab.memory import release
from quantlab.models.zoo import load_model
from quantlab.scenes.scene import Scene
from quantlab.scenes.synthetic import rooms

SPLIT, CALIBRATION_SPLIT = "held-out", "calibration"
TRUTH = ("auc30", "auc15", "auc5", "auc3", "abs_rel")
CLOUD = ("accuracy", "completeness", "normal_consistency")
PER_ROOM = (*TRUTH, "drift", "drift_abs_rel", *CLOUD)


class Bed:
    """A network, its held-out rooms, and what full precision makes of them.

    Args:
        source: Name or path of the model.
        views: Pictures of each room.
        seed: Of the held-out rooms.
        device: Where it runs.
        baseline: Anonymous bytes of this process when it had only imported; None: now.

    Raises:
        CheckpointError, DeviceError: The model cannot be loaded here.
    """

    def __init__(
        self, source: str, *, views: int, seed: int, device: str = "cpu", baseline: int | None = None
    ) -> None:
        before = anonymous_bytes() if baseline is None else baseline
        self.model = load_model(source, device=device)
        release()
        self._model_bytes = max(0, (anonymous_bytes() or 0) - (before or 0))
        self._views, self._seed = views, seed
        self._subject = subject_of(self.model)
        self._rooms: list[Scene] = []
        self._runs: list[Run] = []

    @property
    def label(self) -> str:
        """What the model is called in tables and folders."""
        return self.model.name

    @property
    def weights(self) -> str:
        """Digest of the network's weights as they run."""
        return f"{self.model.sha256}{'+outliers' if self.model.planted else ''}"

    def measure(self, recipe: Recipe, protocol: Protocol, job: Job | None = None) -> Measured:
        """Calibrate by the recipe, and score the quantized network on the held-out rooms.

        Raises:
            QuantLabError: The recipe cannot be carried out, or its network gives what is no number.
            JobCancelledError: The job was cancelled.
        """
        self._reference(0)  # the first run of a process pays for what all share
        lab = self._lab(recipe)
        quantizer, metrics = self._calibrate(lab, between(job, 0.0, 0.5))
        metrics |= {"tre": self._tail_error(lab, between(job, 0.5, 0.6))}
        values, seconds, problems = self._score(quantizer, protocol, between(job, 0.6, 1.0))
        metrics |= {"scene_seconds": sorted(seconds)[len(seconds) // 2], "evaluation_seconds": sum(seconds)}
        return Measured(
            metrics=metrics,
            rooms=values,
            problems=tuple(dict.fromkeys(problems)),
            names=tuple(scene.name for scene in self._rooms[: protocol.rooms]),
            calibrated_on=_calibrated_on(lab),
        )

    # -- calibration ----------------------------------------------------------------------------------------

    def _lab(self, recipe: Recipe) -> Lab:
        """A lab that remembers nothing, calibrated on rooms that nobody is judged on."""
        given = (
            None
            if knows_rooms(self._subject)
            else rooms(CALIBRATION_ROOMS, views=self._views, split=CALIBRATION_SPLIT)
        )
        lab = Lab(self.model, calibration=given, evaluation=self._some(1), recipe=recipe)
        selects = recipe.calibration.method != "all"
        for scene in (*lab.calibration, *(lab.pool if selects else ())):
            if scene.split != CALIBRATION_SPLIT:
                raise SceneError("only rooms of the calibration split may calibrate", place=scene.name)
        return lab

    def _calibrate(self, lab: Lab, job: Job | None) -> tuple[Quantizer, dict[str, float | None]]:
        """Time and memory from the loaded network to the quantized one: sampling, selection, search, learning."""
        self._begin_device()
        with watched() as memory:
            start, worked = time.perf_counter(), time.process_time()
            quantizer = lab.calibrated(job=job)
            self._wait()
            seconds, worked = time.perf_counter() - start, time.process_time() - worked
        return quantizer, {
            "calibration_seconds": seconds,
            "calibration_cpu_seconds": worked,
            # What the bench keeps of full precision is its own: the network, and what calibration adds, count.
            "peak_bytes": None if memory.added is None else self._model_bytes + memory.added,
            "device_bytes": self._device_bytes(),
            "packed_bytes": quantizer.packed_bytes,
            "full_bytes": lab.plan().full_bytes,
        }

    def _tail_error(self, lab: Lab, job: Job | None) -> float | None:
        """Mean TRE over the branches in the recipe's scope, those it spares included; None if it rounds no layer."""
        if not lab.plan().quantized:
            return None
        reached = scope_layers(lab.recipe.scope, lab.structure)
        found = lab.diagnose(job=job).branches
        inside = [
            error
            for name, error in found.items()
            if any(layer in reached for layer in lab.structure.branches[name].layers)
        ]
        return sum(inside) / len(inside) if inside else None

    # -- evaluation -----------------------------------------------------------------------------------------

    def _score(
        self, quantizer: Quantizer, protocol: Protocol, job: Job | None
    ) -> tuple[dict[str, list[float | None]], list[float], list[str]]:
        values: dict[str, list[float | None]] = {name: [] for name in PER_ROOM}
        seconds: list[float] = []
        problems: list[str] = []
        for index, scene in enumerate(self._some(protocol.rooms)):
            step(job, index, protocol.rooms, scene.name)
            exact, section = self._reference(index), part(job, index, protocol.rooms)
            run = execute(self._subject, quantizer.network, exact.value, job=section)
            seconds.append(run.seconds)
            found, said = _room(scene, exact, run, clouds=index < protocol.icp_rooms)
            problems += said
            for name in PER_ROOM:
                values[name].append(found.get(name))
        return values, seconds, problems

    def _some(self, count: int) -> list[Scene]:
        """The first held-out rooms."""
        if len(self._rooms) < count:
            self._rooms = rooms(count, views=self._views, seed=self._seed, split=SPLIT)
        return self._rooms[:count]

    def _reference(self, index: int) -> Run:
        """A room at full precision; rooms are asked for in their order."""
        while len(self._runs) <= index:
            value = self._subject.prepare(self._some(index + 1)[len(self._runs)])
            self._runs.append(execute(self._subject, self._subject.network, value))
        return self._runs[index]

    # -- what it takes --------------------------------------------------------------------------------------

    def _begin_device(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.model.device)
            self._device_start = torch.cuda.memory_allocated(self.model.device)

    def _device_bytes(self) -> int | None:
        if self.model.device.type != "cuda":
            return None
        return int(torch.cuda.max_memory_allocated(self.model.device) - self._device_start)

    def _wait(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)


def _calibrated_on(lab: Lab) -> tuple[str, ...]:
    """Names of the rooms that the recipe learned from."""
    if lab.recipe.calibration.method == "all":
        return tuple(scene.name for scene in lab.calibration)
    return lab.pool_map().picked_names


def _room(scene: Scene, exact: Run, run: Run, *, clouds: bool) -> tuple[dict[str, float | None], list[str]]:
    """The scores of one room by metric, and what could not be scored."""
    found = evaluate([scene], lambda *_: exact, lambda *_: run, packed_bytes=0, full_bytes=0)
    problems = list(found.problems)
    truth, drift = found.ground_truth, found.full_precision
    values: dict[str, float | None] = {name: getattr(truth, name) for name in TRUTH if truth is not None}
    values |= {"drift": drift.point_error, "drift_abs_rel": drift.abs_rel}
    if clouds and scene.truth is not None and run.prediction is not None:
        try:
            scores = reconstruction_scores(
                run.prediction.points, scene.truth.points, scene.truth.mask, with_open3d=has_open3d()
            )
        except NumericError as error:
            return values, [*problems, f"{scene.name}: {error}"]
        values |= {name: getattr(scores, name) for name in CLOUD}
    return values, problems
