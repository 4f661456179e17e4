"""Recipes as YAML, JSON, Python and as a list of differences; and files of them. No settings are interpreted here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import yaml

from quantlab.engine.presets import PRESETS
from quantlab.engine.recipe import FORMAT, Recipe, Rule
from quantlab.engine.selection_settings import SELECTION_FIELDS, Selection, selection_from
from quantlab.engine.settings import FULL_PRECISION, Settings
from quantlab.errors import RecipeError, StorageError
from quantlab.storage import atomic_write

MAX_CHARACTERS = 1_000_000
_ENTRIES = ("format", "name", "scope", "seed", "calibration", "defaults", "rules")


def recipe_from(data: Any, place: str) -> Recipe:
    """Build a recipe from plain data; see `Recipe.from_dict`."""
    _header(
        {"format": _dict(data, place).get("format", FORMAT)}, place
    )  # before new entries are called unknown
    entries = _dict(data, place, _ENTRIES)
    if "format" not in entries:
        _refuse("the recipe does not state its format", place, f"Add format: {FORMAT}.")
    header: dict[str, Any] = {
        key: entries[key] for key in ("name", "scope", "seed", "format") if key in entries
    }
    _header(header, place)  # a newer format is named as such before its unknown settings are
    picks = selection_from(entries.get("calibration", {}), f"{place}: calibration")
    defaults = Settings(_dict(entries.get("defaults", {}), f"{place}: defaults"), place=f"{place}: defaults")
    listed = entries.get("rules", [])
    if not isinstance(listed, list):
        _refuse("rules are not a list", f"{place}: rules", "Write a list of {match, set}.")
    rules = tuple(_rule(entry, f"{place}: rule {number}") for number, entry in enumerate(listed, 1))
    return Recipe(**header, calibration=picks, defaults=defaults, rules=rules)


def _header(entries: Mapping[str, Any], place: str) -> None:
    """Refuse impossible entries of the head, naming the file they stand in."""
    try:
        Recipe(**entries)
    except RecipeError as error:
        raise RecipeError(error.problem, place=f"{place}: {error.place}", remedy=error.remedy) from None


def to_yaml(recipe: Recipe) -> str:
    """See `Recipe.to_yaml`."""
    return str(yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True, width=1000))


def from_yaml(text: str, *, place: str = "recipe") -> Recipe:
    """See `Recipe.from_yaml`."""
    try:
        data = yaml.load(_short(text, place), Loader=_StrictLoader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError as error:
        _refuse(f"the text is not YAML: {_first_line(error)}", place, "Fix the file, or save it again.")
    except (RecursionError, ValueError, OverflowError, LookupError, AttributeError):
        # a value that is not of the type it is tagged with: `!!bool perhaps`, `!!timestamp soon`
        _refuse("the text is nested too deeply or holds an impossible value", place, "Save the recipe again.")
    return recipe_from(data, place)


def to_json(recipe: Recipe) -> str:
    """See `Recipe.to_json`."""
    return json.dumps(recipe.to_dict(), indent=2, ensure_ascii=False) + "\n"


def from_json(text: str, *, place: str = "recipe") -> Recipe:
    """See `Recipe.from_json`."""
    try:
        data = json.loads(_short(text, place), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        _refuse(f"the text is not JSON: {_first_line(error)}", place, "Fix the file, or save it again.")
    except (RecursionError, ValueError):
        _refuse("the text is nested too deeply or holds an impossible value", place, "Save the recipe again.")
    return recipe_from(data, place)


def save(recipe: Recipe, path: str | PathLike[str]) -> None:
    """See `Recipe.save`."""
    text = to_json(recipe) if Path(path).suffix.lower() == ".json" else to_yaml(recipe)
    atomic_write(Path(path), text)


def load(path: str | PathLike[str]) -> Recipe:
    """See `Recipe.load`."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            raw = stream.read(4 * MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"cannot read: {reason}", place=str(file), remedy="Check the path.") from None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("the file is not text in UTF-8", str(file), "Choose a recipe file.")
    return (from_json if file.suffix.lower() == ".json" else from_yaml)(text, place=str(file))


