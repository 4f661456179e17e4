"""What is measured and on what: bits, seeds, rooms. Data only; it measures nothing and loads no torch."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from quantlab.errors import RecipeError, SceneError

WEIGHT_RANGE = ACTIVATION_RANGE = (2, 3, 4, 5, 6, 7, 8, 16)
FORMAT = 1
"""Raised when the same settings begin to mean another measurement: cells of older formats are then not reused."""


@dataclass(frozen=True, slots=True, order=True)
class Bits:
    """Bits of weights and activations, written W4A8."""

    weights: int
    activations: int

    def __str__(self) -> str:
        return f"W{self.weights}A{self.activations}"

    @classmethod
    def parse(cls, text: str) -> Bits:
        """Read W4A8.

        Raises:
            RecipeError: It is not of this form, or the numbers are not offered.
        """
        found = re.fullmatch(r"[Ww](\d+)[Aa](\d+)", text.strip())
        bits = cls(int(found[1]), int(found[2])) if found else None
        if bits is None or bits.weights not in WEIGHT_RANGE or bits.activations not in ACTIVATION_RANGE:
            raise RecipeError(
                f"{text[:40]!r} names no bits",
                place="--bits",
                remedy="Write W and A with 2 to 8 or 16, as W4A8.",
            )
        return bits


FULL = Bits(16, 16)
COLUMNS = (Bits(8, 8), Bits(6, 6), Bits(4, 8), Bits(4, 4), Bits(4, 16))
"""The columns of the table."""
SEVERAL_SEEDS = (Bits(4, 4), Bits(4, 8))
"""Where a method is measured with several seeds, because differences are small against chance."""
HEADLINE = (Bits(4, 4), FULL)
"""What is measured on more rooms: the column that the claims are about, and what they are compared with."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How one cell is measured; equal protocols and recipes give comparable numbers.

    Attributes:
        views: Pictures of each room.
        seed: Chooses the held-out rooms; room 5 of 30 is room 5 of 100.
        rooms: How many of them.
        icp_rooms: The first so many are also scored as clouds, after ICP.
        device: Where the networks run.
    """

    views: int = 4
    seed: int = 7
    rooms: int = 30
    icp_rooms: int = 10
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.rooms < 1 or self.views < 2 or self.icp_rooms < 0:
            raise SceneError(
                f"{self.rooms} rooms of {self.views} views, {self.icp_rooms} of them as clouds, make no table",
                place="bench",
                remedy="Ask for at least one room of two views.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what decides whether a measured cell can be reused."""
        return {"format": FORMAT, **asdict(self), "icp_rooms": min(self.icp_rooms, self.rooms)}


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured of every method.

    Attributes:
        protocol: Of an ordinary cell.
        headline_rooms: Rooms of the cells in `HEADLINE`; never fewer than the others have.
        seeds: Seeds of the cells in `SEVERAL_SEEDS`; others have one.
        columns: The bits.
    """

    protocol: Protocol = Protocol()
    headline_rooms: int = 100
    seeds: int = 3
    columns: tuple[Bits, ...] = COLUMNS

    def of(self, bits: Bits) -> Protocol:
        """How cells with these bits are measured."""
        if bits not in HEADLINE:
            return self.protocol
        return replace(self.protocol, rooms=max(self.headline_rooms, self.protocol.rooms))

    def seeds_of(self, bits: Bits) -> range:
        """The seeds of cells with these bits."""
        return range(max(1, self.seeds) if bits in SEVERAL_SEEDS else 1)
