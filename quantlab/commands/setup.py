"""From what was typed to a Lab: model, scenes and recipe. It runs nothing yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.commands.console import say
from quantlab.errors import CheckpointError, RecipeError

if TYPE_CHECKING:
    from quantlab.engine.recipe import Recipe
    from quantlab.lab import Lab
    from quantlab.models.model import Model
    from quantlab.packed.load import PackedModel
    from quantlab.scenes.scene import Scene

PRESETS = (
    "full_precision",
    "rtn",
    "smoothquant",
    "quarot",
    "gptq",
    "awq",
    "svdquant",
    "smoothrot",
    "convrot",
    "clq",
    "qwt",
    "rotatekv",
    "quantvggt",
    "taptq",
    "taptq_static",
    "qvggt",
    "flatquant",
    "fgq",
    "versaq",
)
"""Offered by shell completion, which must not load torch; a test keeps it equal to the engine's table."""
MODELS = ("mini", "mini-outliers", "pi3-mini", "vggt-1b", "pi3", "pi3x")
"""Likewise."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which network, where it runs, and in which arithmetic."""

    name: str = "mini"
    device: str = "cpu"
    dtype: str = "float32"

    def load(self) -> Model:
        """Load it.

        Raises:
            CheckpointError, DeviceError: There is no such model, file, device or dtype; or it was exported already.
        """
        from quantlab.engine.threads import fit_threads
        from quantlab.models.zoo import load_model
        from quantlab.packed.manifest import is_packed

        if is_packed(self.name):
            raise CheckpointError(
                "this is a packed checkpoint, and only a model in full precision is worked on",
                place=self.name,
                remedy="Name the model it was made from; quantlab evaluate --model scores the folder as it runs.",
            )
        model = load_model(self.name, device=self.device, dtype=self.dtype)
        fit_threads(model.network)
        return model

    def load_packed(self, kernel: str, compute: str) -> PackedModel:
        """Load a packed folder, whose kernels are tried with the threads that suit the network.

        Raises:
            CheckpointError, DeviceError, RecipeError: As `quantlab.packed.load.load_packed`.
        """
        from quantlab.engine.threads import fit_threads
        from quantlab.models.networks import build_model
        from quantlab.packed.config import read_config
        from quantlab.packed.load import load_packed

        kind, sizes = read_config(Path(self.name))
        if kind is not None:
            fit_threads(build_model(kind, sizes, device="meta"))
        return load_packed(self.name, device=self.device, dtype=self.dtype, kernel=kernel, compute=compute)


@dataclass(frozen=True, slots=True)
class SceneChoice:
    """Which scenes: "demo", "rooms:N", a folder, a picture or a film."""

    source: str
    views: int = 4
    seed: int = 0

    def load(self, *, split: str = "held-out") -> list[Scene]:
        """Load them; ``split`` is that of rooms: "calibration" for those that a recipe learns from.

        Raises:
            SceneError: There is no such scene, or it cannot be used.
        """
        from quantlab.scenes.load import load_scenes

        return load_scenes(self.source, views=self.views, seed=self.seed, split=split)


@dataclass(frozen=True, slots=True)
class RecipeChoice:
    """A preset with its bits, or a recipe file, or neither."""

    preset: str | None = None
    weights: int | None = None
    activations: int | None = None
    scope: str | None = None
    file: Path | None = None
    seed: int = 0

    def load(self, *, otherwise: str) -> Recipe:
        """Make the recipe; ``otherwise`` is the preset when none was asked for.

        Raises:
            RecipeError: The choices exclude each other, or the preset or file is not usable.
        """
        from quantlab.engine.recipe import Recipe

        settings = (self.preset, self.weights, self.activations, self.scope)
        if self.file is not None:
            if any(setting is not None for setting in settings):
                raise RecipeError(
                    "a recipe file and preset settings exclude each other",
                    place=str(self.file),
                    remedy="Give --recipe alone, or --preset with --weights, --activations and --scope.",
                )
            return Recipe.load(self.file)
        name = self.preset or otherwise
        if name == "full_precision":
            if any(setting is not None for setting in settings[1:]):
                raise RecipeError("bits were given without a method", remedy="Add a preset, as --preset rtn.")
            return replace(Recipe.preset(name), seed=self.seed)
        recipe = Recipe.preset(
            name,
            weights=self.weights,
            activations=self.activations,
            scope=self.scope or "trunk",
        )
        return replace(recipe, seed=self.seed)


def warn(lab: Lab) -> None:
    """Say what a person should know of the lab's recipe on its network."""
    for warning in lab.plan().warnings:
        say(f"note: {warning}")


def label(recipe: Recipe) -> str:
    """The recipe in a few words for a title: its name and the bits it starts from."""
    bits = [recipe.defaults.get(field, 16) for field in ("weights", "activations")]
    return recipe.name if bits == [16, 16] else f"{recipe.name} W{bits[0]}A{bits[1]}"


def called(model: Model) -> str:
    """The model for a title; planted outliers are said wherever the model is."""
    return f"{model.name} (outliers planted)" if model.planted else model.name


def names(scenes: Sequence[Scene]) -> str:
    """The scenes in a few words for a title."""
    return scenes[0].name if len(scenes) == 1 else f"{len(scenes)} scenes"