def to_python(recipe: Recipe) -> str:
    """See `Recipe.to_python`."""
    base = _preset_call(recipe)
    lines = ["import quantlab as ql", "", f"recipe = {base or _bare_call(recipe)}"]
    if recipe.calibration != (selection_from(PRESETS[recipe.name].calibration) if base else Selection()):
        chosen = recipe.calibration.to_dict()
        rest = "".join(f", {name}={value!r}" for name, value in chosen.items() if name != "method")
        lines.append(f"recipe = recipe.calibrated({recipe.calibration.method!r}{rest})")
    for rule in recipe.rules:
        settings = ", ".join(f"{key}={value!r}" for key, value in rule.settings.items())
        lines.append(f"recipe = recipe.set({rule.pattern!r}, {settings})")
    return "\n".join(lines) + "\n"


def diff(old: Recipe, new: Recipe) -> list[str]:
    """See `Recipe.diff`."""
    lines = [
        f"{name}: {getattr(old, name)} → {getattr(new, name)}"
        for name in ("name", "scope", "seed")
        if getattr(old, name) != getattr(new, name)
    ]
    lines += [
        f"calibration: {name} {getattr(old.calibration, name)} → {getattr(new.calibration, name)}"
        for name in SELECTION_FIELDS
        if getattr(old.calibration, name) != getattr(new.calibration, name)
    ]
    lines += _changes("defaults", old.defaults, new.defaults)
    before, after = _by_pattern(old), _by_pattern(new)
    for pattern in dict.fromkeys((*before, *after)):
        lines += _changes(pattern, before.get(pattern, {}), after.get(pattern, {}))
    if not lines and old != new:
        lines.append("the same rules in another order")
    return lines


def _rule(entry: Any, place: str) -> Rule:
    parts = _dict(entry, place, ("match", "set"))
    if set(parts) != {"match", "set"}:
        _refuse("a rule needs match and set", place, "Write {match: PATTERN, set: {...}}.")
    return Rule(parts["match"], Settings(_dict(parts["set"], place), place=place))


def _dict(data: Any, place: str, known: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        _refuse("this is not a list of named entries", place, "Choose a recipe file.")
    unknown = [key for key in data if known and key not in known]
    if unknown:
        _refuse(f"unknown entry {unknown[0][:60]!r}", place, f"Known are: {', '.join(known)}.")
    return data


def _bare_call(recipe: Recipe) -> str:
    arguments = {
        "name": recipe.name,
        "scope": recipe.scope,
        "defaults": dict(recipe.defaults),
        "seed": recipe.seed,
    }
    return f"ql.Recipe({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _preset_call(recipe: Recipe) -> str | None:
    """The shortest way to say it, where the recipe still starts from a preset."""
    if recipe.name not in PRESETS or recipe.seed:
        return None
    rounds = ("kv_bits", "kv_bits") if PRESETS[recipe.name].only == "kv" else ("weights", "activations")
    bits = [recipe.defaults.get(name, FULL_PRECISION) for name in rounds]
    built = Recipe.preset(recipe.name, weights=bits[0], activations=bits[1], scope=recipe.scope)
    if built.defaults != recipe.defaults:
        return None
    scope = "" if recipe.scope == "trunk" else f", scope={recipe.scope!r}"
    return f"ql.Recipe.preset({recipe.name!r}, weights={bits[0]}, activations={bits[1]}{scope})"


def _by_pattern(recipe: Recipe) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for rule in recipe.rules:
        merged.setdefault(rule.pattern, {}).update(rule.settings)
    return merged


def _changes(place: str, old: Any, new: Any) -> list[str]:
    names = [
        name for name in dict.fromkeys((*old, *new)) if old.get(name, "default") != new.get(name, "default")
    ]
    return [f"{place}: {name} {old.get(name, 'default')} → {new.get(name, 'default')}" for name in names]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        _refuse("an entry appears twice", "recipe", "Keep one of them.")
    return built


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, without anchors and without keys that appear twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            _refuse("the text uses a YAML alias", "recipe", "Write the value out.")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002
        built = super().construct_mapping(node, deep=True)
        if len(built) < len(node.value):
            _refuse("an entry appears twice", "recipe", "Keep one of them.")
        return built


def _short(text: str, place: str) -> str:
    if len(text) > MAX_CHARACTERS:
        _refuse(f"{len(text)} characters are too many", place, f"A recipe has at most {MAX_CHARACTERS}.")
    return text


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


def _refuse(problem: str, place: str, remedy: str) -> NoReturn:
    raise RecipeError(problem, place=place, remedy=remedy)
