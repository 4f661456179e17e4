"""Builds the quantized layers of a network stage by stage, from what a walk shows of each. It decides no settings.

A layer that is rounded with feedback, learned, or calibrated on quantized inputs is built here; the others need a
sample of their inputs only, which a plain pass gives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Protocol

from torch import Tensor, nn

from quantlab.calibration.fisher import kinds_of
from quantlab.calibration.layer_data import LayerData
from quantlab.calibration.running import memory_errors
from quantlab.engine.build import build_layer
from quantlab.engine.fisher_data import GradientRows
from quantlab.engine.reconstruct import Learning, reconstruct
from quantlab.engine.settings import LayerSettings
from quantlab.engine.site import Site
from quantlab.engine.stages_keys import LayerKey
from quantlab.engine.walk import StageCalls, collect, stages_of, unseen, walk
from quantlab.jobs import Job, between, part, step
from quantlab.kernels.reference import Simulated
from quantlab.methods.learned import Learned

GRAM_BYTES = 256 << 20
"""Memory for the second moments of the layers of a stage; where all need more, the stage runs several times."""


@dataclass(frozen=True, slots=True, eq=False)
class Stakes:
    """What the network's result has at stake, as far as methods ask for it.

    Attributes:
        importance: Stage to the weights of its output, ``[kinds, channels]``, for reconstruction by "fisher".
        gradients: Layer to sampled rows with gradients, for searches by "fisher".
    """

    importance: Mapping[str, Tensor] = field(default_factory=dict)
    gradients: Mapping[str, GradientRows] = field(default_factory=dict)


class StageStore(Protocol):
    """Keeps finished stages, so that they need not be built again."""

    def load(self, stage: str, originals: Mapping[str, nn.Module]) -> dict[str, Simulated] | None:
        """The layers of a stage that is finished, sharing biases with the originals; else None."""

    def save(self, stage: str, layers: Mapping[str, Simulated]) -> None:
        """Keep a finished stage."""


Put = Callable[[str, Simulated], None]


def build_stages(
    site: Site,
    todo: Mapping[str, LayerKey],
    put: Put,
    *,
    store: StageStore | None = None,
    stakes: Stakes | None = None,
    job: Job | None = None,
) -> dict[str, Simulated]:
    """Build layers in one walk over their stages.

    Args:
        site: Its network holds everything that is not built here.
        todo: Layers to build, each in a stage.
        put: Told of every layer as soon as it is there; hangs it into the network.
        store: Asked for a stage before it is built, and told after.
        stakes: For methods that ask how much the result depends on what.
        job: Checked before every layer, told of every stage and layer.

    Returns:
        The layers. Those of a stage that is never called as a whole (though its layers may be) learn nothing and are
        built from samples of a plain pass. Where no layer asks for data nothing is run.

    Raises:
        RecipeError: There is no calibration, or the settings cannot be carried out.
        NumericError: A weight or an activation is not finite; the layer is named.
    """
    calibrated = any(key.settings.calibrated for key in todo.values())
    inputs = site.calibration.require_inputs("this recipe") if calibrated else []
    wanted = {stage: [n for n in layers if n in todo] for stage, layers in stages_of(site.structure).items()}
    wanted = {stage: names for stage, names in wanted.items() if names}
    builder = _Builder(site, todo, put, store, stakes or Stakes())
    done: list[str] = []

    def visit(calls: StageCalls) -> None:
        builder.build(calls, wanted[calls.stage], part(job, len(done), len(wanted)))
        done.append(calls.stage)

    quantized = any(key.settings.inputs == "quantized" for key in todo.values())
    walk(
        site.reference,
        site.network,
        wanted,
        inputs,
        site.calibration.run,
        visit,
        quantized_inputs=quantized,
        job=job,
    )
    for stage in [name for name in wanted if name not in done]:
        visit(StageCalls(stage, [], None))
    return builder.built


class _Builder:
    """Builds stage after stage, and keeps the layers of all."""

    def __init__(
        self,
        site: Site,
        todo: Mapping[str, LayerKey],
        put: Put,
        store: StageStore | None,
        stakes: Stakes,
    ) -> None:
        self._site, self._todo, self._put = site, todo, put
        self._store, self._stakes = store, stakes
        self.built: dict[str, Simulated] = {}

    def build(self, calls: StageCalls, names: Sequence[str], job: Job | None) -> None:
        """Build, or fetch, the layers of one stage."""
        originals = {name: self._site.places.original(name) for name in names}
        known = None if self._store is None else self._store.load(calls.stage, originals)
        for name, layer in (known or {}).items():
            self._keep(name, layer)
        if known is None:
            self._make(calls, names, job)
            if self._store is not None:
                self._store.save(calls.stage, {name: self.built[name] for name in names})

    def _make(self, calls: StageCalls, names: Sequence[str], job: Job | None) -> None:
        learners = [name for name in names if self._todo[name].learned and calls.full]
        plain = [name for name in names if name not in learners]
        self._round(calls, plain, {}, between(job, 0.0, 1.0 if not learners else 0.2))
        if learners:
            data = self._collect(calls, learners, grams=False, job=None)
            learned = self._learn(calls, learners, data, between(job, 0.2, 0.9))
            # Rounding with feedback wants second moments too; for the rest what learning saw will do.
            known = {name: seen for name, seen in data.items() if self._settings(name).rounding != "gptq"}
            self._round(calls, learners, learned, between(job, 0.9, 1.0), known)

    def _round(
        self,
        calls: StageCalls,
        names: Sequence[str],
        learned: Mapping[str, Learned],
        job: Job | None,
        known: Mapping[str, LayerData] = MappingProxyType({}),
    ) -> None:
        done = 0
        for batch in self._batches(names):
            unknown = [name for name in batch if name not in known]
            data = {**known, **self._collect(calls, unknown, grams=True, job=None)}
            for name in batch:
                step(job, done, len(names), f"quantize {name}")
                self._keep(name, build(self._site, name, self._todo[name], data.get(name), learned.get(name)))
                done += 1

    def _collect(
        self, calls: StageCalls, names: Collection[str], *, grams: bool, job: Job | None
    ) -> dict[str, LayerData]:
        """Data of the layers that ask for any; each on the inputs that its settings name."""
        found: dict[str, LayerData] = {}
        calibrated = [name for name in names if self._settings(name).calibrated]
        for quantized, summed in ((q, g) for q in (False, True) for g in (False, True)):
            group = [
                name
                for name in calibrated
                if (self._settings(name).inputs == "quantized") == quantized
                and (grams and self._settings(name).rounding == "gptq") == summed
            ]
            if group and calls.full:
                found |= self._seen(calls, group, quantized_inputs=quantized, grams=summed, job=job)
        seen = {name: found[name] if name in found else self._sampled(name, job) for name in calibrated}
        weighted = self._stakes.gradients
        return {name: weighted[name].into(data) if name in weighted else data for name, data in seen.items()}

    def _sampled(self, name: str, job: Job | None) -> LayerData:
        """What a plain pass sees of a layer that no recorded call of a stage shows."""
        site, info = self._site, self._site.structure.layers[name]
        data = None
        if info.operator == "linear":
            data = site.calibration.samples(site.reference, site.structure, name, job)
        return unseen(info, next(site.reference.parameters()).device) if data is None else data

    def _seen(
        self, calls: StageCalls, names: Sequence[str], *, quantized_inputs: bool, grams: bool, job: Job | None
    ) -> dict[str, LayerData]:
        site = self._site
        return collect(
            site.reference,
            site.structure,
            calls,
            names,
            site.calibration.layouts,
            quantized_inputs=quantized_inputs,
            grams=grams,
            patches_only=[n for n in names if self._settings(n).calibration_tokens == "patch"],
            job=job,
        )

    def _learn(
        self, calls: StageCalls, names: Sequence[str], data: Mapping[str, LayerData], job: Job | None
    ) -> Mapping[str, Learned]:
        """What reconstruction finds for the learning layers of a stage, all others of it being in place."""
        site = self._site
        learning: dict[str, Learning] = {}
        for name in names:
            layer = site.places.original(name)
            if isinstance(layer, nn.Linear):
                learning[name] = (layer, self._settings(name), data[name])
        fisher = any(self._settings(name).reconstruction == "fisher" for name in learning)
        with memory_errors(f"learning {calls.stage}", [call.args for call in calls.full[0]]):
            return reconstruct(
                site.reference.get_submodule(calls.stage),
                site.network.get_submodule(calls.stage),
                calls,
                learning,
                seed=self._todo[names[0]].seed,
                objective="fisher" if fisher else "block",
                importance=self._stakes.importance.get(calls.stage),
                kinds=partial(kinds_of(site.structure, site.calibration.layouts), calls.stage),
                job=job,
            )

    def _batches(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Layers whose second moments together fit into memory."""
        batch: list[str] = []
        held = 0
        for name in names:
            summed = self._settings(name).rounding == "gptq"
            size = 8 * self._site.structure.layers[name].in_features ** 2 if summed else 0
            if batch and held + size > GRAM_BYTES:
                yield batch
                batch, held = [], 0
            batch.append(name)
            held += size
        if batch:
            yield batch

    def _settings(self, name: str) -> LayerSettings:
        return self._todo[name].settings

    def _keep(self, name: str, layer: Simulated) -> None:
        self.built[name] = layer
        self._put(name, layer)


def build(
    site: Site, name: str, key: LayerKey, data: LayerData | None, learned: Learned | None = None
) -> Simulated:
    """One layer, in evaluation mode."""
    original, settings = site.places.original(name), weighable(key.settings, data)
    with memory_errors(f"quantizing {name}", original.weight):
        return build_layer(name, original, settings, seed=key.seed, data=data, learned=learned).eval()


def weighable(settings: LayerSettings, data: LayerData | None) -> LayerSettings:
    """The settings, but with the plain output error for a layer whose output the result does not depend on."""
    absent = settings.fisher and data is not None and data.gradients is None
    return replace(settings, search_loss="output") if absent else settings
