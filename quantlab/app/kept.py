"""Bytes that a page may fetch for a while: clouds to show and files to take away. Bounded; names are secrets."""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

MEDIA = {
    ".glb": "model/gltf-binary",
    ".ply": "application/octet-stream",
    ".html": "text/html",
    ".json": "application/json",
}


@dataclass(frozen=True, slots=True)
class File:
    """Something to take away: the name it gets on a disk, and its bytes."""

    name: str
    data: bytes = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What makes a browser save it under its name, and keep no copy."""
        disposition = f'attachment; filename="{self.name}"'
        return {"Content-Disposition": disposition, "Cache-Control": "no-store"}

    @property
    def media(self) -> str:
        """Its type."""
        return MEDIA.get("." + self.name.rpartition(".")[2], "application/octet-stream")


class Kept(Generic[T]):
    """At most ``most`` things under secret names; the oldest makes room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: OrderedDict[str, T] = OrderedDict()

    def keep(self, thing: T) -> str:
        """Keep a thing, and answer its name."""
        name = secrets.token_urlsafe(12)
        self._things[name] = thing
        while len(self._things) > self._most:
            self._things.popitem(last=False)
        return name

    def get(self, name: str) -> T | None:
        """The thing of that name, if it is still kept."""
        return self._things.get(name)

    def clear(self) -> None:
        """Keep nothing."""
        self._things.clear()


def file_name(*parts: str, ending: str) -> str:
    """A name any disk takes: ``file_name("room 3", "W4A4", ending=".glb")`` is "room-3-W4A4.glb"."""
    words = [re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") for part in parts]
    return ("-".join(word for word in words if word)[:80].strip("-.") or "quantlab") + ending
