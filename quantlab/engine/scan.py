"""What each layer's bits do to the result, one layer at a time, and whether that adds up. It chooses no bits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np

from quantlab.engine.bit_rules import searchable, weight_bits, with_bits
from quantlab.engine.plan import Plan, plan
from quantlab.engine.recipe import Recipe, Rule
from quantlab.engine.search_passes import CHECKS, scan_passes
from quantlab.engine.search_record import MODES, VARIED, Check, Measured, Sensitivity
from quantlab.engine.settings import BITS, FULL_PRECISION, Settings
from quantlab.engine.trials import Trials
from quantlab.errors import RecipeError
from quantlab.jobs import Job, between, divided, part, step
from quantlab.models.structure import Structure

OPTIONS = (2, 3, 4, 6, 8)
SCENES = 4
LEFT_OUT: Mapping[str, tuple[Any, Any, str]] = {
    "reconstruction": ("none", None, "nothing is learned"),
    "smoothing_rule": ("awq", "task", "smoothing is searched on each layer's own output"),
    "search_loss": ("self", "fisher", "ranges are searched without gradients"),
    "inputs": ("full_precision", "quantized", "layers are calibrated on full-precision inputs"),
    "compensation": ("off", None, "branches are not compensated"),
    "fragile": (0.0, None, "no block is kept for being fragile: the bits decide"),
}
"""Setting to what holds while single layers are measured, in place of which value (None: any other), and why said so.

These need the whole network for every trial; measuring hundreds of trials with them would take hours.
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a scan.

    Attributes:
        bits: Options between full precision and none at all; 16 is always one more.
        mode: "alone" or "restored", as in `MODES`.
        vary: "weights" or "both", as in `VARIED`.
        scenes: How many calibration scenes are run for each trial.
        seed: Of the assignments that check the sum.

    Raises:
        RecipeError: An option, mode or count that does not exist.
    """

    bits: tuple[int, ...] = OPTIONS
    mode: str = "alone"
    vary: str = "weights"
    scenes: int = SCENES
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", tuple(sorted(set(self.bits))))
        allowed = tuple(bits for bits in BITS if bits < FULL_PRECISION)
        if not self.bits or not set(self.bits) <= {*allowed, FULL_PRECISION}:
            raise RecipeError(
                f"bits {list(self.bits)} cannot be scanned",
                place="bits",
                remedy=f"Choose some of {', '.join(map(str, allowed))}.",
            )
        for name, value, known in (("mode", self.mode, MODES), ("vary", self.vary, VARIED)):
            if value not in known:
                raise RecipeError(
                    f"unknown {name} {str(value)[:40]!r}", place=name, remedy=f"Use {' or '.join(known)}."
                )
        if type(self.scenes) is not int or self.scenes < 1:
            raise RecipeError(
                f"{self.scenes!r} scenes cannot be run", place="scenes", remedy="Use 1 or more."
            )

    @property
    def options(self) -> tuple[int, ...]:
        """The bits a layer may have, full precision last."""
        return (*(bits for bits in self.bits if bits < FULL_PRECISION), FULL_PRECISION)


def scan(trials: Trials, recipe: Recipe, ask: Ask, job: Job | None = None) -> Sensitivity:
    """Measure every layer that the recipe does not keep at every option, and check that the parts make the whole.

    Only bits vary: method, granularity and everything else stay as the recipe has them. Trials are remembered, so a
    scan that was stopped goes on where it was, and another recipe of the same method costs nothing.

    Raises:
        RecipeError: The recipe keeps every layer.
        JobCancelledError: The job was cancelled.
    """
    begun, found = time.perf_counter(), unmeasured(trials, recipe, ask)
    plain, _ = simplified(recipe)
    meter = _Meter(trials, plain, tuple(found.bytes), ask)
    alone, checking = divided(job, *scan_passes(found.now, ask).scan)
    added = meter.added(alone)
    found = replace(
        found,
        drifts={name: {bits: one.drift for bits, one in own.items()} for name, own in added.items()},
        squares={name: {bits: one.squared for bits, one in own.items()} for name, own in added.items()},
        points={name: {bits: one.points for bits, one in own.items()} for name, own in added.items()},
        base=meter.base.points,
    )
    checked = _check(trials, plain, found, ask, checking)
    return replace(found, check=checked, seconds=time.perf_counter() - begun)


def unmeasured(trials: Trials, recipe: Recipe, ask: Ask) -> Sensitivity:
    """What would be scanned and what it weighs, before anything is run: a record without errors.

    Raises:
        RecipeError: The recipe keeps every layer.
    """
    structure = trials.structure
    names = searchable(recipe, structure)
    if not names:
        raise RecipeError(
            "the recipe keeps every layer in full precision",
            place=recipe.name,
            remedy="Take another preset or scope, or set keep=False on some layers.",
        )
    sizes = layer_bytes(structure, recipe, names, ask)
    return Sensitivity(
        recipe=recipe,
        mode=ask.mode,
        vary=ask.vary,
        bits=ask.options,
        drifts={},
        squares={},
        points={},
        base=np.zeros(0, np.float32),
        bytes=sizes,
        fixed_bytes=_fixed(structure, recipe, sizes),
        now=weight_bits(recipe, structure),
        scenes=trials.scenes(ask.scenes),
        simplified=simplified(recipe)[1],
    )


def simplified(recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe without what cannot be measured layer by layer, and what that is, in words."""
    notes: dict[str, None] = {}

    def plain(settings: Mapping[str, Any]) -> Settings:
        own = dict(settings)
        for field, (value, instead_of, why) in LEFT_OUT.items():
            if field in own and own[field] != value and instead_of in (None, own[field]):
                own[field] = value
                notes[why] = None
        return Settings(own)

    rules = tuple(Rule(rule.pattern, plain(rule.settings)) for rule in recipe.rules)
    return replace(recipe, defaults=plain(recipe.defaults), rules=rules), tuple(notes)


