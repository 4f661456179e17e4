"""Closed tables of names: a name from a file or a user is looked up here; nothing is imported by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Generic, TypeVar

from quantlab.errors import QuantLabError, shortened

T = TypeVar("T")

_OWN: dict[str, dict[str, None]] = {}


def own_choices(setting: str) -> tuple[str, ...]:
    """Names a person has entered, in this process, for a setting of recipes to choose from."""
    return tuple(_OWN.get(setting, ()))


class Registry(Mapping[str, T], Generic[T]):
    """A table filled while modules load; it answers an unknown name with the known ones.

    Args:
        noun: What an entry is, in messages.
        error: Kind of those messages.
        also: Names that stand for a choice among the entries, where one is asked for: told, but not looked up.
    """

    def __init__(self, noun: str, error: type[QuantLabError], *, also: tuple[str, ...] = ()) -> None:
        self._noun = noun
        self._error = error
        self._also = also
        self._entries: dict[str, T] = {}

    def register(self, name: str, *, setting: str = "") -> Callable[[T], T]:
        """Decorate a function or class to enter it under ``name``; a name can be taken once.

        Args:
            name: What a recipe calls it.
            setting: For a method of your own: the setting that may choose it from now on, as "rotation". Entering it
                again replaces it, so that a cell can be run twice; a lab opened before goes by what it has measured.
        """

        def enter(entry: T) -> T:
            if name in self._entries and not (setting and name in own_choices(setting)):
                raise ValueError(f"{self._noun} {name!r} is registered twice")
            self._entries[name] = entry
            if setting:
                _OWN.setdefault(setting, {})[name] = None
            return entry

        return enter

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            known = [*self._also, *sorted(self._entries)]
            near = get_close_matches(str(name), known, n=1)
            asked = shortened(name, 80) if isinstance(name, str) else name
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise self._error(
                f"unknown {self._noun} {asked!r}",
                remedy=f"{hint}Choose one of: {', '.join(known)}.",
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
