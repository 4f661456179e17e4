"""Applying a recipe to a network: once (`quantize`), or over and over with the difference as work (`Quantizer`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from quantlab.calibration.running import memory_errors
from quantlab.engine.build import InputSamples, build_layer
from quantlab.engine.calibrate import Calibration
from quantlab.engine.compensate import BranchFit, fit_branches
from quantlab.engine.plan import BranchPlan, Plan, plan
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import LayerSettings
from quantlab.engine.twin import Places, twin
from quantlab.errors import CheckpointError, RecipeError
from quantlab.jobs import Job, between, check, part, step
from quantlab.kernels.compensated import CompensatedOutput, Tap, TappedInput
from quantlab.kernels.reference import Simulated
from quantlab.models.structure import Structure, describe

SPARE_BYTES = 256 << 20
"""Memory for quantized layers that are not in use now, so that undo is immediate."""
MOST_FITS = 512
_Key = tuple[LayerSettings, int]


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
            tensor, a tuple of positional or a dict of named arguments.
        predict: ``predict(network, input)`` runs the network where calling it with the input would not.
        job: Reports progress and can be cancelled.

    Raises:
        RecipeError: The recipe cannot be carried out on this module, or needs calibration and has none.
        NumericError: A weight or an activation is NaN or infinite; names the layer.
        CheckpointError: The module is quantized already.
    """
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"a {type(recipe).__name__} is no recipe", remedy="Use ql.Recipe.preset('rtn').")
    inputs = [calibration] if isinstance(calibration, Tensor) else list(calibration or ())
    quantizer = Quantizer(module, describe(module), Calibration(inputs, predict))
    quantizer.apply(recipe, job)
    return quantizer.network


