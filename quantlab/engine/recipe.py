"""A recipe: plain data that decides how every layer and branch of a network is quantized. It does no work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from quantlab.engine.plain import is_text
from quantlab.engine.presets import PRESETS
from quantlab.engine.scope import SCOPES, matches, scope_layers
from quantlab.engine.selection_settings import Selection, selection_from
from quantlab.engine.settings import (
    BRANCH_FIELDS,
    LAYER_FIELDS,
    BranchSettings,
    LayerSettings,
    Settings,
)
from quantlab.errors import RecipeError

if TYPE_CHECKING:
    from quantlab.models.structure import Structure

FORMAT = 1
MAX_RULES = 10_000


@dataclass(frozen=True, slots=True)
class Rule:
    """Settings for the layers and branches whose name matches a pattern.

    ``*`` stands for any text and ``?`` for one character. A pattern that matches a module holds for everything
    inside it: ``*.global_blocks.3`` is every layer and branch of that block.
    """

    pattern: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not self.pattern or not is_text(self.pattern, 1000):
            raise RecipeError(
                f"a rule cannot match {str(self.pattern)[:60]!r}",
                place="rules",
                remedy="Use a layer name, with * for any text.",
            )
        if not isinstance(self.settings, Settings):
            object.__setattr__(self, "settings", Settings(self.settings, place=f"rule {self.pattern!r}"))

    def matches(self, name: str) -> bool:
        """Whether the rule holds for the layer or branch of this name."""
        return matches(self.pattern, name)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Defaults for the layers in scope, and rules that change them; the last matching rule wins, field by field.

    Args:
        name: For people; no effect.
        scope: "trunk": Linears of the frame and global blocks (of a generic module: of its blocks, or all of
            them where there are no blocks); "linears": every Linear; "all": convolutions too (weights only).
        defaults: Settings of every layer and branch in scope; fields left out keep their own default.
        rules: In order. A rule whose pattern matches nothing inside the scope reaches outside of it, and brings
            a layer there in when it sets ``keep`` to False or chooses bits.
        seed: Of the random rotations and of the picks of calibration scenes.
        format: Of the file; this version reads 1.
        calibration: Which scenes of the pool to calibrate on: a `Selection`, its entries, or a method's name.

    Raises:
        RecipeError: An unknown field or a value out of its bounds; names the field, the value, what is allowed.
    """

    name: str = "recipe"
    scope: str = "trunk"
    defaults: Mapping[str, Any] = field(default_factory=lambda: Settings({}))
    rules: tuple[Rule, ...] = ()
    seed: int = 0
    format: int = FORMAT
    calibration: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        _check_header(self)
        object.__setattr__(self, "calibration", selection_from(self.calibration))
        if not isinstance(self.defaults, Settings):
            object.__setattr__(self, "defaults", Settings(self.defaults, place="defaults"))
        LayerSettings(**_only(self.defaults, LAYER_FIELDS))
        object.__setattr__(self, "rules", tuple(self.rules))

    @classmethod
    def preset(
        cls, name: str, *, weights: int | None = None, activations: int | None = None, scope: str = "trunk"
    ) -> Recipe:
        """One of `quantlab.engine.presets.PRESETS`; bits that are left out are those the method was made for.

        Raises:
            RecipeError: Unknown preset (the known ones are listed), bits or scope.
        """
        chosen = PRESETS[name]
        weights = chosen.usual[0] if weights is None else weights
        activations = chosen.usual[1] if activations is None else activations
        return cls(
            name=name,
            scope=scope,
            defaults=Settings(chosen.defaults(weights, activations)),
            calibration=selection_from(chosen.calibration),
        )

    def set(self, pattern: str, **settings: Any) -> Recipe:
        """A recipe in which these settings hold for what ``pattern`` matches, over everything said before.

        Rules of the same pattern merge: where a later rule would hide the change it goes to the end.
        """
        new = Rule(pattern, Settings(settings, place=pattern))
        rules = list(self.rules)
        places = [index for index, rule in enumerate(rules) if rule.pattern == pattern]
        later = {key for rule in rules[places[-1] + 1 :] for key in rule.settings} if places else set()
        if places and not later & set(new.settings):
            merged = {**rules[places[-1]].settings, **new.settings}
            rules[places[-1]] = Rule(pattern, Settings(merged))
            return replace(self, rules=tuple(rules))
        rules = [_without(rule, set(new.settings)) if rule.pattern == pattern else rule for rule in rules]
        return replace(self, rules=(*(rule for rule in rules if rule.settings), new))

    def unset(self, pattern: str, *names: str) -> Recipe:
        """A recipe without the rules of exactly this pattern, or without those of their settings named."""
        rules = [
            _without(rule, set(names or rule.settings)) if rule.pattern == pattern else rule
            for rule in self.rules
        ]
        return replace(self, rules=tuple(rule for rule in rules if rule.settings))

    def calibrated(self, method: str, **settings: Any) -> Recipe:
        """A recipe that is calibrated on other scenes: ``recipe.calibrated("nfds", scenes=8)``.

        Raises:
            RecipeError: An unknown method or setting of `Selection`, or a value out of its bounds.
        """
        return replace(self, calibration=selection_from({"method": method, **settings}))

    def layer(self, name: str, structure: Structure) -> LayerSettings:
        """What the recipe asks for one layer; a layer out of scope is kept in full precision.

        Raises:
            RecipeError: The rules together ask for something that cannot be; names the layer.
        """
        return self.layers(structure, (name,))[name]

    def layers(self, structure: Structure, names: Iterable[str] | None = None) -> dict[str, LayerSettings]:
        """`layer` for many names at once, by default all of the structure."""
        inside = scope_layers(self.scope, structure)
        within = [any(rule.matches(layer) for layer in inside) for rule in self.rules]
        return {
            name: self._merged(name, name in inside, within)
            for name in (structure.layers if names is None else names)
        }

    def _merged(self, name: str, inside: bool, within: list[bool]) -> LayerSettings:  # noqa: FBT001
        merged = _only(self.defaults, LAYER_FIELDS)
        if not inside:
            merged["keep"] = True
        for rule, stays_inside in zip(self.rules, within, strict=True):
            if rule.matches(name) and (inside or not stays_inside):
                own = _only(rule.settings, LAYER_FIELDS)
                if not inside and {"weights", "activations"} & set(own):
                    own.setdefault("keep", False)
                merged.update(own)
        try:
            return LayerSettings(**merged)
        except RecipeError as error:
            raise RecipeError(error.problem, place=name, remedy=error.remedy) from None

    def branch(self, name: str) -> BranchSettings:
        """What the recipe asks for one branch."""
        merged = _only(self.defaults, BRANCH_FIELDS)
        for rule in self.rules:
            if rule.matches(name):
                merged.update(_only(rule.settings, BRANCH_FIELDS))
        return BranchSettings(**merged)

    def diff(self, other: Recipe) -> list[str]:
        """What changes from this recipe to ``other``, one line each; empty when they are equal."""
        from quantlab.engine.recipe_text import diff

        return diff(self, other)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain dicts, lists, texts and numbers."""
        rules = [{"match": rule.pattern, "set": dict(rule.settings)} for rule in self.rules]
        header = {"format": self.format, "name": self.name, "scope": self.scope, "seed": self.seed}
        picks = {} if self.calibration == Selection() else {"calibration": self.calibration.to_dict()}
        return {**header, **picks, "defaults": dict(self.defaults), "rules": rules}

    @classmethod
    def from_dict(cls, data: Any, *, place: str = "recipe") -> Recipe:
        """The inverse of `to_dict`; refuses what it does not know.

        Raises:
            RecipeError: Not a recipe, an unknown entry, another format number, or a bad value.
        """
        from quantlab.engine.recipe_text import recipe_from

        return recipe_from(data, place)

    def to_yaml(self) -> str:
        """The recipe as YAML text."""
        from quantlab.engine.recipe_text import to_yaml

        return to_yaml(self)

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Read YAML text (JSON is YAML too). No tags, no duplicate keys, at most 1 MB.

        Raises:
            RecipeError: Not YAML, or not a recipe.
        """
        from quantlab.engine.recipe_text import from_yaml

        return from_yaml(text)

    def to_json(self) -> str:
        """The recipe as JSON text."""
        from quantlab.engine.recipe_text import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read JSON text.

        Raises:
            RecipeError: Not JSON, or not a recipe.
        """
        from quantlab.engine.recipe_text import from_json

        return from_json(text)

    def to_python(self) -> str:
        """Python statements that build an equal recipe and name it ``recipe``."""
        from quantlab.engine.recipe_text import to_python

        return to_python(self)

    def save(self, path: str | PathLike[str]) -> None:
        """Write JSON where the name ends in .json, else YAML; an older file stays whole until the new one is.

        Raises:
            StorageError: The file cannot be written.
        """
        from quantlab.engine.recipe_text import save

        save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Recipe:
        """Read a file that `save` wrote.

        Raises:
            StorageError: The file cannot be read.
            RecipeError: It holds no recipe of this format; names the file.
        """
        from quantlab.engine.recipe_text import load

        return load(path)


def _check_header(recipe: Recipe) -> None:
    if not is_text(recipe.name, 200):
        raise RecipeError(
            "the name is not a text of at most 200 characters", place="name", remedy="Shorten it."
        )
    if recipe.scope not in SCOPES:
        raise RecipeError(
            f"unknown scope {str(recipe.scope)[:60]!r}",
            place="scope",
            remedy=f"Use one of: {', '.join(SCOPES)}.",
        )
    if type(recipe.seed) is not int or not 0 <= recipe.seed < 2**63:
        raise RecipeError(
            "seed is not a whole number from 0", place="seed", remedy="Use a whole number from 0."
        )
    if type(recipe.format) is not int or recipe.format != FORMAT:
        newer = type(recipe.format) is int and recipe.format > FORMAT
        why = "was made by a newer QuantLab" if newer else "is not known"
        remedy = "Update QuantLab." if newer else f"Use format {FORMAT}."
        raise RecipeError(f"recipe format {str(recipe.format)[:60]} {why}", place="format", remedy=remedy)
    if len(recipe.rules) > MAX_RULES:
        raise RecipeError(
            f"{len(recipe.rules)} rules are too many",
            place="rules",
            remedy=f"Use patterns, at most {MAX_RULES}.",
        )


def _only(settings: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in known}


def _without(rule: Rule, names: set[str]) -> Rule:
    return Rule(
        rule.pattern, Settings({key: value for key, value in rule.settings.items() if key not in names})
    )
