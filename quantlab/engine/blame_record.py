"""The record of who is to blame for a damaged region of a cloud. No torch; it measures nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Suspect:
    """One quantized layer, and how much lower a region's damage gets when it alone is restored to full precision.

    Attributes:
        name: Of the layer.
        estimate: First-order estimate, in the unit of `Blame.damage`; None where no gradients could be had. It aims
            at the repair to be expected when the luck of rounding is drawn anew.
        verified: The repair of this very region on this very scene, everything else in the network as it is; exact,
            and negative where restoring makes it worse. None: not measured yet.
    """

    name: str
    estimate: float | None
    verified: float | None = None

    @property
    def repair(self) -> float:
        """What is known of it: the verified value, else the estimate, else 0."""
        return next((value for value in (self.verified, self.estimate) if value is not None), 0.0)


@dataclass(frozen=True, slots=True)
class Blame:
    """Which layers damage a region.

    Attributes:
        scene: Number of the scene among the lab's evaluation scenes.
        pixels: Pixels of the region where both clouds have a point.
        damage: Mean paired distance over these, after the alignment of all pixels, over the scene's scale: the unit
            of `point_error`.
        suspects: Every quantized layer, the one that repairs most first; where no estimate was had, those that are
            not verified follow in the order of their tail-relative errors.
        luck: Standard deviation of the damage when the pictures are nudged by a quarter of a grey level, which
            redraws what is rounded up and what down. A repair below it is one that luck could have made too. None:
            not measured.
        together: (layers, repair): restoring that many of the first suspects at once lowers the damage by that much;
            of the numbers tried the one that repairs most. None: not measured.
    """

    scene: int
    pixels: int
    damage: float
    suspects: tuple[Suspect, ...]
    luck: float | None = None
    together: tuple[int, float] | None = None

    def __repr__(self) -> str:
        first = f", first {self.suspects[0].name!r}" if self.suspects else ""
        return f"Blame({100 * self.damage:.3g} % of the scene over {self.pixels} pixels{first})"

    @property
    def estimated(self) -> bool:
        """Whether the ranking began with estimates; otherwise with tail-relative errors."""
        return all(suspect.estimate is not None for suspect in self.suspects)

    @property
    def verified(self) -> dict[str, float]:
        """Layer to repair, of the layers that were verified."""
        return {s.name: s.verified for s in self.suspects if s.verified is not None}

    def worst(self, count: int = 10) -> list[Suspect]:
        """The first suspects."""
        return list(self.suspects[:count])

    def certain(self, suspect: Suspect) -> bool:
        """Whether a verified repair is larger than what luck makes."""
        return suspect.verified is not None and self.luck is not None and suspect.verified > self.luck

    def with_verified(self, found: Mapping[str, float]) -> Blame:
        """With these repairs verified, and ranked anew."""
        suspects = (replace(s, verified=found.get(s.name, s.verified)) for s in self.suspects)
        return replace(self, suspects=ranked(suspects))


def ranked(suspects: Iterable[Suspect]) -> tuple[Suspect, ...]:
    """Largest repair first; equals keep their order."""
    return tuple(sorted(suspects, key=lambda suspect: -suspect.repair))
