"""The recipe as text, YAML, JSON, Python and as a link, and back. It checks nothing itself: that is the recipe's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.app.export_place import exports
from quantlab.app.kept import file_name
from quantlab.deploy import changes
from quantlab.engine.recipe import Recipe
from quantlab.errors import RecipeError
from quantlab.scenes.origin import Drawn
from quantlab.views.link import link_of

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.models.structure import Structure

STATIC_HELP = (
    "ONNX and OpenVINO hold inputs in 8 bits only, under scales that are found on the calibration scenes and then"
    " fixed. With this the file is made from the nearest such recipe, and the recipe in force stays; without it both"
    " refuse. Packed checkpoints hold every recipe as it is."
)


def recipe_panel(session: Session) -> dict[str, Any]:
    """The recipe in every language, what differs from the first recipe, and what else can be taken away."""
    lab = session.open_lab()
    recipe = lab.recipe
    start = lab.history[0] if lab.history else recipe
    python = f"lab = ql.Lab(ql.load_model({session.model!r}))\n"
    scene = (
        session.scene if isinstance(lab.evaluation[0].origin, Drawn) else ""
    )  # one's own pictures do not fit
    link, problem = _link(session, recipe, scene)
    return {
        "yaml": recipe.to_yaml(),
        "json": recipe.to_json(),
        "python": f"{recipe.to_python().rstrip()}\n\n{python}lab.recipe = recipe\nprint(lab.evaluate())\n",
        "changes": start.diff(recipe),
        "link": link,
        "link_problem": problem,
        "linked_scene": scene,
        "stem": file_name(recipe.name, ending=""),
        "model": Path(session.model).name,
        "scene": session.scene,
        "steps": len(lab.history),
        "exported": session.exported,
        "exports": str(exports()),
        "export_name": _export_name(session, recipe),
        "static": _static(recipe, lab.structure),
        "profiled": session.results.profile is not None,
    }


def _export_name(session: Session, recipe: Recipe) -> str:
    """What a folder of the model is called, unless a person says otherwise."""
    bits = [recipe.defaults.get(name, 16) for name in ("weights", "activations")]
    return file_name(Path(session.model).stem, recipe.name, f"W{bits[0]}A{bits[1]}", ending="")


def _static(recipe: Recipe, structure: Structure) -> dict[str, str] | None:
    """What ONNX and OpenVINO need otherwise than the recipe has it, in words; None where they hold it as it is."""
    changed = changes(recipe, structure)
    if not changed:
        return None
    rounds = changed.keys() - {"kv_bits"}
    bits = "8-bit " if "activations" in changed else ""
    words = [f"one fixed {bits}scale a layer"] if rounds else []
    words += ["keys and values not rounded"] if "kv_bits" in changed else []
    label = "static activations" if rounds else "no rounded keys and values"
    return {"label": label, "words": f"ONNX, OpenVINO: {', '.join(words)}", "help": STATIC_HELP}


def _link(session: Session, recipe: Recipe, scene: str) -> tuple[str, str]:
    """A link to model, scene and recipe, or why there is none."""
    try:
        return link_of(Path(session.model).name, scene, recipe, session.view.layer), ""
    except RecipeError as error:
        return "", str(error)


def read_recipe(text: str) -> Recipe:
    """A recipe from text a person typed.

    Raises:
        RecipeError: Not a recipe.
    """
    return Recipe.from_yaml(text)
