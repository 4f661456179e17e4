"""What a session is as plain data: model, scenes, every recipe and what was looked at. No tensors, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantlab.engine.history import LIMIT
from quantlab.engine.plain import Entries
from quantlab.engine.recipe import Recipe
from quantlab.scenes.origin import Drawn

KIND = "session"
FORMAT = 1
REMEDY = "Save the session again."
MOST_SCENES = 1000
MOST_FILES = 1000
MOST_VIEWED = 50
MOST_BYTES = 1 << 50
LARGEST = 1 << 31
SEEDS = 2**63 - 1
MOST_PIXELS = 16_000_000
"""Of all pictures of a drawn room: a file of a stranger must not fill the memory by asking for a large one."""


@dataclass(frozen=True, slots=True)
class ModelNote:
    """Which network it was.

    Attributes:
        name: As a person called it; a built-in or released model is loaded by it.
        path: Of the weights on the machine that saved; "" for what was never a file.
        fingerprint: See `quantlab.models.fingerprint`; "" where nobody looked.
        dtype: The arithmetic, "float32" or "bfloat16".
    """

    name: str
    path: str = ""
    fingerprint: str = ""
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class FileNote:
    """A picture or a film: where it was, how many bytes it had, and their sha256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SceneNote:
    """Which scene it was: a drawn room, files, or (with neither) pictures or inputs that a program handed over.

    Attributes:
        name: What people saw.
        drawn: What the generator was asked for.
        files: In the order of the views.
        frames: Taken from a film.
        digest: Of what a program handed over.
    """

    name: str
    drawn: Drawn | None = None
    files: tuple[FileNote, ...] = ()
    frames: int | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A lab without anything large.

    Attributes:
        model: Which network.
        evaluation: The scenes that are judged on.
        calibration: The scenes that are profiled; None where the lab chose them.
        seed: Of rooms that the lab draws.
        recipes: Every one, oldest first.
        position: Which of them holds.
        view: What a front end looked at: names to texts, numbers and truth values.
        version: Of the QuantLab that saved it.
    """

    model: ModelNote
    evaluation: tuple[SceneNote, ...]
    recipes: tuple[Recipe, ...]
    position: int
    calibration: tuple[SceneNote, ...] | None = None
    seed: int = 0
    view: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    version: str = ""


def to_plain(record: SessionRecord) -> dict[str, Any]:
    """The record as JSON has it."""
    model = record.model
    return {
        "quantlab": KIND,
        "format": FORMAT,
        "version": record.version,
        "model": {
            "name": model.name,
            "path": model.path,
            "fingerprint": model.fingerprint,
            "dtype": model.dtype,
        },
        "evaluation": [_plain_scene(note) for note in record.evaluation],
        "calibration": None
        if record.calibration is None
        else [_plain_scene(note) for note in record.calibration],
        "seed": record.seed,
        "view": dict(record.view),
        "position": record.position,
        "recipes": [recipe.to_dict() for recipe in record.recipes],
    }


def from_plain(data: Any, place: str) -> SessionRecord:
    """The inverse of `to_plain`, of data that nobody vouches for.

    Raises:
        StorageError: It is no session, or one of a newer QuantLab; names the entry.
        RecipeError: One of its recipes is none.
    """
    _check_format(data, place)
    known = ("quantlab", "format", "version", "model", "evaluation", "calibration")
    entries = Entries(data, place, (*known, "seed", "view", "position", "recipes"), remedy=REMEDY)
    listed = entries.rows("recipes", LIMIT)
    if not listed:
        entries.refuse("the session has no recipe")
    places = [f"{place}: recipe {number}" for number in range(1, len(listed) + 1)]
    recipes = tuple(Recipe.from_dict(item, place=where) for item, where in zip(listed, places, strict=True))
    return SessionRecord(
        model=_model(entries.raw("model"), f"{place}: model"),
        evaluation=_scenes(entries, "evaluation"),
        calibration=_scenes(entries, "calibration") if entries.has("calibration") else None,
        recipes=recipes,
        position=entries.whole("position", 0, len(recipes) - 1),
        seed=entries.whole("seed", 0, SEEDS),
        view=_view(entries.raw("view"), f"{place}: view"),
        version=entries.text("version", 40),
    )


def is_session(data: Any) -> bool:
    """Whether plain data means to be a session, of any format."""
    return isinstance(data, dict) and data.get("quantlab") == KIND


def _check_format(data: Any, place: str) -> None:
    said = Entries(
        data, place, tuple(data) if isinstance(data, dict) else (), remedy="Choose a session file."
    )
    if not is_session(data):
        said.refuse("this is no session of QuantLab")
    number = said.raw("format")
    if type(number) is not int or number < 1:
        said.refuse("the format of the session is no number")
    if number > FORMAT:
        newer = Entries(data, place, tuple(data), remedy="Update QuantLab.")
        newer.refuse(f"session format {number} was made by a newer QuantLab; this one reads {FORMAT}")


def _model(data: Any, place: str) -> ModelNote:
    entries = Entries(data, place, ("name", "path", "fingerprint", "dtype"), remedy=REMEDY)
    return ModelNote(
        entries.text("name"),
        entries.text("path"),
        entries.text("fingerprint", 200),
        entries.text("dtype", 20),
    )


def _plain_scene(note: SceneNote) -> dict[str, Any]:
    if note.drawn is not None:
        drawn = {name: getattr(note.drawn, name) for name in Drawn.__slots__}
        return {"name": note.name, "room": drawn}
    if note.files:
        files = [{"path": file.path, "bytes": file.bytes, "sha256": file.sha256} for file in note.files]
        return {"name": note.name, "files": files} | ({"frames": note.frames} if note.frames else {})
    return {"name": note.name, "digest": note.digest}


def _scenes(entries: Entries, name: str) -> tuple[SceneNote, ...]:
    rows = entries.rows(name, MOST_SCENES)
    if not rows:
        entries.refuse(f"{name!r} names no scene")
    return tuple(_scene(row, f"{entries.place}: {name} {index}") for index, row in enumerate(rows, 1))


def _scene(data: Any, place: str) -> SceneNote:
    entries = Entries(data, place, ("name", "room", "files", "frames", "digest"), remedy=REMEDY)
    name = entries.text("name")
    kinds = [kind for kind in ("room", "files", "digest") if entries.has(kind)]
    if len(kinds) != 1:
        entries.refuse("a scene is one of: room, files, digest")
    if kinds == ["room"]:
        return SceneNote(name, drawn=_room(entries.raw("room"), place))
    if kinds == ["digest"]:
        return SceneNote(name, digest=entries.text("digest", 200))
    files = tuple(_file(row, place) for row in entries.rows("files", MOST_FILES))
    if not files:
        entries.refuse("the scene has no files")
    return SceneNote(
        name, files=files, frames=entries.whole("frames", 1, MOST_FILES) if entries.has("frames") else None
    )


def _room(data: Any, place: str) -> Drawn:
    entries = Entries(data, place, Drawn.__slots__, remedy=REMEDY)
    drawn = Drawn(
        index=entries.whole("index", 0, LARGEST),
        views=entries.whole("views", 1, 100),
        seed=entries.whole("seed", 0, SEEDS),
        height=entries.whole("height", 1, 4096),
        width=entries.whole("width", 1, 4096),
        split=entries.text("split", 40),
        degenerate=entries.number("degenerate", 0.0, 1.0),
    )
    if not drawable(drawn):
        entries.refuse(f"a room of more than {MOST_PIXELS // 10**6} million pixels is not drawn")
    return drawn


def drawable(drawn: Drawn) -> bool:
    """Whether a session may ask for this room."""
    return drawn.views * drawn.height * drawn.width <= MOST_PIXELS


def _file(data: Any, place: str) -> FileNote:
    entries = Entries(data, place, ("path", "bytes", "sha256"), remedy=REMEDY)
    return FileNote(entries.text("path"), entries.whole("bytes", 0, MOST_BYTES), entries.text("sha256", 64))


def _view(data: Any, place: str) -> dict[str, str | int | float | bool]:
    if not isinstance(data, dict) or len(data) > MOST_VIEWED:
        Entries(None, place, (), remedy=REMEDY)
    entries = Entries(data, place, tuple(data), remedy=REMEDY)
    seen: dict[str, str | int | float | bool] = {}
    for name, value in data.items():
        if isinstance(value, str):
            seen[name] = entries.text(name)
        elif isinstance(value, bool | int | float):
            seen[name] = value
        else:
            entries.refuse(f"{name[:60]!r} is neither text nor number")
    return seen
