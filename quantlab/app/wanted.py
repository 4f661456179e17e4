"""What a page wants opened in place of the first lab: a link, a session, what its tab remembers. It opens nothing.

All of it was written by others. A page names models and scenes of the lists it is offered, never a path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.engine.recipe import Recipe
from quantlab.engine.session_record import SceneNote, SessionRecord
from quantlab.errors import CheckpointError
from quantlab.views.link import open_link, unpack

if TYPE_CHECKING:
    from quantlab.app.workshop import Workshop
    from quantlab.scenes.scene import Scene


@dataclass(frozen=True, slots=True)
class Wanted:
    """A lab to be opened.

    Attributes:
        model: From the list of models.
        recipes: Its history.
        position: Which of them holds.
        scene: Loads it; None: the scene that is open, or the first one.
        view: What is looked at.
        fingerprint: Of the weights the recipes were made for; "" where nobody looked.
        notes: What is not as it was, for the person.
    """

    model: str
    recipes: tuple[Recipe, ...]
    position: int = 0
    scene: Callable[[], Scene] | None = None
    view: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    notes: tuple[str, ...] = ()


def asked_for(message: Mapping[str, Any], workshop: Workshop) -> Wanted | None:
    """What a page asks for when it says hello: a link, else what its tab remembers; None: nothing.

    Raises:
        QuantLabError: It cannot be read, or names what is not here.
    """
    link, memory = message.get("link"), message.get("memory")
    if isinstance(link, str) and link:
        return from_link(link, workshop)
    if isinstance(memory, str) and memory:
        from quantlab.engine.session_file import from_text

        where = "memory of this tab"
        return from_record(from_text(unpack(memory, place=where), place=where), workshop)
    return None


def from_link(text: str, workshop: Workshop) -> Wanted:
    """What a link opens.

    Raises:
        StorageError, RecipeError: It is damaged, or none.
        CheckpointError: Its model is not on this machine.
    """
    linked = open_link(text)
    model = _listed(linked.model, workshop)
    names = [item["id"] for item in workshop.scenes()]
    known = linked.scene in names
    notes = () if known or not linked.scene else (f"the scene {linked.scene[:60]!r} of the link is not here",)
    return Wanted(
        model,
        (linked.recipe,),
        scene=(lambda: workshop.chosen_scene(linked.scene)) if known else None,
        view={"layer": linked.layer},
        notes=notes,
    )


def from_record(record: SessionRecord, workshop: Workshop) -> Wanted:
    """What a session opens.

    Raises:
        CheckpointError: Its model is not on this machine.
    """
    model = _listed(record.model.name, workshop)
    scene, missing = _scene(record.evaluation[0], workshop)
    notes = [missing] if missing else []
    if record.calibration is not None:
        notes.append("the session's own calibration scenes are left out; open it in Python to use them")
    if len(record.evaluation) > 1:
        notes.append(f"of its {len(record.evaluation)} scenes the first is shown")
    return Wanted(
        model,
        record.recipes,
        record.position,
        scene=scene,
        view=record.view,
        fingerprint=record.model.fingerprint,
        notes=tuple(notes),
    )


def _listed(name: str, workshop: Workshop) -> str:
    """The model of the list that is called so; one that would have to be downloaded is not opened by a stranger's word.

    Raises:
        CheckpointError: There is none.
    """
    listed = [item["id"] for item in workshop.models()]
    found = next((known for known in listed if name in (known, Path(known).name)), None)
    if found is None:
        raise CheckpointError(
            f"the model {name[:60]!r} is not on the list",
            remedy="Start the app with it: quantlab app --model FILE.",
        )
    if not workshop.at_hand(found):
        raise CheckpointError(
            f"the model {found!r} is not on this machine yet",
            remedy="Choose it in the list, which downloads it; then open this again.",
        )
    return found


def _scene(note: SceneNote, workshop: Workshop) -> tuple[Callable[[], Scene] | None, str]:
    """What loads the scene, or why it cannot be had."""
    drawn = note.drawn
    if drawn is not None:

        def draw() -> Scene:
            from quantlab.engine.session_notes import drawn_scene

            return drawn_scene(drawn, note.name)

        return draw, ""
    if note.files and all(map(workshop.holds, note.files)):
        paths = [Path(file.path) for file in note.files]
        return lambda: workshop.known_scene(paths, note), ""
    names = ", ".join(Path(file.path.replace("\\", "/")).name for file in note.files[:3])
    more = f" and {len(note.files) - 3} more" if len(note.files) > 3 else ""
    which = f"the session's pictures are not here: upload {names}{more}" if names else "its scene is not here"
    return None, f"{which}; the recipes stay"
