"""Applying a recipe to a network: once (`quantize`), or over and over with the difference as work (`Quantizer`)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import Any

from torch import Tensor, nn

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.building import Builder
from quantlab.engine.calibrate import Calibration
from quantlab.engine.compensate import BranchFit
from quantlab.engine.decisions import Decided, Decisions, Kept
from quantlab.engine.fits import Fits, Fitted, put_corrections
from quantlab.engine.kv import KVPlaces, kv_formats
from quantlab.engine.plan import Plan, plan
from quantlab.engine.pool import Pool
from quantlab.engine.recipe import Recipe
from quantlab.engine.selection_settings import Selection
from quantlab.engine.site import Site
from quantlab.engine.stages import StageStore
from quantlab.engine.stages_keys import LayerKey, staged_keys
from quantlab.engine.subject import subject_of
from quantlab.engine.twin import Places, twin
from quantlab.errors import CheckpointError, RecipeError, SceneError
from quantlab.jobs import Job, between, check, part
from quantlab.kernels.coded import Executed
from quantlab.kernels.compensated import CompensatedOutput
from quantlab.kernels.kv import RoundedHeads
from quantlab.kernels.reference import Simulated
from quantlab.methods.kv import KVFormat
from quantlab.models.structure import Structure, describe

CalibrationFor = Callable[[Selection, int, Job | None], Calibration]
"""``calibration_for(selection, seed, job)``: the scenes that a recipe with this entry learns from."""


def quantize(
    module: nn.Module,
    recipe: Recipe,
    calibration: Sequence[Any] | Tensor | None = None,
    *,
    predict: Callable[[nn.Module, Any], Any] | None = None,
    job: Job | None = None,
) -> nn.Module:
    """A quantized copy of any torch module, in evaluation mode.

    Args:
        module: Not changed; what is not quantized is shared with the copy.
        recipe: What to do. Equal recipes and equal calibration give equal copies.
        calibration: Inputs to run for recipes that need them (smoothing, static activations, compensation): each a
            tensor, a tuple of positional or a dict of named arguments. A recipe that selects scenes picks from them.
        predict: ``predict(network, input)`` runs the network where calling it with the input would not.
        job: Reports progress and can be cancelled.

    Raises:
        RecipeError: The recipe cannot be carried out on this module, or needs calibration and has none.
        NumericError: A weight or an activation is NaN or infinite; names the layer.
        CheckpointError: The module is quantized already.
    """
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"a {type(recipe).__name__} is no recipe", remedy="Use ql.Recipe.preset('rtn').")
    if isinstance(calibration, str | PathLike):
        raise SceneError(
            f"a bare module cannot be calibrated on {str(calibration)[:60]!r}",
            place="calibration",
            remedy="Pass its inputs, as [tensor, tensor], or use ql.Lab with ql.load_model.",
        )
    inputs = [calibration] if isinstance(calibration, Tensor) else list(calibration or ())
    everything = Calibration(inputs, predict)
    pool = Pool(
        subject_of(module, predict), lambda: inputs, lambda: quantizer.reference, lambda: (everything, inputs)
    )
    quantizer = Quantizer(module, describe(module), everything, calibration_for=pool.calibration)
    quantizer.apply(recipe, job)
    return quantizer.network


class Quantizer:
    """Keeps a quantized twin of a network in step with a recipe that changes.

    Args:
        network: Full precision; never changed, run or hooked (its twins share its parameters).
        structure: Of the network.
        calibration: What `samples` shows. Asked only by recipes that need it.
        calibration_for: What a recipe learns from; None: ``calibration``, whatever it selects.

    Attributes:
        network: The quantized twin, one object for good, in evaluation mode.
        reference: The full-precision twin.
        plan: Of the recipe in force, with what the data decided; None before the first `apply`.
        decided: What the data decided for that plan, and by which measurements; None before the first `apply`.

    Raises:
        CheckpointError: The network is quantized already.
        RecipeError: It holds no layer that can be quantized.
    """

    def __init__(
        self,
        network: nn.Module,
        structure: Structure,
        calibration: Calibration | None = None,
        *,
        calibration_for: CalibrationFor | None = None,
    ) -> None:
        require_quantizable(network, structure)
        self.structure = structure
        self.calibration = calibration or Calibration()
        self._calibration_for = calibration_for or (lambda *_: self.calibration)
        self._learning = self.calibration
        self.reference = twin(network)
        self.network = twin(network)
        self.plan: Plan | None = None
        self._places = Places(self.network)
        self._kv = KVPlaces(self._places, structure)
        self._formats: Mapping[str, KVFormat] = {}
        self._keys: Mapping[str, LayerKey] = {}
        self._layers: Mapping[str, Simulated] = {}
        self._builder = Builder(structure)
        self._fitted: Fitted = {}
        self._fits = Fits()
        self._decisions = Decisions(self.reference, structure)
        self.decided: Decided | None = None

    def apply(
        self, recipe: Recipe, job: Job | None = None, *, store: StageStore | None = None
    ) -> frozenset[str]:
        """Bring the twin to ``recipe``; work is done only for what changed.

        Args:
            recipe: What to do.
            job: Reports progress and can be cancelled.
            store: Keeps finished stages, and gives those that a former process finished.

        Returns:
            The blocks that now compute something else; "" stands for layers outside of all blocks.

        Raises:
            RecipeError, NumericError, JobCancelledError: The twin is then as before.
        """
        chosen = plan(self.structure, recipe)
        before, former = self.states(), (self._keys, self._layers, self.plan, self._formats, self._fitted)
        job = self._select(chosen, recipe, job)
        deciding, job = (between(job, 0.0, 0.7), between(job, 0.7, 1.0)) if chosen.undecided else (None, job)
        decided = self._decisions.decide(chosen, recipe.seed, self._learning, deciding)
        chosen = decided.plan
        keys = self._new_keys(chosen, recipe)
        built = {name: layer for name, key in keys.items() if (layer := self._at_hand(name, key))}
        try:
            ready, building = (
                partial(self._ready, keys, chosen),
                part(job, 0, 2) if chosen.compensates else job,
            )
            self._builder.build(self._site(), keys, built, ready, store=store, job=building)
            formats = kv_formats(chosen, recipe.seed)
            self._put(keys, {name: built[name] for name in keys}, chosen, formats)
            fitting = part(job, 1, 2)
            self._wrap(self._fits.find(self._site(), chosen, {**keys, **formats}, self._wrap, fitting))
            check(job)
            self.decided = decided
        except BaseException:
            finished = {name: keys[name] for name in built}
            self._put(*former[:4])
            self._wrap(former[4])
            # What was finished need not be done again: a job that was stopped goes on from there.
            self._builder.keep(finished, built, self._keys)
            raise
        self._builder.keep(former[0], former[1], self._keys)
        after = self.states()
        return frozenset(block for block in after if after[block] != before[block])

    @property
    def kept(self) -> Mapping[str, Kept]:
        """Block to why it stays in 16 bits, of the blocks that proved too sensitive to be quantized."""
        return {} if self.decided is None else self.decided.kept

    @property
    def fits(self) -> dict[str, BranchFit]:
        """Branch to the verdict on its compensation, of the branches whose compensation is not off."""
        return {name: fit for name, (_, fit) in self._fitted.items()}

    @property
    def seed(self) -> int:
        """Of the recipe in force, where it quantizes anything."""
        return next((key.seed for key in self._keys.values()), 0)

    def layer(self, name: str) -> Simulated | None:
        """The quantized stand-in of a layer, or None where it is kept."""
        return self._layers.get(name)

    @contextmanager
    def restored(self, names: Iterable[str]) -> Iterator[dict[str, Hashable]]:
        """The twin with these layers in full precision again, all else as it is; gives `states` for the meantime."""
        states, layers = self.states(), {name: self._layers[name] for name in names}
        try:
            for name, layer in layers.items():
                layer.__dict__["forward"] = self._places.original(name).forward
                states[self.structure.layers[name].block] = object()
            yield states
        finally:
            for layer in layers.values():
                layer.__dict__.pop("forward", None)

    def states(self) -> dict[str, Hashable]:
        """For each block, and "" for what is outside of all, a token that differs when it computes something else."""
        members: dict[str, list[Hashable]] = {name: [] for name in ("", *self.structure.blocks)}
        for name, key in self._keys.items():
            members[self.structure.layers[name].block].append((name, key))
        for name, chosen in self._formats.items():
            members[self.structure.branches[name].block].append((name, chosen))
        for name, (made_from, fit) in self._fitted.items():
            if fit.correction is not None:
                members[self.structure.branches[name].block].append((name, made_from))
        return {block: tuple(parts) for block, parts in members.items()}

    def state(self, name: str) -> Hashable:
        """A token of one layer or branch that differs when it computes something else; None where it is kept."""
        if name in self.structure.layers:
            return self._keys.get(name)
        made_from, fit = self._fitted.get(name, (None, None))
        layers = tuple(self._keys.get(layer) for layer in self.structure.branches[name].layers)
        corrected = made_from if fit is not None and fit.correction is not None else None
        parts = (layers, self._formats.get(name), corrected)
        return parts if any(layers) or any(part is not None for part in parts[1:]) else None

    @property
    def packed_bytes(self) -> int:
        """Bytes of all layers, packed, and of the corrections really in place."""
        if self.plan is None:
            return sum(2 * info.parameters for info in self.structure.layers.values())
        corrections = sum(fit.correction.bytes for fit in self.fits.values() if fit.correction is not None)
        return sum(layer.bytes for layer in self.plan.layers.values()) + corrections

    def samples(self, name: str, job: Job | None = None) -> LayerData | None:
        """Calibration samples of a layer's input; None without calibration."""
        return self.calibration.samples(self.reference, self.structure, name, job)

    def searched(self, name: str, job: Job | None = None) -> LayerData | None:
        """What the range search of a layer looks at under the recipe in force; gradients are taken anew if need be."""
        key = self._keys.get(name)
        looks = key is not None and (key.settings.static or key.settings.search_loss != "self")
        if key is None or not looks:
            return None
        data = self._learning.samples(self.reference, self.structure, name, between(job, 0.0, 0.5))
        if not key.settings.fisher:
            return data
        weighted = self._builder.gradients(self._site(), self._keys, between(job, 0.5, 1.0)).get(name)
        return data if weighted is None else weighted.into(data)

    def _new_keys(self, chosen: Plan, recipe: Recipe) -> dict[str, LayerKey]:
        settings = {name: layer.settings for name, layer in chosen.layers.items() if layer.quantized}
        return staged_keys(
            self.structure,
            settings,
            recipe.seed,
            self._learning.which,
            lambda: self._learning.order(self.reference, self.structure),
        )

    def _select(self, chosen: Plan, recipe: Recipe, job: Job | None) -> Job | None:
        """Decide what is learned from, where anything is; returns what is left of the job."""
        self._learning = self.calibration
        if not chosen.calibrated:
            return job
        looks = recipe.calibration.how.looks
        self._learning = self._calibration_for(
            recipe.calibration, recipe.seed, between(job, 0.0, 0.3) if looks else job
        )
        return between(job, 0.3, 1.0) if looks else job

    def _site(self) -> Site:
        return Site(self.reference, self.network, self._places, self.structure, self._learning)

    def _ready(self, keys: Mapping[str, LayerKey], chosen: Plan, layers: Mapping[str, Simulated]) -> None:
        """Bring the twin to these layers alone, while others are built.

        Corrections are fitted to the layers, not the other way round, and keys and values are exact meanwhile too.
        """
        self._put({name: keys[name] for name in layers}, layers, chosen, {})
        self._wrap({})

    def _at_hand(self, name: str, key: LayerKey) -> Simulated | None:
        return self._layers[name] if self._keys.get(name) == key else self._builder.spare(name, key)

    def _put(
        self,
        keys: Mapping[str, LayerKey],
        layers: Mapping[str, Simulated],
        chosen: Plan | None,
        formats: Mapping[str, KVFormat],
    ) -> None:
        for name in self.structure.layers:
            self._places.put(name, layers.get(name))
        self._kv.put(formats)
        self._keys, self._layers, self.plan, self._formats = keys, layers, chosen, formats

    def _wrap(self, fitted: Fitted) -> None:
        put_corrections(self._places, self.structure, fitted)
        self._fitted = fitted


def require_quantizable(network: nn.Module, structure: Structure) -> None:
    """Refuse what cannot be quantized, or was already.

    Raises:
        CheckpointError: The network is quantized already.
        RecipeError: It holds no layer that can be quantized.
    """
    for name, module in network.named_modules():
        if isinstance(module, Simulated | Executed | CompensatedOutput | RoundedHeads):
            raise CheckpointError(
                "the network is quantized already",
                place=name,
                remedy="Start from the full-precision network; quantlab.evaluate scores a packed checkpoint as it is.",
            )
    if not structure.layers or "" in structure.layers:
        raise RecipeError(
            "the module holds no Linear or convolution that can be exchanged",
            place=type(network).__name__,
            remedy="Pass the network that contains them.",
        )