class Quantizer:
    """Keeps a quantized twin of a network in step with a recipe that changes.

    Args:
        network: Full precision; never changed, run or hooked (its twins share its parameters).
        structure: Of the network.
        calibration: Asked only by recipes that need it.

    Attributes:
        network: The quantized twin, one object for good, in evaluation mode.
        reference: The full-precision twin.
        plan: Of the recipe in force; None before the first `apply`.

    Raises:
        CheckpointError: The network is quantized already.
        RecipeError: It holds no layer that can be quantized.
    """

    def __init__(
        self, network: nn.Module, structure: Structure, calibration: Calibration | None = None
    ) -> None:
        require_quantizable(network, structure)
        self.structure = structure
        self.calibration = calibration or Calibration()
        self.reference = twin(network)
        self.network = twin(network)
        self.plan: Plan | None = None
        self._places = Places(self.network)
        self._keys: dict[str, _Key] = {}
        self._layers: dict[str, Simulated] = {}
        self._spare: OrderedDict[tuple[str, _Key], Simulated] = OrderedDict()
        self._fitted: dict[str, tuple[Hashable, BranchFit]] = {}
        self._known_fits: OrderedDict[tuple[str, Hashable], BranchFit] = OrderedDict()

    def apply(self, recipe: Recipe, job: Job | None = None) -> frozenset[str]:
        """Bring the twin to ``recipe``; work is done only for what changed.

        Returns:
            The blocks that now compute something else; "" stands for layers outside of all blocks.

        Raises:
            RecipeError, NumericError, JobCancelledError: The twin is then as before.
        """
        chosen = plan(self.structure, recipe)
        keys = {
            name: (layer.settings, recipe.seed) for name, layer in chosen.layers.items() if layer.quantized
        }
        before = self.states()
        former = (self._keys, self._layers, self.plan, self._fitted)
        layers = self._build(keys, part(job, 0, 2) if chosen.compensates else job)
        try:
            self._put(keys, layers, chosen)
            self._fitted = self._fit(chosen, part(job, 1, 2))
            self._wrap()
            check(job)
        except BaseException:
            self._keys, self._layers, self.plan, self._fitted = former
            self._put(*former[:3])
            self._wrap()
            raise
        self._save_spare(former[0], former[1])
        after = self.states()
        return frozenset(block for block in after if after[block] != before[block])

    @property
    def fits(self) -> dict[str, BranchFit]:
        """Branch to the verdict on its compensation, of the branches whose compensation is not off."""
        return {name: fit for name, (_, fit) in self._fitted.items()}

    def layer(self, name: str) -> Simulated | None:
        """The quantized stand-in of a layer, or None where it is kept."""
        return self._layers.get(name)

    def states(self) -> dict[str, Hashable]:
        """For each block, and "" for what is outside of all, a token that differs when it computes something else."""
        members: dict[str, list[Hashable]] = {name: [] for name in ("", *self.structure.blocks)}
        for name, key in self._keys.items():
            members[self.structure.layers[name].block].append((name, key))
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
        return (layers, corrected) if corrected is not None or any(layers) else None

    @property
    def packed_bytes(self) -> int:
        """Bytes of all layers, packed, and of the corrections really in place."""
        if self.plan is None:
            return sum(2 * info.parameters for info in self.structure.layers.values())
        corrections = sum(fit.correction.bytes for fit in self.fits.values() if fit.correction is not None)
        return sum(layer.bytes for layer in self.plan.layers.values()) + corrections

    def samples(self, name: str, job: Job | None = None) -> InputSamples | None:
        """Calibration samples of a layer's input; None without calibration."""
        return self.calibration.samples(self.reference, self.structure, name, job)

    def _build(self, keys: Mapping[str, _Key], job: Job | None) -> dict[str, Simulated]:
        layers: dict[str, Simulated] = {}
        asks = next((name for name, (settings, _) in keys.items() if settings.calibrated), None)
        if asks is not None and self.calibration.pending:
            self.samples(asks, between(job, 0.0, 0.7))
            job = between(job, 0.7, 1.0)
        for done, (name, key) in enumerate(keys.items()):
            if self._keys.get(name) == key:
                layers[name] = self._layers[name]
                continue
            step(job, done, len(keys), f"quantize {name}")
            known = self._spare.get((name, key))
            layers[name] = known or self._new(name, key, job)
        return layers

    def _new(self, name: str, key: _Key, job: Job | None) -> Simulated:
        settings, seed = key
        samples = self.samples(name, job) if settings.calibrated else None
        original = self._places.original(name)
        with memory_errors(f"quantizing {name}", original.weight):
            return build_layer(name, original, settings, seed=seed, samples=samples).eval()

    def _put(self, keys: dict[str, _Key], layers: dict[str, Simulated], chosen: Plan | None) -> None:
        for name in self.structure.layers:
            self._places.put(name, layers.get(name))
        self._keys, self._layers, self.plan = keys, layers, chosen

    def _fit(self, chosen: Plan, job: Job | None) -> dict[str, tuple[Hashable, BranchFit]]:
        """Fits of all branches to compensate; only those are made anew that something before them changed."""
        wanted = {name: branch for name, branch in chosen.branches.items() if branch.compensated != "off"}
        if not wanted:
            return {}
        inputs = self.calibration.require_inputs("compensation")
        order = self.calibration.order(self.reference, self.structure)
        ranked = sorted(wanted, key=lambda name: order[self.structure.branches[name].layers[0]])
        fitted: dict[str, tuple[Hashable, BranchFit]] = {}
        for index, name in enumerate(ranked):
            key = self._fit_key(name, wanted, order)
            known = self._known_fits.get((name, key))
            if known is None:
                # Nothing behind is known either: its key contains this one's. The run sees what is in place so far.
                self._fitted = fitted
                self._wrap()
                return {**fitted, **self._fit_rest(ranked[index:], wanted, order, inputs, job)}
            fitted[name] = (key, known)
        return fitted

    def _fit_rest(
        self,
        names: Sequence[str],
        wanted: Mapping[str, BranchPlan],
        order: Mapping[str, int],
        inputs: Sequence[Any],
        job: Job | None,
    ) -> dict[str, tuple[Hashable, BranchFit]]:
        """Fit branches that are not known, given that all before them are in place."""
        pairs = [(self.structure.branches[name], wanted[name]) for name in names]
        fits = fit_branches(self.network, self.reference, pairs, inputs, self.calibration.run, job)
        found: dict[str, tuple[Hashable, BranchFit]] = {}
        for name in names:
            key = self._fit_key(name, wanted, order)
            self._known_fits[name, key] = fits[name]
            found[name] = (key, fits[name])
        while len(self._known_fits) > MOST_FITS:
            self._known_fits.popitem(last=False)
        return found

    def _fit_key(self, name: str, wanted: Mapping[str, BranchPlan], order: Mapping[str, int]) -> Hashable:
        """Everything that a branch's fit depends on: the layers up to its last, and the branches compensated before."""
        layers = self.structure.branches[name].layers
        first, last = order[layers[0]], max(order[layer] for layer in layers)
        upstream = tuple((layer, key) for layer, key in self._keys.items() if order[layer] <= last)
        before = tuple(
            branch
            for other, branch in wanted.items()
            if order[self.structure.branches[other].layers[0]] <= first
        )
        return upstream, before

    def _wrap(self) -> None:
        """Bring the wrappers of compensated branches in line with the fits."""
        for info in self.structure.branches.values():
            for end in (info.norm, info.gamma or info.name):
                if end:
                    self._places.put(end, None)
        for name, (_, fit) in self._fitted.items():
            if fit.correction is None:
                continue
            info, tap = self.structure.branches[name], Tap()
            last = info.gamma or name
            if info.norm:
                self._places.put(info.norm, TappedInput(self._places.current(info.norm), tap))
            self._places.put(last, CompensatedOutput(self._places.current(last), tap, fit.correction).eval())

    def _save_spare(self, keys: Mapping[str, _Key], layers: Mapping[str, Simulated]) -> None:
        """Keep layers that went out of use, up to a bound."""
        for name, key in keys.items():
            if self._keys.get(name) != key:
                self._spare[name, key] = layers[name]
                self._spare.move_to_end((name, key))
        total = sum(layer.weight.nbytes for layer in self._spare.values())
        while total > SPARE_BYTES:
            total -= self._spare.popitem(last=False)[1].weight.nbytes


def require_quantizable(network: nn.Module, structure: Structure) -> None:
    """Refuse what cannot be quantized, or was already.

    Raises:
        CheckpointError: The network is quantized already.
        RecipeError: It holds no layer that can be quantized.
    """
    for name, module in network.named_modules():
        if isinstance(module, Simulated | CompensatedOutput):
            raise CheckpointError(
                "the network is quantized already",
                place=name,
                remedy="Start from the full-precision network.",
            )
    if not structure.layers or "" in structure.layers:
        raise RecipeError(
            "the module holds no Linear or convolution that can be exchanged",
            place=type(network).__name__,
            remedy="Pass the network that contains them.",
        )
