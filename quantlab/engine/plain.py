"""Plain data of a stranger's file, taken out entry by entry and checked on the way. It knows no file's meaning."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any, NoReturn

from quantlab.errors import StorageError

LONGEST_TEXT = 4096
DEEPEST = 64


class Entries:
    """A JSON object of which every entry is asked for by its name and kind; what nobody knows is refused.

    Args:
        data: What stands there.
        place: Where, for errors.
        known: Names that may be there.
        remedy: What a person does about a bad file.

    Raises:
        StorageError: Here and in every method: it is no object, an entry is unknown, absent, of another kind, or out
            of its bounds.
    """

    def __init__(self, data: Any, place: str, known: Collection[str], *, remedy: str) -> None:
        self.place, self._remedy = place, remedy
        if not isinstance(data, dict):
            self.refuse("this is not a list of named entries")
        unknown = [name for name in data if name not in known]
        if unknown:
            self.refuse(f"unknown entry {str(unknown[0])[:60]!r}")
        self._data = data

    def has(self, name: str) -> bool:
        """Whether the entry is there and is not null."""
        return self._data.get(name) is not None

    def raw(self, name: str) -> Any:
        """The entry as it is."""
        if name not in self._data:
            self.refuse(f"{name!r} is missing")
        return self._data[name]

    def text(self, name: str, most: int = LONGEST_TEXT) -> str:
        """A text of at most ``most`` characters that can be written as UTF-8."""
        value = self.raw(name)
        if not is_text(value, most):
            self.refuse(f"{name!r} is no text of at most {most} characters")
        return str(value)

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number between bounds, both included."""
        value = self.raw(name)
        if type(value) is not int or not low <= value <= high:
            self.refuse(f"{name!r} is no whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """A number between bounds, both included."""
        value = self.raw(name)
        if type(value) not in (int, float) or not low <= value <= high:
            self.refuse(f"{name!r} is no number from {low:g} to {high:g}")
        return float(value)

    def rows(self, name: str, most: int) -> list[Any]:
        """A list of at most ``most`` values."""
        value = self.raw(name)
        if not isinstance(value, list) or len(value) > most:
            self.refuse(f"{name!r} is no list of at most {most} entries")
        return value

    def refuse(self, problem: str) -> NoReturn:
        """Say what is wrong with the file."""
        raise StorageError(problem, place=self.place, remedy=self._remedy)


def is_text(value: Any, most: int = LONGEST_TEXT) -> bool:
    """Whether it is a text of at most ``most`` characters that can be written as UTF-8."""
    if type(value) is not str or len(value) > most:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def parse(text: str, place: str, *, what: str, remedy: str) -> Any:
    """JSON text as plain data.

    Raises:
        StorageError: It is not JSON, is nested too deeply, names an entry twice, or holds a number JSON has not.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0][:120] if isinstance(error, ValueError) else "nested too deeply"
        raise StorageError(f"the text is no {what}: {reason}", place=place, remedy=remedy) from None
    if not _shallow(data, DEEPEST):
        raise StorageError(f"the text is no {what}: nested too deeply", place=place, remedy=remedy)
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        raise ValueError("an entry appears twice")
    if not all(map(is_text, built)):
        raise ValueError("a name is no text")
    return built


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _shallow(data: Any, deepest: int) -> bool:
    if isinstance(data, float):
        return math.isfinite(data)  # 1e400 is an infinity to Python
    inside = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return deepest > 0 and all(_shallow(item, deepest - 1) for item in inside)
