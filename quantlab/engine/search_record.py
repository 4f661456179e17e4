"""Records of a sensitivity scan and of a search for bits. No torch; it measures nothing and chooses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, inf, isfinite, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.engine.recipe import Recipe

MODES = {
    "alone": "one layer quantized, the rest in full precision",
    "restored": "all layers quantized, one changed",
}
VARIED = {
    "weights": "the weights' bits change, the inputs keep those of the recipe",
    "both": "weights and inputs get the same bits",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """How far a recipe's result is from full precision, over calibration scenes.

    Attributes:
        drift: Mean distance of paired points after Sim(3) over the size of the scene, what `Lab.evaluate` calls
            point_error; of a network that gives no reconstruction, the mean relative error of its outputs. Infinite
            where the network broke down.
        squared: Mean of the squares of the same.
        points: float32 [P], these squares at some of the points, the same ones for every recipe.
        scenes: The drift of each scene.
    """

    drift: float
    squared: float
    points: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros(0, np.float32), repr=False, compare=False
    )
    scenes: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Check:
    """The sum over layers set against the truth, for assignments drawn at random.

    Attributes:
        predicted: Drift that the sum gives, one entry an assignment.
        measured: Drift of the network as it really ran.
    """

    predicted: tuple[float, ...]
    measured: tuple[float, ...]

    @property
    def spearman(self) -> float | None:
        """Rank correlation, 1 where the sum puts them all in the right order; None for fewer than three."""
        count = len(self.predicted)
        if count < 3:
            return None
        pairs = zip(_ranks(self.predicted), _ranks(self.measured), strict=True)
        return 1 - 6 * sum((one - other) ** 2 for one, other in pairs) / (count * (count**2 - 1))

    @property
    def ratio(self) -> float | None:
        """Geometric mean of measured over predicted, 1 where the sum is right on average."""
        logs = [
            log(truth / guess)
            for guess, truth in zip(self.predicted, self.measured, strict=True)
            if guess > 0 and 0 < truth < inf
        ]
        return exp(sum(logs) / len(logs)) if logs else None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What each layer's bits do to the result, every other setting as the recipe has it.

    Errors of single layers are taken as independent: at every point their squares add up, and the drift is the mean
    of the roots. `check` says how true that is.

    Attributes:
        recipe: The recipe; its bits are where the scan "restored" starts.
        mode: A key of `MODES`.
        vary: A key of `VARIED`.
        bits: The options, from few to many; 16 is a layer in full precision.
        drifts: Layer to bits to the drift with that layer alone quantized so; in mode "restored", to how much that
            change alone adds to the drift of the recipe (often less than 0).
        squares: Likewise, mean squared distances over the squared size of the scene; these add up.
        points: Likewise, float32 [P] squares at some points of the scenes.
        base: float32 [P], what ``points`` are added to: the squares with no layer rounded (zeros, but for rounded keys
            and values), or in mode "restored" the recipe's own.
        bytes: Layer to bits to packed bytes.
        fixed_bytes: Of everything whose bits do not vary.
        now: Layer to its bits in the recipe.
        scenes: Names of the calibration scenes.
        simplified: What was left out of the method while single layers were measured, in words.
        check: The sum against the truth.
        seconds: Time it took.
    """

    recipe: Recipe
    mode: str
    vary: str
    bits: tuple[int, ...]
    drifts: Mapping[str, Mapping[int, float]]
    squares: Mapping[str, Mapping[int, float]]
    points: Mapping[str, Mapping[int, NDArray[np.float32]]] = field(repr=False, compare=False)
    base: NDArray[np.float32] = field(repr=False, compare=False)
    bytes: Mapping[str, Mapping[int, int]]
    fixed_bytes: int
    now: Mapping[str, int]
    scenes: tuple[str, ...]
    simplified: tuple[str, ...] = ()
    check: Check | None = None
    seconds: float = 0.0

    def summed(self, bits: Mapping[str, int]) -> NDArray[np.float64]:
        """Squared distance at every point, [P], that the sum over layers gives; never less than 0."""
        total = self.base.astype(np.float64)
        for name, value in bits.items():
            total = total + self.points[name][value]
        return np.maximum(total, 0.0)

    def predict(self, bits: Mapping[str, int]) -> float:
        """The drift that the sum over layers gives."""
        return float(np.sqrt(self.summed(bits)).mean())

    def size(self, bits: Mapping[str, int]) -> int:
        """Packed bytes of the whole network, what does not vary included."""
        return self.fixed_bytes + sum(self.bytes[name][value] for name, value in bits.items())

    def uniform(self, bits: int) -> dict[str, int]:
        """Every layer at the same bits."""
        return dict.fromkeys(self.bytes, bits)

    def ranked(self, bits: int) -> list[tuple[str, float]]:
        """Layers and what these bits add to the drift, the most sensitive first."""
        found = [(name, own[bits]) for name, own in self.drifts.items()]
        return sorted(found, key=lambda entry: (-entry[1], entry[0]))

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data, its points left out; what is infinite becomes None."""
        return {
            "mode": self.mode,
            "vary": self.vary,
            "bits": list(self.bits),
            "drifts": _table(self.drifts),
            "squares": _table(self.squares),
            "bytes": {name: {str(b): s for b, s in own.items()} for name, own in self.bytes.items()},
            "fixed_bytes": self.fixed_bytes,
            "scenes": list(self.scenes),
            "simplified": list(self.simplified),
            "check": None
            if self.check is None
            else {
                "predicted": [_plain(value) for value in self.check.predicted],
                "measured": [_plain(value) for value in self.check.measured],
                "spearman": self.check.spearman,
                "ratio": self.check.ratio,
            },
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe that was considered.

    Attributes:
        bits: Layer to weight bits.
        bytes: Packed, the whole network.
        predicted: Drift that the sum over layers gives.
        verified: What was measured; None where it was not run.
        seconds: Of a forward pass as executed, from what single layers took; None for a search by size.
        timed: The same, of the whole recipe as measured; None where it was not.
        kind: "front", "uniform", "refined" or "current".
        label: For people, as "4 bits" or "9.98 MB".
    """

    recipe: Recipe
    bits: Mapping[str, int]
    bytes: int
    predicted: float
    verified: Measured | None = None
    kind: str = "front"
    label: str = ""
    seconds: float | None = None
    timed: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The candidate as plain data, its recipe included."""
        return {
            "kind": self.kind,
            "label": self.label,
            "bytes": self.bytes,
            "predicted": _plain(self.predicted),
            "seconds": self.seconds,
            "timed": self.timed,
            "verified": None
            if self.verified is None
            else {"squared": _plain(self.verified.squared), "drift": _plain(self.verified.drift)},
            "bits": dict(self.bits),
            "recipe": self.recipe.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found.

    Attributes:
        sensitivity: What it was computed from.
        budget: Bytes of the whole network that ``chosen`` stays within; for a search by time, its own.
        chosen: The best that was really run within the budget.
        candidates: The Pareto front, from small to large; some are verified.
        uniform: The same bits in every layer; of a method that learns, only what is next to the budget is verified.
        current: The recipe that the search began from, verified.
        tried: How many recipes were really run, those of the scan apart.
        seconds: Time it took, the scan included.
        budget_seconds: Of a forward pass, that ``chosen`` stays within by what its layers took; None: by size.
        asked_seconds: What was asked for: less, where that cannot be reached and the fastest choice was taken.
        spread_seconds: Between the fastest and the slowest pass of ``chosen`` as measured; 0 where nobody knows.
    """

    sensitivity: Sensitivity
    budget: int
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    uniform: tuple[Candidate, ...]
    current: Candidate
    tried: int = 0
    seconds: float = 0.0
    budget_seconds: float | None = None
    asked_seconds: float | None = None
    spread_seconds: float = 0.0

    @property
    def everything(self) -> tuple[Candidate, ...]:
        """All candidates: front, uniform bits, the one chosen and the current one."""
        return (*self.candidates, *self.uniform, self.chosen, self.current)

    @property
    def distinct(self) -> tuple[Candidate, ...]:
        """All candidates, each recipe once: what was run or timed is taken before what was not."""
        found: dict[Recipe, Candidate] = {}
        for one in self.everything:
            if one.recipe not in found or found[one.recipe].verified is None or one.timed is not None:
                found[one.recipe] = one
        return tuple(found.values())

    def to_dict(self) -> dict[str, Any]:
        """The search as plain data."""
        return {
            "budget": self.budget,
            "budget_seconds": self.budget_seconds,
            "asked_seconds": self.asked_seconds,
            "spread_seconds": self.spread_seconds,
            "chosen": self.chosen.to_dict(),
            "current": self.current.to_dict(),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "uniform": [candidate.to_dict() for candidate in self.uniform],
            "sensitivity": self.sensitivity.to_dict(),
            "tried": self.tried,
            "seconds": self.seconds,
        }


def _table(values: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float | None]]:
    return {name: {str(b): _plain(error) for b, error in own.items()} for name, own in values.items()}


def _plain(value: float) -> float | None:
    return value if isfinite(value) else None


def _ranks(values: tuple[float, ...]) -> list[float]:
    """Places from 0; equal values share the mean of theirs."""
    ranked = sorted(values)
    return [ranked.index(value) + (ranked.count(value) - 1) / 2 for value in values]
