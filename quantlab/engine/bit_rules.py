"""Bits for every layer as a short recipe that a person can read, and back. It chooses no bits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quantlab.engine.recipe import Recipe, Rule
from quantlab.engine.scope import scope_layers
from quantlab.engine.settings import FULL_PRECISION, Settings

if TYPE_CHECKING:
    from quantlab.models.structure import Structure

WORTH = 2
"""Layers that a rule for many must put right before it is worth its line."""
BOTH = ("weights", "activations")


def searchable(recipe: Recipe, structure: Structure) -> tuple[str, ...]:
    """The layers whose bits a recipe leaves open to choice: all that it does not keep in full precision."""
    return tuple(name for name, asked in recipe.layers(structure).items() if not asked.keep)


def weight_bits(recipe: Recipe, structure: Structure) -> dict[str, int]:
    """Weight bits of each such layer."""
    asked = recipe.layers(structure)
    return {name: asked[name].weights for name in searchable(recipe, structure)}


def with_bits(recipe: Recipe, structure: Structure, bits: Mapping[str, int], *, vary: str) -> Recipe:
    """The recipe with these bits and everything else as it was.

    A layer of 16 bits is not rounded at all, its input neither.

    Args:
        recipe: Rules that only choose bits are replaced; others stay.
        structure: Of the network.
        bits: Of every layer of `searchable`.
        vary: "weights", or "both": the layer's input gets the same bits.
    """
    stripped = _stripped(recipe, structure, bits, vary)
    usual = Counter(value for value in bits.values() if value < FULL_PRECISION)
    common = min(usual, key=lambda value: (-usual[value], -value), default=FULL_PRECISION)
    if usual:
        stripped = replace(stripped, defaults={**stripped.defaults, **_settings(common, vary)})
    short = replace(stripped, rules=(*stripped.rules, *_rules(stripped, structure, bits, vary)))
    if _holds(short, recipe, structure, bits, vary):
        return short
    exact = tuple(Rule(name, {**_settings(value, vary), "keep": False}) for name, value in bits.items())
    return replace(recipe, rules=(*recipe.rules, *exact))


def _settings(bits: int, vary: str) -> dict[str, Any]:
    return dict.fromkeys(BOTH if vary == "both" or bits == FULL_PRECISION else ("weights",), bits)


def _stripped(recipe: Recipe, structure: Structure, bits: Mapping[str, int], vary: str) -> Recipe:
    """Without the bits that rules choose for these layers; a rule that brings in a layer from outside stays."""
    inside = scope_layers(recipe.scope, structure)
    rules = []
    for rule in recipe.rules:
        own, reached = dict(rule.settings), [name for name in structure.layers if rule.matches(name)]
        if reached and all(name in bits and name in inside for name in reached):
            off = own.get("weights") == own.get("activations") == FULL_PRECISION
            for field in BOTH if off or vary == "both" else ("weights",):
                own.pop(field, None)
        if own:
            rules.append(Rule(rule.pattern, Settings(own)))
    return replace(recipe, rules=tuple(rules))


def _holds(short: Recipe, recipe: Recipe, structure: Structure, bits: Mapping[str, int], vary: str) -> bool:
    """Whether the short recipe gives these bits, and changes nothing else."""
    before, after = recipe.layers(structure), short.layers(structure)
    for name, asked in before.items():
        wanted = asked
        if name in bits:
            kept = {} if vary == "both" else {"activations": _activations(before, name, short)}
            wanted = replace(asked, **{**kept, **_settings(bits[name], vary)})
        if after[name] != wanted and not (asked.keep and after[name].keep):
            return False
    return True


def _activations(before: Mapping[str, Any], name: str, short: Recipe) -> int:
    """What a layer's input has where only weights vary: as before, or the usual where it was off before."""
    was = before[name]
    if was.weights == was.activations == FULL_PRECISION:
        return int(short.defaults.get("activations", FULL_PRECISION))
    return int(was.activations)


def _rules(recipe: Recipe, structure: Structure, bits: Mapping[str, int], vary: str) -> Iterator[Rule]:
    """Rules from the broad to the narrow: kinds of layers, blocks, then single layers of equal bits together."""
    now = {name: asked.weights for name, asked in recipe.layers(structure, bits).items()}
    for patterns in (_kinds(bits), _streams(bits), _blocks(bits, structure)):
        while True:
            gain, pattern, value = max(_gains(patterns, bits, now), default=(0, "", 0))
            if gain < WORTH:
                break
            now.update(dict.fromkeys(patterns[pattern], value))
            yield Rule(pattern, Settings(_settings(value, vary)))
    wrong = {name: value for name, value in bits.items() if now[name] != value and value < FULL_PRECISION}
    full = {name: value for name, value in bits.items() if value == FULL_PRECISION}
    for left in (wrong, full):
        for pattern, value in _together(left):
            yield Rule(pattern, Settings(_settings(value, vary)))


def _gains(
    patterns: Mapping[str, tuple[str, ...]], bits: Mapping[str, int], now: Mapping[str, int]
) -> Iterator[tuple[int, str, int]]:
    """How many layers more would be right with a rule."""
    for pattern, names in patterns.items():
        for value in {bits[name] for name in names if bits[name] < FULL_PRECISION}:
            right = sum(bits[name] == value for name in names)
            yield right - sum(bits[name] == now[name] for name in names), pattern, value


def _kinds(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return _grouped(names, lambda name: "*." + ".".join(name.split(".")[-2:]))


def _streams(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return _grouped(names, _starred)


def _blocks(names: Iterable[str], structure: Structure) -> dict[str, tuple[str, ...]]:
    return _grouped(names, lambda name: structure.layers[name].block)


def _grouped(names: Iterable[str], key: Any) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return {pattern: tuple(members) for pattern, members in groups.items() if pattern}


def _starred(name: str) -> str:
    """The name with * for the number of its block, the first number in it."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name, count=1)


def _together(left: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Patterns as ``a.[013].b``, for layers of equal bits whose blocks have one digit; else names."""
    groups: dict[tuple[str, int], list[str]] = {}
    for name, value in left.items():
        groups.setdefault((_starred(name), value), []).append(name)
    for (starred, value), names in groups.items():
        numbers = [re.search(r"(?<=\.)(\d+)(?=\.|$)", name) for name in names]
        short = [found[1] for found in numbers if found and len(found[1]) == 1]
        if len(names) > 1 and len(short) == len(names):
            yield starred.replace("*", f"[{''.join(sorted(short))}]", 1), value
        else:
            yield from ((name, value) for name in names)
