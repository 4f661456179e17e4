"""A lab made of invented numbers, as fast as nothing: the app's own logic is tested on it. It quantizes nothing."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from quantlab.app.actions import Actions
from quantlab.app.options import Options
from quantlab.app.state import Store
from quantlab.app.workshop import Workshop
from quantlab.calibration.picked import PoolFeatures
from quantlab.calibration.profile import LayerProfile, Profile, TokenStats
from quantlab.calibration.selection import select
from quantlab.engine.comparison import Comparison
from quantlab.engine.diagnosis import Diagnosis
from quantlab.engine.evaluation import Drift, Evaluation, Scores
from quantlab.engine.export import ExportDrift
from quantlab.engine.history import History
from quantlab.engine.measurement import Measurement
from quantlab.engine.recipe import Recipe
from quantlab.engine.views import LayerView
from quantlab.errors import CheckpointError, RecipeError
from quantlab.models.prediction import Prediction
from quantlab.models.structure import BlockInfo, BranchInfo, LayerInfo, Structure
from quantlab.numerics.records import BIN_EDGES, Histogram
from quantlab.packed.manifest import MANIFEST
from quantlab.scenes.scene import Scene

KINDS = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}


def make_structure(blocks=3):
    layers, branches, infos = {}, {}, {}
    for index in range(blocks):
        for stream in ("frame", "global"):
            block = f"aggregator.{stream}_blocks.{index}"
            for kind, tail in KINDS.items():
                name = f"{block}.{tail}"
                layers[name] = LayerInfo(name, kind, stream, block, index, 32, 32, 1056, "linear")
            for kind, norm in (("attn", "norm1"), ("mlp", "norm2")):
                own = tuple(name for name in layers if name.startswith(f"{block}.{kind}."))
                branches[f"{block}.{kind}"] = BranchInfo(f"{block}.{kind}", block, kind, norm, "", own)
            own = tuple(name for name in layers if name.startswith(block))
            infos[block] = BlockInfo(block, stream, index, own, (f"{block}.attn", f"{block}.mlp"))
    for part in ("projects.0", "projects.1", "scratch.output_conv1"):
        name = f"depth_head.{part}"
        layers[name] = LayerInfo(name, "conv", "depth_head", "depth_head", -1, 32, 16, 528, "conv2d")
    return Structure(layers, branches, infos)


def make_histogram(scale=1.0, seed=0, tail=30.0):
    random = np.random.default_rng(seed)
    values = scale * np.concatenate([random.normal(size=4000), tail * random.normal(size=6)])
    return Histogram(np.histogram(values, BIN_EDGES)[0].astype(np.int64))


def make_profile(structure):
    layers = {}
    for position, (name, info) in enumerate(structure.layers.items()):

        def stats(kurtosis, tail):
            return TokenStats(
                4000, 0.0, 1.0, kurtosis, 9.0, 0.7, 1.6, 2.6, 3.4, 6.0, tail, make_histogram(tail=kurtosis)
            )

        tokens = {
            "all": stats(4.0 + 3 * position, 2.0 + position),
            "camera": stats(9.0, 3.0),
            "patch": stats(3.1, 1.2),
        }
        ones = np.ones(32, np.float32)
        layers[name] = LayerProfile(
            name,
            info.kind,
            info.stream,
            info.block,
            info.index,
            tokens,
            ones,
            ones,
            np.zeros(32, np.uint8),
            stats(3, 1),
            ones,
        )
    return Profile(layers, ("demo",), 0.1)


def make_prediction(seed=0, noise=0.0, frames=2, height=12, width=16):
    random = np.random.default_rng(7)
    v, u = np.mgrid[:height, :width]
    depth = np.stack([2.5 + 0.3 * np.sin(u / 3) + 0.1 * frame for frame in range(frames)]).astype(np.float32)
    points = np.stack(
        [np.stack([(u - width / 2) / width * d, (v - height / 2) / width * d, d], -1) for d in depth]
    ).astype(np.float32)
    points = points + noise * np.random.default_rng(seed).normal(size=points.shape).astype(np.float32)
    images = random.integers(0, 255, (frames, height, width, 3), dtype=np.uint8)
    intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], np.float32)
    return Prediction(
        images=images,
        points=points,
        confidence=np.ones(depth.shape, np.float32),
        depth=depth,
        camera_from_world=np.tile(np.eye(4), (frames, 1, 1)),
        intrinsics=np.tile(intrinsics, (frames, 1, 1)),
    )


@dataclass
class FakeLab:
    """Answers like `quantlab.Lab`; its error falls when layers are rotated or kept."""

    scene: Scene
    recipe_now: Recipe
    interactive: bool = True
    seconds: float = 0.0
    fails: str = ""
    error: Exception | None = None
    sampled: bool = True

    def __post_init__(self):
        self.structure = make_structure()
        self.held = History((self.recipe_now,))
        self.model = SimpleNamespace(name="mini", planted=False)
        self.evaluation = self.calibration = [self.scene]
        self.name, self.seed, self.view, self.calibration_given = "mini", 0, {}, False
        self.pace = 0.041
        self.calls, self.timed = [], {}

    @property
    def recipe(self):
        return self.held.now

    @recipe.setter
    def recipe(self, recipe):
        self.held = self.held.push(recipe)

    @property
    def history(self):
        return list(self.held.recipes)

    @property
    def records(self):
        return self.held.recipes, self.held.position

    def resume(self, recipes, position):
        self.held = History(tuple(recipes), position)

    can_undo = property(lambda self: self.held.can_undo)
    can_redo = property(lambda self: self.held.can_redo)

    def undo(self):
        self.held = self.held.undone()

    def redo(self):
        self.held = self.held.redone()

    def _work(self, name, job):
        self.calls.append(name)
        if self.fails == name:
            raise self.error or RuntimeError("planted")
        steps = max(1, int(self.seconds / 0.02))
        for step in range(steps):
            if job is not None:
                job.check()
                job.report(step, steps, f"{name} {step} of {steps}")
            if self.seconds:
                time.sleep(0.02)

    def _error(self, recipe=None):
        settings = (recipe or self.recipe).layers(self.structure).values()
        bad = [0.05 for item in settings if item.quantized and item.rotation == "none"]
        return 0.001 + sum(bad) / len(settings)

    def reference(self, scene=0, *, job=None):
        self._work("reference", job)

    def profile(self, *, job=None):
        self._work("profile", job)
        return make_profile(self.structure)

    def diagnose(self, *, job=None):
        self._work("diagnose", job)
        settings = self.recipe.layers(self.structure)
        tre = {name: 0.001 * (i + 1) * item.quantized for i, (name, item) in enumerate(settings.items())}
        return Diagnosis(tre, {}, None, scenes=("demo",))

    def evaluate(self, *, job=None, icp=False):
        self._work("evaluate", job)
        error = self._error()
        truth = Scores(auc30=0.8 - error, auc15=0.7, auc5=0.4 - error, auc3=0.2, abs_rel=0.05 + error)
        drift = Drift(error, error, 0.9, 0.8, 0.7, 0.6, {"depth": error})
        size = 1000 + sum(
            item.weights for item in self.recipe.layers(self.structure).values() if item.quantized
        )
        full = Scores(auc30=0.82, auc15=0.7, auc5=0.42, auc3=0.2, abs_rel=0.05)
        return Evaluation(truth, drift, 0.041, size * 1000, 4_000_000, ("demo",), baseline=full)

    def compare(self, scene=0, *, recipe=None, job=None):
        self._work("compare", job)
        error = self._error(recipe)
        left, right = make_prediction(), make_prediction(seed=1, noise=error)
        errors = np.linalg.norm(left.points - right.points, axis=-1)
        truth = replace(left, points=left.points + np.float32(0.01))
        return Comparison(left, right, errors, 2.0, float(errors.mean() / 2.0), truth)

    def layer(self, name, *, job=None):
        self._work("layer", job)
        settings = self.recipe.layer(name, self.structure)
        steps = {"raw": make_histogram()}
        if settings.rotation != "none":
            steps["rotated"] = make_histogram(tail=3.0)
        steps["quantized"] = make_histogram(scale=1.02, tail=2.5, seed=3)
        absmax = {step: np.geomspace(20, 0.5, 32).astype(np.float32) for step in steps}
        land = {step: np.random.default_rng(0).normal(size=(32, 16)).astype(np.float32) for step in steps}
        grid = np.linspace(-12, 12, 15, dtype=np.float32)
        if not self.sampled:
            steps, absmax, land = {}, {}, {}
        return LayerView(
            name=name,
            settings=settings,
            quantized=True,
            reason="",
            steps=steps,
            grid=grid,
            clip_low=-12.0,
            clip_high=12.0,
            clipped_fraction=0.002,
            wasted_levels=9,
            channel_absmax=absmax,
            landscape=land,
            landscape_kinds=np.full(16, 2, np.uint8),
            search=None,
            output_error=0.08,
            weight_error=0.05,
            reading="Nine of fifteen levels hold almost nothing: 0.1 % of the values set the range.",
        )

    def pool_map(self, selection=None, *, job=None):
        self._work("pool_map", job)
        chosen, random = selection or self.recipe.calibration, np.random.default_rng(0)
        features = PoolFeatures(
            names=tuple(f"room <{index}>" for index in range(10)),
            layers=("aggregator.global_blocks.2",),
            means=random.normal(size=(10, 1)),
            variances=random.normal(size=(10, 1)),
            frames=tuple(random.normal(size=(10, 3, 4))),
            specials=tuple(random.normal(size=(10, 3, 4))),
            special="camera",
            tokens=np.full(10, 30),
        )
        return select(chosen.method, features, chosen.wish(self.recipe.seed))

    def measure(self, scene=0, *, recipe=None, compute="float32", again=False, job=None):
        if compute != "float32":
            raise RecipeError("a fake has no bfloat16 stream")
        self._work("measure", job)
        layers = dict.fromkeys(self.structure.layers, 0.0005)
        rounded = [name for name, item in self.recipe.layers(self.structure).items() if item.quantized]
        self.timed[self.recipe] = Measurement(
            seconds=0.041,
            full_seconds=0.086,
            mixed_seconds=0.06,
            runs=5,
            bytes=20_000,
            full_bytes=60_000,
            kernels={"native": len(rounded)},
            chosen=dict.fromkeys(rounded, "native"),
            layers=layers,
            machine="a test",
        )
        return self.timed[self.recipe]

    def measured(self, scene=0, *, recipe=None):
        return self.timed.get(recipe or self.recipe)

    def export(self, folder, *, overwrite=False, job=None):
        self._work("export", job)
        folder.mkdir(exist_ok=overwrite)
        (folder / MANIFEST).write_text("{}")
        drift = ExportDrift(1e-6, None, "a scene", {"native": 3}, simulated=2e-3, executed=3e-3)
        return SimpleNamespace(folder=folder, bytes=1_000_000, full_bytes=7_000_000, drift=drift)

    def use_profile(self, profile):
        self.calls.append("use_profile")

    def plan(self):
        settings = self.recipe.layers(self.structure).values()
        return SimpleNamespace(
            bytes=sum(1056 * item.weights // 8 for item in settings),
            full_bytes=60_000,
            warnings=(),
            quantized=tuple(item for item in settings if item.quantized),
            calibrated=any(item.calibrated for item in settings),
        )

    def estimate(self):
        return SimpleNamespace(seconds=240.0, blocks=3, measured=False, diagnosis=0.0)


def make_scene(name="demo"):
    image = np.zeros((12, 16, 3), np.uint8)
    return Scene(name, (image, image))


class FakeWorkshop(Workshop):
    """Makes fake labs; scenes are real ones."""

    def __init__(self, **lab_settings):
        super().__init__(Options())
        self.settings = lab_settings
        self.stuck, self.waiting = None, threading.Event()
        self.labs = []

    def warm(self):
        pass

    def model(self, name):
        if self.stuck is not None:
            self.waiting.set()
            self.stuck.wait(20)
        if name == "vggt-1b":
            raise CheckpointError("not in the cache", remedy="Put it there.")

    def scene(self, source):
        return make_scene(source)

    def lab(self, model, scene, recipe=None):
        made = FakeLab(scene, recipe or Recipe.preset("rtn"), **self.settings)
        if model == "pi3-mini":  # layers of other names
            made.structure = make_structure(blocks=2)
        self.labs.append(made)
        return made


@pytest.fixture
def bench():
    """(actions, store, workshop) over fake labs; call with settings of the labs."""

    def build(**lab_settings):
        workshop, store = FakeWorkshop(**lab_settings), Store()
        return SimpleNamespace(actions=Actions(store, workshop), store=store, workshop=workshop)

    return build
