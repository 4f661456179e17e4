"""Which layers a recipe's scope and patterns reach. It knows names and structure, no settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantlab.models.structure import Structure

SCOPES = ("trunk", "linears", "all")
TRUNK_STREAMS = ("frame", "global")


def matches(pattern: str, name: str) -> bool:
    """Whether ``pattern`` matches ``name`` or a module that contains it."""
    return _compiled(pattern)(name)


def scope_layers(scope: str, structure: Structure) -> frozenset[str]:
    """The names of the layers a recipe of this scope reaches without an explicit rule."""
    if scope == "all":
        return frozenset(structure.layers)
    linears = [layer for layer in structure.layers.values() if layer.operator == "linear"]
    trunk = [layer.name for layer in linears if layer.stream in TRUNK_STREAMS]
    in_blocks = [layer.name for layer in linears if layer.block]
    everything = [layer.name for layer in linears]
    return frozenset((trunk or in_blocks or everything) if scope == "trunk" else everything)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> Callable[[str], bool]:
    if not set(pattern) & set("*?["):
        inside = pattern + "."
        return lambda name: name == pattern or name.startswith(inside)
    expression = re.compile(re.sub(r"\\[zZ]$", "", translate(pattern)) + r"(?:\.|\Z)", re.DOTALL)
    return lambda name: expression.match(name) is not None
