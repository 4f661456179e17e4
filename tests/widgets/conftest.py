"""A lab that costs nothing: the surface of `quantlab.lab.Lab` that the widgets use, with invented numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from quantlab.calibration.profile import LayerProfile, Profile, TokenStats
from quantlab.engine.blame_record import Blame, Suspect, ranked
from quantlab.engine.comparison import Comparison
from quantlab.engine.diagnosis import Diagnosis
from quantlab.engine.evaluation import Drift, Evaluation
from quantlab.engine.history import History
from quantlab.engine.recipe import Recipe
from quantlab.engine.views import LayerView
from quantlab.errors import NumericError
from quantlab.jobs import Job
from quantlab.models.prediction import Prediction
from quantlab.models.structure import BranchInfo, LayerInfo
from quantlab.numerics.records import BIN_EDGES, Histogram

PARTS = (("qkv", "attn.qkv"), ("proj", "attn.proj"), ("fc1", "mlp.fc1"), ("fc2", "mlp.fc2"))
SIDE = 24


def _structure() -> Any:
    layers, branches, blocks = {}, {}, {}
    for stream in ("frame", "global"):
        for index in range(4):
            block = f"aggregator.{stream}_blocks.{index}"
            blocks[block] = SimpleNamespace(name=block)
            for kind, part in PARTS:
                name = f"{block}.{part}"
                layers[name] = LayerInfo(name, kind, stream, block, index, 8, 8, 72, "linear")
            for branch in ("attn", "mlp"):
                inside = tuple(name for name in layers if name.startswith(f"{block}.{branch}."))
                branches[f"{block}.{branch}"] = BranchInfo(f"{block}.{branch}", block, branch, "", "", inside)
    layers["camera_head.fc1"] = LayerInfo(
        "camera_head.fc1", "other", "camera_head", "", -1, 8, 8, 72, "linear"
    )
    return SimpleNamespace(layers=layers, branches=branches, blocks=blocks)


def _histogram(spread: float) -> Histogram:
    values = np.random.default_rng(0).standard_t(3, 4000) * spread
    return Histogram(np.histogram(values, BIN_EDGES)[0].astype(np.int64))


def _stats(spread: float) -> TokenStats:
    numbers = dict.fromkeys(("p50", "p90", "p99", "p999", "p9999"), spread)
    return TokenStats(
        1, 0.0, spread, 3 + 10 * spread, 9 * spread, **numbers, max_p999=9.0, histogram=_histogram(spread)
    )


class FakeLab:
    """Everything at once; ``costs`` lists what was asked for, ``trouble`` is raised by the next measurement."""

    name = "mini"

    def __init__(self, *, interactive: bool = True) -> None:
        self.structure = _structure()
        self.interactive = interactive
        self.costs: list[str] = []
        self.trouble: BaseException | None = None
        self.pause = threading.Event()
        self.pause.set()
        self._history = History((Recipe.preset("rtn"),))
        self._listeners: list[Callable[[Recipe], object]] = []

    @property
    def recipe(self) -> Recipe:
        return self._history.now

    @recipe.setter
    def recipe(self, recipe: Recipe) -> None:
        self._move(self._history.push(recipe))

    @property
    def can_undo(self) -> bool:
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        return self._history.can_redo

    def set(self, pattern: str, **settings: Any) -> None:
        self.recipe = self.recipe.set(pattern, **settings)

    def undo(self) -> None:
        self._move(self._history.undone())

    def redo(self) -> None:
        self._move(self._history.redone())

    def _move(self, history: History) -> None:
        self._history = history
        for listener in self._listeners:
            listener(self.recipe)

    def subscribe(self, listener: Callable[[Recipe], object]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def estimate(self) -> Any:
        return SimpleNamespace(seconds=61.0, blocks=4, measured=True)

    def _bits(self, name: str) -> int:
        return self.recipe.layer(name, self.structure).activations

    def _cost(self, what: str, job: Job | None = None) -> None:
        self.costs.append(what)
        if job is not None:
            job.check()
            job.report(1, 2, what)
        trouble, self.trouble = self.trouble, None
        if trouble is not None:
            raise trouble

    def profile(self, job: Job | None = None) -> Profile:
        if not hasattr(self, "_profile"):
            self._cost("profile", job)
            layers = {
                info.name: LayerProfile(
                    info.name,
                    info.kind,
                    info.stream,
                    info.block,
                    info.index,
                    {"all": _stats(1 + info.index), "camera": _stats(2), "patch": _stats(1)},
                    np.ones(8, np.float32),
                    np.ones(4, np.float32),
                    np.zeros(4, np.uint8),
                    _stats(0.1),
                    np.ones(8, np.float32),
                )
                for info in self.structure.layers.values()
            }
            self._profile = Profile(layers, ("room",))
        return self._profile

    def diagnose(self, job: Job | None = None) -> Diagnosis:
        self._cost("diagnose", job)
        errors = {
            info.name: 0.01 * (info.index + 1) / self._bits(info.name)
            for info in self.structure.layers.values()
            if info.index >= 0
        }
        return Diagnosis(errors, {})

    def layer(self, name: str, job: Job | None = None) -> LayerView:
        self._cost("layer")
        bits = self._bits(name)
        return LayerView(
            name=name,
            settings=self.recipe.layer(name, self.structure),
            quantized=True,
            reason="",
            steps={"raw": _histogram(1.0), "quantized": _histogram(1.0 + 1 / bits)},
            grid=np.linspace(-4, 4, 2**bits if bits < 16 else 256).astype(np.float32),
            clip_low=-4.0,
            clip_high=4.0,
            clipped_fraction=0.01,
            wasted_levels=3,
            channel_absmax={"raw": np.linspace(1, 9, 8).astype(np.float32)},
            landscape={"raw": np.ones((8, 4), np.float32)},
            landscape_kinds=np.zeros(4, np.uint8),
            search=None,
            output_error=1 / bits,
            weight_error=0.01,
            reading=f"The grid has {bits} bits.",
        )

    def measured(self, scene: int = 0) -> None:
        """Nothing was."""

    def evaluate(self, job: Job | None = None, *, icp: bool = False) -> Evaluation:
        self._cost("evaluate", job)
        drift = Drift(self._error(), self._error(), 0.9, 0.8, 0.5, 0.3, {})
        return Evaluation(None, drift, 0.1, 1000 * self._bits(next(iter(self.structure.layers))), 16_000)

    def compare(self, scene: int = 0, job: Job | None = None) -> Comparison:
        self._cost(f"compare {scene}", job)
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
        points = np.stack([x, y, 2 + 0.3 * np.sin(6 * x)], -1)[None].repeat(2, 0).astype(np.float32)
        pose = np.tile(np.eye(4), (2, 1, 1))
        lens = np.tile(np.array([[SIDE, 0, SIDE / 2], [0, SIDE, SIDE / 2], [0, 0, 1]], np.float32), (2, 1, 1))
        images = rng.integers(60, 220, (2, SIDE, SIDE, 3), dtype=np.uint8)
        left = Prediction(images, points, np.ones(points.shape[:3], np.float32), points[..., 2], pose, lens)
        moved = points + rng.normal(0, self._error(), points.shape).astype(np.float32)
        right = Prediction(images, moved, left.confidence, moved[..., 2], pose, lens)
        errors = np.linalg.norm(moved - points, axis=-1)
        return Comparison(left, right, errors, 1.0, float(errors.mean()))

    def blame(
        self, region: Any, scene: int = 0, *, verify: int = 8, found: Any = None, job: Job | None = None
    ) -> Blame:
        """The larger the index of a block, the more its layers are to blame; ``pause`` is waited for in between."""
        self._cost(f"blame {int(region.sum())}", job)
        names = [name for name in self.structure.layers if not self.recipe.layer(name, self.structure).keep]
        layers = self.structure.layers
        suspects = tuple(Suspect(name, 0.001 * (layers[name].index + 1)) for name in names)
        blame = Blame(scene, int(region.sum()), 0.02, ranked(suspects), luck=0.001)
        for suspect in blame.worst(verify):
            if found is not None:
                found(blame)
            if not self.pause.wait(20):
                raise TimeoutError
            if job is not None:
                job.check()
            blame = blame.with_verified({suspect.name: 0.001 + (suspect.estimate or 0.0)})
        return blame

    def _error(self) -> float:
        return float(np.mean([1 / self._bits(name) for name in self.structure.layers]) / 10)


@pytest.fixture
def lab() -> FakeLab:
    return FakeLab()


@pytest.fixture
def slow_lab() -> FakeLab:
    """One whose forward takes longer than a person waits."""
    return FakeLab(interactive=False)


@pytest.fixture
def nan() -> NumericError:
    return NumericError("a NaN <b>here</b>", place="fc2", remedy="Look at the layer.")
