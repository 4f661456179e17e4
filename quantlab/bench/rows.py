"""The methods of the table: every preset, and a few variants that only a comparison needs. Recipes, no work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from quantlab.bench.protocol import FULL, Bits
from quantlab.engine.presets import PRESETS
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import FIELDS, LAYER_FIELDS, LayerSettings, Settings
from quantlab.errors import RecipeError

FULL_PRECISION = "full_precision"
UNCOMPENSATED = "taptq_static-uncompensated"


@dataclass(frozen=True, slots=True)
class Row:
    """A method: a preset, and what of its settings is changed for all layers and branches.

    Attributes:
        name: In the table and on the command line.
        preset: The starting point.
        changes: Settings over those of the preset.
        help: What a reader must know of a variant; empty for a preset.
    """

    name: str
    preset: str
    changes: Mapping[str, Any]
    help: str = ""

    def recipe(self, bits: Bits, seed: int) -> Recipe:
        """The recipe that is measured.

        Raises:
            RecipeError: The method does not exist with these bits.
        """
        recipe = Recipe.preset(self.preset, weights=bits.weights, activations=bits.activations)
        if self.changes:
            recipe = replace(recipe, defaults=Settings({**recipe.defaults, **self.changes}, place=self.name))
        return replace(recipe, name=self.name, seed=seed)


VARIANTS = (
    Row(
        UNCOMPENSATED,
        "taptq_static",
        {"compensation": "off"},
        "taptq_static without its compensation of branches",
    ),
    Row(
        "quantvggt-unlearned",
        "quantvggt",
        {"reconstruction": "none"},
        "quantvggt without block-wise reconstruction: rotation and smoothing alone",
    ),
    Row(
        "fgq-unsmoothed",
        "fgq",
        {"smoothing": None, "epochs": 30},
        "fgq from a plain rotation, without a smoothing start, learned for 30 epochs",
    ),
)


def rows() -> dict[str, Row]:
    """Every method by name, in the order of the table: the presets as registered, each followed by its variants."""
    found: dict[str, Row] = {}
    for name in PRESETS:
        if name == FULL_PRECISION:
            continue
        found[name] = Row(name, name, {})
        found |= {
            variant.name: variant for variant in VARIANTS if variant.preset == name and _differs(variant)
        }
    return found


def full_precision() -> Row:
    """What every method is compared with."""
    return Row(FULL_PRECISION, FULL_PRECISION, {})


def chosen(names: Iterable[str]) -> list[Row]:
    """The methods of these names, in the order of the table; all of them without names.

    Raises:
        RecipeError: There is no such method.
    """
    table, wanted = rows(), list(names)
    unknown = [name for name in wanted if name not in table]
    if unknown:
        raise RecipeError(
            f"there is no method {unknown[0][:60]!r}",
            place="--methods",
            remedy=f"Choose from: {', '.join(table)}.",
        )
    return [row for name, row in table.items() if not wanted or name in wanted]


def comparable(recipe: Recipe, bits: Bits) -> bool:
    """Whether layers are rounded to these bits at all: a method for keys and values alone competes with none."""
    return all(recipe.defaults.get(name, 16) == count for name, count in asdict(bits).items())


def smooths_first(recipe: Recipe) -> bool:
    """Whether input channels are rescaled before anything mixes them: the very inverse of planted outlier channels."""
    known = {name: value for name, value in recipe.defaults.items() if name in LAYER_FIELDS}
    settings = LayerSettings(**known)
    mixes_first = settings.rotation != "none" and settings.smoothing_order == "after"
    return settings.smoothing is not None and not mixes_first


def _differs(variant: Row) -> bool:
    """Whether the variant changes anything of its preset as that now is."""
    defaults = PRESETS[variant.preset].defaults(FULL.weights, FULL.activations)
    return any(defaults.get(name, FIELDS[name].default) != value for name, value in variant.changes.items())
