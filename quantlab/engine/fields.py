"""Fields of settings as checked data: bounds and help that the check, the controls and the tests share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, field, fields
from typing import Any

from quantlab.errors import RecipeError
from quantlab.registry import own_choices


class OpenChoices(Sequence[str]):
    """The choices of a setting, and after them the methods of their own that people have registered for it.

    Args:
        setting: Its name.
        built_in: What every QuantLab offers.
    """

    def __init__(self, setting: str, built_in: Sequence[str]) -> None:
        self._setting, self._built_in = setting, tuple(built_in)

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]

    def own(self, choice: object) -> bool:
        """Whether a choice is somebody's own."""
        return choice not in self._built_in

    def _all(self) -> tuple[str, ...]:
        return (*self._built_in, *own_choices(self._setting))


def choice(default: Any, choices: Sequence[Any], text: str) -> Any:
    """A field that takes one of ``choices``."""
    offered = choices if isinstance(choices, OpenChoices) else tuple(choices)
    return field(default=default, metadata={"choices": offered, "help": text})


def switch(text: str) -> Any:
    """A field that is off until it is turned on."""
    return choice(False, (True, False), text)


def number(default: Any, low: Any, high: Any, text: str, *, optional: bool = False) -> Any:
    """A field that takes a number from ``low`` to ``high``, whole where ``low`` is; None too where ``optional``."""
    bounds = {"low": low, "high": high, "help": text}
    return field(default=default, metadata={**bounds, "optional": True} if optional else bounds)


def check_fields(settings: Any) -> None:
    """Check every field of a settings dataclass against its metadata.

    Raises:
        RecipeError: Names the field, the value and what is allowed.
    """
    for entry in fields(settings):
        check_value(entry, getattr(settings, entry.name))


def check_value(entry: Field[Any], value: object, *, place: str = "") -> None:
    """Check one value. ``True`` and ``8.0`` are no whole numbers, and NaN is outside of all bounds."""
    if not _allowed(value, entry):
        text = repr(value)
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise RecipeError(
            f"{entry.name} cannot be {shown}",
            place=place or entry.name,
            remedy=f"Use {allowed_words(entry)}.",
        )


def _allowed(value: object, entry: Field[Any]) -> bool:
    bounds = entry.metadata
    if value is None:
        return bool(bounds.get("optional"))
    if "choices" in bounds:
        return any(type(value) is type(choice) and value == choice for choice in bounds["choices"])
    number = type(value) is int or (type(value) is float and type(bounds["low"]) is float)
    return number and bool(bounds["low"] <= value <= bounds["high"])


def allowed_words(entry: Field[Any]) -> str:
    """What a field takes, in words: "a number from 0.0 to 1.0, or null"."""
    bounds: Mapping[str, Any] = entry.metadata
    if "choices" in bounds:
        return "one of " + ", ".join(str(choice) for choice in bounds["choices"])
    kind = "a number" if type(bounds["low"]) is float else "a whole number"
    return f"{kind} from {bounds['low']} to {bounds['high']}" + (
        ", or null" if bounds.get("optional") else ""
    )
