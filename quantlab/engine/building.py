"""Brings the quantized layers of a recipe together: those at hand, those that need a sample, those of stages.

It chooses no settings, and hangs nothing into a network except while a walk goes through it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping

from torch import Tensor

from quantlab.calibration.fisher import importance, kinds_of
from quantlab.engine.fisher_data import GradientRows, collect_gradients
from quantlab.engine.site import Site
from quantlab.engine.stages import StageStore, Stakes, build, build_stages
from quantlab.engine.stages_keys import LayerKey, formats_digest
from quantlab.engine.walk import stages_of
from quantlab.jobs import Job, between, step
from quantlab.kernels.reference import Simulated
from quantlab.models.structure import Structure

SPARE_BYTES = 256 << 20
"""Memory for quantized layers that are not in use now, so that undo is immediate."""
PACK_BYTES = 256 << 20
"""Quantized weights of more than this, in float32, are held as packed codes and unpacked at each forward."""
Keys = Mapping[str, LayerKey]
Layers = Mapping[str, Simulated]


class Builder:
    """Builds layers, and remembers those that went out of use.

    Args:
        structure: Of the network.
    """

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._stages = {layer: stage for stage, layers in stages_of(structure).items() for layer in layers}
        self._spare: OrderedDict[tuple[str, LayerKey], Simulated] = OrderedDict()
        self._gradients: tuple[Hashable, Mapping[str, GradientRows]] = (None, {})

    def spare(self, name: str, key: LayerKey) -> Simulated | None:
        """A layer that was built from this key before, if it is still there."""
        return self._spare.get((name, key))

    def keep(self, keys: Keys, layers: Layers, used: Keys) -> None:
        """Keep layers that are not among those in use, up to a bound."""
        for name, key in keys.items():
            if used.get(name) != key:
                self._spare[name, key] = layers[name]
                self._spare.move_to_end((name, key))
        total = sum(layer.stored_bytes for layer in self._spare.values())
        while total > SPARE_BYTES:
            total -= self._spare.popitem(last=False)[1].stored_bytes

    def build(
        self,
        site: Site,
        keys: Keys,
        built: dict[str, Simulated],
        ready: Callable[[Layers], None],
        *,
        store: StageStore | None = None,
        job: Job | None = None,
    ) -> None:
        """Fill ``built`` with the layers of ``keys`` that it lacks.

        Args:
            site: Its network may hold anything now.
            keys: All layers to quantize.
            built: Those at hand. What is built stays in it when an error ends the work.
            ready: Brings the network to just these layers, before a walk goes through it.
            store: Keeps stages; then all layers of stages are built stage by stage.
            job: Progress and cancellation.
        """
        missing = {name: key for name, key in keys.items() if name not in built}
        todo = self._staged(keys, missing, all_stages=store is not None)
        rest = {name: key for name, key in missing.items() if name not in todo}
        packed = store is not None or is_large(self._structure, keys)

        def put(name: str, layer: Simulated) -> None:
            if packed:
                layer.keep_packed()
            built[name] = layer

        def hang(name: str, layer: Simulated) -> None:
            put(name, layer)
            site.places.put(name, layer)

        weighted = any(
            key.settings.fisher or key.settings.reconstruction == "fisher" for key in missing.values()
        )
        if weighted:
            stakes, job = self._stakes(site, keys, missing, between(job, 0.0, 0.5)), between(job, 0.5, 1.0)
        else:
            stakes = Stakes()
        self._sampled(site, rest, stakes, put, between(job, 0.0, 0.2) if todo else job)
        if todo:
            ready({name: layer for name, layer in built.items() if name not in todo})
            build_stages(site, todo, hang, store=store, stakes=stakes, job=between(job, 0.2, 1.0))

    def _staged(self, keys: Keys, missing: Keys, *, all_stages: bool) -> dict[str, LayerKey]:
        """The missing layers that a walk builds; layers of a stage that learn are learned together."""
        todo = {
            name: key
            for name, key in missing.items()
            if name in self._stages and (all_stages or key.settings.staged)
        }
        learning = {name: key for name, key in keys.items() if key.learned and name in self._stages}
        stages = {self._stages[name] for name in learning.keys() & todo.keys()}
        return todo | {name: key for name, key in learning.items() if self._stages[name] in stages}

    @staticmethod
    def _sampled(
        site: Site, keys: Keys, stakes: Stakes, put: Callable[[str, Simulated], None], job: Job | None
    ) -> None:
        """Build layers that need no more than samples of their inputs."""
        scenes, asked = site.calibration, [name for name, key in keys.items() if key.settings.calibrated]
        if asked and scenes.pending:
            scenes.samples(site.reference, site.structure, asked[0], between(job, 0.0, 0.7))
            job = between(job, 0.7, 1.0)
        for done, (name, key) in enumerate(keys.items()):
            step(job, done, len(keys), f"quantize {name}")
            wanted = key.settings.calibrated
            data = scenes.samples(site.reference, site.structure, name, job) if wanted else None
            weighted = stakes.gradients.get(name)
            put(name, build(site, name, key, data if weighted is None else weighted.into(data)))

    def _stakes(self, site: Site, keys: Keys, missing: Keys, job: Job | None) -> Stakes:
        """Gradients that the missing layers ask for; those of searches are kept until the formats change."""
        scenes, first = site.calibration, between(job, 0.0, 0.5)
        learning = [name for name, key in missing.items() if key.settings.reconstruction == "fisher"]
        stages = list(dict.fromkeys(self._stages[name] for name in learning if name in self._stages))
        weights: Mapping[str, Tensor] = {}
        if stages:
            seed = missing[learning[0]].seed
            kinds = kinds_of(site.structure, scenes.layouts)
            weights = importance(
                site.reference, scenes.outputs, scenes.inputs, stages, seed=seed, kinds=kinds, job=first
            )
        asking = [name for name, key in missing.items() if key.settings.fisher]
        known = self.gradients(site, keys, between(job, 0.5, 1.0)) if asking else {}
        return Stakes(weights, {name: known[name] for name in asking if name in known})

    def gradients(self, site: Site, keys: Keys, job: Job | None = None) -> Mapping[str, GradientRows]:
        """Gradients for all layers of ``keys`` that are searched by them; those last taken are kept."""
        settings, scenes = {name: key.settings for name, key in keys.items()}, site.calibration
        asked = frozenset(name for name, chosen in settings.items() if chosen.fisher)
        made_from = (formats_digest(settings), scenes.which, asked)
        if self._gradients[0] != made_from:
            inputs = scenes.require_inputs("a search by gradients")
            found = collect_gradients(
                site.reference, site.structure, settings, scenes.outputs, inputs, scenes.layouts, job=job
            )
            self._gradients = (made_from, found)
        return self._gradients[1]


def is_large(structure: Structure, names: Iterable[str]) -> bool:
    """Whether the weights of these layers are so large that they are kept packed."""
    layers = [structure.layers[name] for name in names]
    return sum(4 * layer.in_features * layer.out_features for layer in layers) > PACK_BYTES
