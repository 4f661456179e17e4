"""From the record of a session to a lab: its model and scenes, found again. It reads no session file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from quantlab.engine.session_notes import content_digest, drawn_scene, note_scene
from quantlab.engine.session_record import FileNote, ModelNote, SceneNote, SessionRecord
from quantlab.engine.subject import Predict
from quantlab.engine.workbench import Workbench
from quantlab.errors import CheckpointError, QuantLabError, SceneError
from quantlab.models.fingerprint import file_digest, fingerprint
from quantlab.models.model import Model
from quantlab.models.zoo import MODELS, load_model
from quantlab.scenes.load import load_scene, load_scenes
from quantlab.scenes.scene import Scene

Say = Callable[[str], None]
Bench = TypeVar("Bench", bound=Workbench)


class SessionWarning(UserWarning):
    """A session was opened on something that is not what it was saved of."""


def warn(problem: str) -> None:
    """Tell a person at a prompt."""
    warnings.warn(problem, SessionWarning, stacklevel=4)


def reopen(
    record: SessionRecord,
    make: Callable[..., Bench],
    *,
    model: Any = None,
    scenes: Any = None,
    calibration: Any = None,
    predict: Predict | None = None,
    device: str = "cpu",
    folder: Path = Path(),
    say: Say = warn,
) -> Bench:
    """A lab as the session left it, on its own model and scenes or on those given in their place.

    Args:
        record: The session.
        make: Builds the lab, called as `quantlab.Lab`.
        model: In place of the session's: loaded, or what `load_model` takes.
        scenes: In place of the evaluation scenes: a list, or what `load_scenes` takes.
        calibration: Likewise of the calibration scenes.
        predict: For a bare module.
        device: Where a model is loaded.
        folder: Where files are looked for that are not where they were.
        say: Told what is not as it was.

    Raises:
        CheckpointError, SceneError: The model or a scene is not here; says what to give.
        RecipeError: A recipe of the history cannot be carried out on this network.
    """
    found = model_of(record, model, folder=folder, device=device, say=say)
    made: dict[SceneNote, Scene] = {}

    def listed(notes: Sequence[SceneNote], given: Any, argument: str) -> list[Any]:
        if given is not None:
            chosen = load_scenes(given) if isinstance(given, str | Path) else given
            return _told_if_other(notes, list(chosen) if isinstance(chosen, list | tuple) else [chosen], say)
        missing = [note for note in notes if note not in made]
        made.update(zip(missing, scenes_of(missing, folder=folder, say=say, argument=argument), strict=True))
        return [made[note] for note in notes]  # one scene that is used twice is one object again

    evaluation = listed(record.evaluation, scenes, "scenes")
    if calibration is None and record.calibration == record.evaluation:
        calibration = evaluation
    profiled = None if record.calibration is None else listed(record.calibration, calibration, "calibration")
    lab = make(found, profiled, evaluation, predict=predict, seed=record.seed)
    lab.resume(record.recipes, record.position)
    lab.view = dict(record.view)
    return lab


def _told_if_other(notes: Sequence[SceneNote], scenes: list[Any], say: Say) -> list[Any]:
    if len(notes) != len(scenes) or not all(map(same_scene, notes, scenes)):
        say("the scenes given are not those of the session; its numbers will differ")
    return scenes


def model_of(record: SessionRecord, given: Any, *, folder: Path, device: str, say: Say) -> Model | nn.Module:
    """The model of a session, or the one given in its place; ``say`` hears where its weights are others.

    Raises:
        CheckpointError: It is not here; the error says which file to give.
    """
    note = record.model
    if given is None:
        given = _found_model(note, folder)
    model = load_model(given, device=device, dtype=note.dtype) if isinstance(given, str | Path) else given
    if note.fingerprint and fingerprint(model) != note.fingerprint:
        say(
            f"the weights of {note.name} are not those that the session was saved of; its numbers will differ"
        )
    return model


def scenes_of(notes: Sequence[SceneNote], *, folder: Path, say: Say, argument: str = "scenes") -> list[Scene]:
    """The scenes of a session; ``say`` hears of files that changed.

    Args:
        notes: Of the scenes.
        folder: Where the session file lies: files that are not where they were are looked for beside it.
        say: Told what is not as it was.
        argument: What the remedy names.

    Raises:
        SceneError: Files are not here, or cannot be used; or a program made the scene. Says what to give.
    """
    return [_scene_of(note, folder, say, argument) for note in notes]


def same_scene(note: SceneNote, scene: Any) -> bool:
    """Whether a scene is the one that was noted."""
    found = note_scene(scene)
    if note.drawn is not None:
        return found.drawn == note.drawn
    if note.files:
        return [file.sha256 for file in found.files] == [file.sha256 for file in note.files]
    return content_digest(scene) == note.digest


def _found_model(note: ModelNote, folder: Path) -> str | Path:
    if note.name in MODELS and not note.path:
        return note.name
    for place in (Path(note.path), folder / Path(note.path).name):
        if note.path and _exists(place):
            return place
    what = "a program made it" if not note.path else f"it was {note.path}"
    remedy = "Pass model=: the loaded network or the file of its weights"
    mark = f", sha256 {note.fingerprint[:12]}..." if note.fingerprint else ""
    raise CheckpointError(
        f"the session's model {note.name!r} is not here: {what}", place=note.name, remedy=f"{remedy}{mark}."
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a null character
        return False


def _scene_of(note: SceneNote, folder: Path, say: Say, argument: str) -> Scene:
    if note.drawn is not None:
        return drawn_scene(note.drawn, note.name)
    if not note.files:
        raise SceneError(
            f"a program made the scene {note.name!r}, so the session cannot make it again",
            place=note.name,
            remedy=f"Pass {argument}=[...] with it.",
        )
    places = {file: find_file(file, folder) for file in note.files}
    missing = [Path(file.path).name for file, place in places.items() if place is None]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise SceneError(
            f"pictures of the session are not here: {', '.join(missing[:5])}{more}",
            place=note.name,
            remedy=f"Put them beside the session file, or pass {argument}=[...].",
        )
    for file, place in places.items():
        if place is not None and not unchanged(file, place):
            say(f"{place.name} is not the file it was when the session was saved; its numbers will differ")
    paths = [place for place in places.values() if place is not None]
    scene = load_scene(paths if len(paths) > 1 else paths[0], max_frames=note.frames or len(paths))
    return replace(scene, name=note.name)


def find_file(file: FileNote, folder: Path) -> Path | None:
    """Where a file lies now: the unchanged one first, at its place or in ``folder``; else a changed one; else None."""
    places = [Path(file.path), folder / Path(file.path.replace("\\", "/")).name]
    there = [place for place in places if _is_file(place)]
    return next((place for place in there if unchanged(file, place)), there[0] if there else None)


def unchanged(file: FileNote, place: Path) -> bool:
    """Whether the file at a place is the one that was noted; the digest is read only where the sizes agree."""
    try:
        return place.stat().st_size == file.bytes and file_digest(place) == file.sha256
    except (OSError, QuantLabError):
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