def without_fragile(recipe: Recipe) -> Recipe:
    """The recipe without blocks that the data keep in 16 bits (QVGGT): where bits are searched, bits say that."""

    def plain(settings: Mapping[str, Any]) -> Settings:
        return Settings({name: value for name, value in settings.items() if name != "fragile"})

    rules = (Rule(rule.pattern, plain(rule.settings)) for rule in recipe.rules)
    return replace(
        recipe, defaults=plain(recipe.defaults), rules=tuple(rule for rule in rules if rule.settings)
    )


def layer_bytes(
    structure: Structure, recipe: Recipe, names: Sequence[str], ask: Ask
) -> dict[str, dict[int, int]]:
    """Packed bytes of each layer at each option, scales and bias included, from the plan."""
    plans = {bits: _plan(structure, recipe, dict.fromkeys(names, bits), ask) for bits in ask.options}
    now = plan(structure, recipe)
    asked = recipe.layers(structure)
    return {
        name: {bits: own.layers[name].bytes for bits, own in plans.items()}
        | {asked[name].weights: now.layers[name].bytes}
        for name in names
    }


def _plan(structure: Structure, recipe: Recipe, bits: Mapping[str, int], ask: Ask) -> Plan:
    return plan(structure, with_bits(recipe, structure, bits, vary=ask.vary))


def _fixed(structure: Structure, recipe: Recipe, sizes: Mapping[str, Mapping[int, int]]) -> int:
    """Bytes of layers whose bits do not vary, and of corrections that are on."""
    now = plan(structure, recipe)
    return now.bytes - sum(now.layers[name].bytes for name in sizes)


class _Meter:
    """Errors of one layer at a time; ``base`` is what they are added to."""

    def __init__(self, trials: Trials, recipe: Recipe, names: Sequence[str], ask: Ask) -> None:
        self._trials, self._names, self._ask = trials, names, ask
        structure = trials.structure
        self._now = weight_bits(recipe, structure)
        # Written one way whatever the bits were, so that recipes of one method share their trials.
        most = max(ask.options[:-1], default=FULL_PRECISION)
        self._start = dict.fromkeys(names, most) if ask.mode == "alone" else self._now
        self._recipe = with_bits(recipe, structure, self._start, vary=ask.vary)
        self._rest = self._recipe
        if ask.mode == "alone":
            # What is left where no layer is rounded: rounded keys and values, say; nothing for most methods.
            self._rest = with_bits(recipe, structure, dict.fromkeys(names, FULL_PRECISION), vary=ask.vary)
            self._recipe = _silent(self._recipe, names)
        self.base = Measured(0.0, 0.0)

    def added(self, job: Job | None) -> dict[str, dict[int, Measured]]:
        """Layer to bits to what they add to ``base``."""
        first = self._trials.measure(self._rest, self._ask.scenes, between(job, 0.0, 0.01))
        nothing = Measured(0.0, 0.0, np.zeros_like(first.points))
        self.base = first
        job = between(job, 0.01, 1.0)
        found: dict[str, dict[int, Measured]] = {}
        for index, name in enumerate(self._names):
            found[name], options = {}, sorted({*self._ask.options, self._now[name]})
            for place, bits in enumerate(options):
                done, total = index * len(options) + place, len(self._names) * len(options)
                step(job, done, total, f"{name} at {bits} bits")
                quiet = bits == (FULL_PRECISION if self._ask.mode == "alone" else self._start[name])
                found[name][bits] = nothing if quiet else self._one(name, bits, part(job, done, total))
        return found

    def _one(self, name: str, bits: int, job: Job | None) -> Measured:
        settings: dict[str, Any] = {"weights": bits, "keep": False}
        if bits == FULL_PRECISION or self._ask.vary == "both":
            settings["activations"] = bits
        trial, text = self._recipe.set(name, **settings), f"{name} at {bits} bits"
        found, base = self._trials.measure(trial, self._ask.scenes, job, text=text, once=True), self.base
        if self._ask.mode == "alone":
            return found
        return Measured(found.drift - base.drift, found.squared - base.squared, found.points - base.points)


def _silent(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """With everything in full precision, keys and values too."""
    quiet = recipe.set("*", keep=True, compensation="off", kv_bits=FULL_PRECISION)
    for name in names:
        quiet = quiet.set(name, keep=True)
    return quiet


def _check(trials: Trials, recipe: Recipe, found: Sensitivity, ask: Ask, job: Job | None) -> Check:
    """Draw assignments around the middle options, and set the sum against the truth."""
    random = np.random.default_rng(ask.seed)
    drawn = [bits for bits in ask.options if FULL_PRECISION > bits > min(ask.options)] or list(ask.options)
    predicted, measured = [], []
    for index in range(CHECKS):
        step(job, index, CHECKS, "checking that single layers add up")
        # Each assignment leans to another number of bits, so that they do not all weigh the same.
        likely = random.dirichlet(np.ones(len(drawn)))
        bits = {name: int(random.choice(drawn, p=likely)) for name in found.bytes}
        assigned, section = with_bits(recipe, trials.structure, bits, vary=ask.vary), part(job, index, CHECKS)
        truth = trials.measure(assigned, ask.scenes, section, text="checking the sum", once=True)
        guess = found.predict(bits)
        if isfinite(guess) and isfinite(truth.drift):
            predicted.append(guess)
            measured.append(truth.drift)
    return Check(tuple(predicted), tuple(measured))
