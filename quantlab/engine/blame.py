"""From a damaged region of the compared cloud to the layers that did it: ranked, then verified. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from quantlab.engine.blame_estimate import Target, estimates
from quantlab.engine.blame_record import Blame, Suspect, ranked
from quantlab.engine.comparison import Comparison, pair
from quantlab.engine.execution import execute
from quantlab.engine.quantize import Quantizer
from quantlab.engine.replay import BlockCache
from quantlab.engine.subject import Subject
from quantlab.errors import DeviceError, NumericError, RecipeError, SceneError
from quantlab.jobs import Job, between, check, part
from quantlab.models.prediction import Prediction

NUDGES = 3
"""Nudged copies of the pictures that the luck of rounding is measured on."""
NUDGE = 0.25 / 255
"""Standard deviation of a nudge, of pictures in [0, 1]: a quarter of a grey level."""
TOGETHER = 3
"""Most suspects that are restored at once, to see how many together repair most."""
Found = Callable[[Blame], None]


def region_of(region: ArrayLike, comparison: Comparison) -> NDArray[np.bool_]:
    """The pixels of a region that have a point in both clouds, bool [S, H, W].

    Raises:
        SceneError: It is no mask of the comparison's pixels, or holds none of them.
    """
    mask, shape = np.asarray(region), comparison.errors.shape
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise SceneError(
            f"a region of {mask.dtype} {list(mask.shape)} does not fit",
            place="region",
            remedy=f"Give a bool array {list(shape)}: True at the pixels to ask about.",
        )
    inside = mask & np.isfinite(comparison.errors)
    if not inside.any():
        raise SceneError(
            "the region holds no point of both clouds",
            place="region",
            remedy="Draw it around points that are seen.",
        )
    return inside


@dataclass(frozen=True, slots=True, eq=False)
class Inquiry:
    """One region of one scene under the recipe that the quantizer holds.

    Attributes:
        subject: How the network is run and read.
        quantizer: With the recipe applied.
        cache: Answers the blocks that restoring a layer does not reach.
        comparison: The two clouds as they are.
        value: The network's input.
        region: As `region_of` gives it.
        scene: Its number.
    """

    subject: Subject
    quantizer: Quantizer
    cache: BlockCache
    comparison: Comparison
    value: Any
    region: NDArray[np.bool_]
    scene: int

    @property
    def names(self) -> list[str]:
        """The layers that the recipe quantizes."""
        layers = self.quantizer.structure.layers
        return [name for name in layers if self.quantizer.layer(name) is not None]

    @property
    def damage(self) -> float:
        """Mean paired distance over the region, in scales of the scene."""
        return self._damage(self.comparison)

    def begin(self, otherwise: Callable[[], Mapping[str, float]], job: Job | None = None) -> Blame:
        """Every suspect with its estimate; without gradients in the order of ``otherwise()``, largest first.

        Raises:
            JobCancelledError: The job was cancelled.
        """
        try:
            guesses = self._estimates(job) if self.names else {}
        except (DeviceError, RecipeError, NumericError):
            order = otherwise()
            names = sorted(self.names, key=lambda name: -order.get(name, 0.0))
            suspects = tuple(Suspect(name, None) for name in names)
        else:
            suspects = ranked(Suspect(name, guesses[name]) for name in self.names)
        return Blame(self.scene, int(self.region.sum()), self.damage, suspects)

    def repair(self, names: Sequence[str], job: Job | None = None) -> float:
        """How much lower the damage gets with these layers restored; exact, everything else as it is.

        Corrections of branches and the rounding of keys and values stay; nothing is calibrated anew.
        """
        with self.quantizer.restored(names) as states:
            return self.damage - self._damage(self._run(self.value, states, job, text=names[0]))

    def luck(self, job: Job | None = None) -> float | None:
        """Standard deviation of the damage over the pictures and nudged copies; None where inputs are no pictures."""
        value = self.value
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return None
        found = [self.damage]
        for index in range(NUDGES):
            noise = torch.randn(
                value.shape, generator=torch.Generator().manual_seed(index), dtype=torch.float32
            )
            nudged = value + NUDGE * noise.to(value)
            run = self._run(
                nudged, self.quantizer.states(), part(job, index, NUDGES), text="luck of rounding"
            )
            found.append(self._damage(run))
        return float(np.std(found, ddof=1))

    def _estimates(self, job: Job | None) -> dict[str, float]:
        left = torch.from_numpy(self.comparison.left.points.astype(np.float64))
        paired = torch.from_numpy(np.isfinite(self.comparison.errors))
        target = Target(left, paired, torch.from_numpy(self.region), self.comparison.scale)
        return estimates(self.subject, self.quantizer, self.value, target, job=job)

    def _run(self, value: Any, states: Mapping[str, Hashable], job: Job | None, *, text: str) -> Comparison:
        named = {block: state for block, state in states.items() if block}
        network = self.quantizer.network
        run = execute(
            self.subject, network, value, cache=self.cache, states=named, stores=False, job=job, text=text
        )
        if not isinstance(run.prediction, Prediction):
            raise SceneError("this network gives no reconstruction to compare", place=self.subject.name)
        return pair(self.comparison.left, run.prediction)

    def _damage(self, comparison: Comparison) -> float:
        inside = comparison.errors[self.region]
        inside = inside[np.isfinite(inside)]
        if not len(inside):
            raise NumericError(
                "the region has lost all its points", place="region", remedy="Mark a larger region."
            )
        return float(inside.mean(dtype=np.float64)) / comparison.scale


def blame(
    inquiry: Inquiry,
    otherwise: Callable[[], Mapping[str, float]],
    *,
    verify: int,
    begun: Blame | None = None,
    found: Found | None = None,
    job: Job | None = None,
) -> Blame:
    """Rank the layers, then verify the first of them, one after the other.

    Args:
        inquiry: What is asked.
        otherwise: Layer to tail-relative error; asked for where no gradients can be had.
        verify: How many suspects to verify, the first ones first; those of ``begun`` count.
        begun: What an earlier call with this inquiry found.
        found: Told of the estimates at once, and of every step after it.
        job: Follows and stops it.

    Raises:
        JobCancelledError: The job was cancelled.
        NumericError: With a layer restored the network gives a NaN, or its cloud is degenerate.
    """
    tell = found or (lambda _blame: None)
    result = inquiry.begin(otherwise, between(job, 0.0, 0.3)) if begun is None else begun
    tell(result)
    waiting = [suspect.name for suspect in result.suspects if suspect.verified is None]
    names = waiting[: max(verify - len(result.verified), 0)]
    for index, name in enumerate(names):
        section = part(between(job, 0.3, 0.8), index, len(names))
        result = result.with_verified({name: inquiry.repair([name], section)})
        tell(result)
    if names:
        result = _concluded(inquiry, result, between(job, 0.8, 1.0))
        tell(result)
    return result


def _concluded(inquiry: Inquiry, result: Blame, job: Job | None) -> Blame:
    """With what luck makes, and what the first suspects repair together."""
    check(job)
    luck = inquiry.luck(between(job, 0.0, 0.7)) if result.luck is None else result.luck
    chosen = [s for s in result.suspects[:TOGETHER] if s.verified is not None and s.verified > 0]
    repairs = [suspect.repair for suspect in chosen[:1]]
    for count in range(2, len(chosen) + 1):
        section = part(between(job, 0.7, 1.0), count - 2, TOGETHER - 1)
        repairs.append(inquiry.repair([suspect.name for suspect in chosen[:count]], section))
    best = max(range(len(repairs)), key=repairs.__getitem__, default=None)
    together = (0, 0.0) if best is None else (best + 1, repairs[best])
    return replace(result, luck=luck, together=together)
