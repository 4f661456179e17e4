"""The recipe's word on which scenes to calibrate on: method and numbers, with bounds and help. It picks nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from quantlab.calibration.selection import METHODS, Method, Wish
from quantlab.engine.fields import check_fields
from quantlab.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Selection:
    """Which scenes of the lab's pool a recipe is calibrated on.

    Raises:
        RecipeError: A value of the wrong type or out of its bounds, or a number of scenes for the method "all".
    """

    method: str = field(
        default="all",
        metadata={
            "choices": tuple(METHODS),
            "help": "How scenes are picked from the pool. All: the lab's calibration scenes as they are.",
        },
    )
    scenes: int = field(
        default=0,
        metadata={"low": 0, "high": 1000, "help": "How many to pick, as far as there are so many; 0: 8."},
    )
    drop: float = field(
        default=0.2,
        metadata={"low": 0.0, "high": 0.9, "help": "Share of the noisiest scenes that NFDS leaves out."},
    )
    clusters: int = field(
        default=0,
        metadata={
            "low": 0,
            "high": 64,
            "help": "Groups to draw from; 0: 8, and for coarse to fine one for each scene picked.",
        },
    )
    deep_blocks: int = field(
        default=2,
        metadata={
            "low": 1,
            "high": 64,
            "help": "How many of the last frame and global blocks NFDS's filter looks at.",
        },
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.method == "all" and self.scenes:
            raise RecipeError(
                f"scenes cannot be {self.scenes} where the method takes all",
                place="scenes",
                remedy="Use method 'random' to take some, or leave scenes out.",
            )

    @property
    def how(self) -> Method:
        """The method."""
        return METHODS[self.method]

    def wish(self, seed: int) -> Wish:
        """What the method is asked for."""
        return Wish(self.scenes, self.drop, self.clusters, seed)

    def to_dict(self) -> dict[str, Any]:
        """The method, and what differs from the defaults."""
        rest = {name: getattr(self, name) for name in SELECTION_FIELDS if name != "method"}
        return {"method": self.method} | {
            name: value for name, value in rest.items() if value != SELECTION_FIELDS[name].default
        }


SELECTION_FIELDS: Mapping[str, Field[Any]] = {entry.name: entry for entry in fields(Selection)}


def selection_from(given: Any, place: str = "calibration") -> Selection:
    """A selection from one, from a method's name, or from plain data.

    Raises:
        RecipeError: An unknown entry, or a value out of its bounds; names the field.
    """
    if isinstance(given, Selection):
        return given
    if isinstance(given, str):
        given = {"method": given}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise RecipeError(
            "the selection of scenes is not a list of named entries",
            place=place,
            remedy="Write calibration: {method: nfds, scenes: 8}.",
        )
    unknown = [name for name in given if name not in SELECTION_FIELDS]
    if unknown:
        raise RecipeError(
            f"unknown entry {unknown[0][:60]!r}",
            place=place,
            remedy=f"Known are: {', '.join(SELECTION_FIELDS)}.",
        )
    numbers = {name: _float_where_due(name, value) for name, value in given.items()}
    try:
        return Selection(**numbers)
    except RecipeError as error:
        raise RecipeError(error.problem, place=f"{place}: {error.place}", remedy=error.remedy) from None


def _float_where_due(name: str, value: Any) -> Any:
    whole = type(value) is int and type(SELECTION_FIELDS[name].default) is float
    return float(value) if whole else value
