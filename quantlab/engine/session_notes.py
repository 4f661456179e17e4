"""From a lab to the record of its session: which model, which scenes, every recipe. It writes no file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor, nn

from quantlab import __version__
from quantlab.engine.plain import LONGEST_TEXT
from quantlab.engine.session_record import FileNote, ModelNote, SceneNote, SessionRecord, drawable
from quantlab.engine.subject import scene_label
from quantlab.models.fingerprint import file_digest, fingerprint
from quantlab.models.model import Model
from quantlab.models.zoo import MODELS
from quantlab.scenes.origin import Drawn, Files
from quantlab.scenes.scene import Scene
from quantlab.scenes.synthetic import room

if TYPE_CHECKING:
    from quantlab.engine.workbench import Workbench


def describe(lab: Workbench, *, digests: bool = True) -> SessionRecord:
    """The session of a lab.

    Args:
        lab: Not changed, and nothing of it runs.
        digests: Read the weights to tell them from others later (seconds where they are gigabytes).

    Raises:
        StorageError: The files of the model or of a scene are gone.
    """
    recipes, position = lab.records
    return SessionRecord(
        model=_note_model(lab.model, lab.name, digests=digests),
        evaluation=tuple(note_scene(scene, index) for index, scene in enumerate(lab.evaluation)),
        calibration=(
            tuple(note_scene(scene, index) for index, scene in enumerate(lab.calibration))
            if lab.calibration_given
            else None
        ),
        recipes=recipes,
        position=position,
        seed=lab.seed,
        view=dict(lab.view),
        version=__version__,
    )


def note_scene(scene: Any, index: int = 0) -> SceneNote:
    """How a scene can be had again; of one that a program made, what tells it from others."""
    name = _writable(scene_label(scene, index))
    origin = scene.origin if isinstance(scene, Scene) else None
    if isinstance(origin, Drawn) and drawable(origin) and _as_drawn(scene, origin):
        return SceneNote(name, drawn=origin)
    if isinstance(origin, Files) and _as_read(scene, origin):
        return SceneNote(name, files=tuple(_note_file(path) for path in origin.paths), frames=origin.frames)
    return SceneNote(name, digest=content_digest(scene))


def drawn_scene(origin: Drawn, name: str) -> Scene:
    """The room of the generator, under the name it had."""
    drawn = room(
        origin.index,
        views=origin.views,
        seed=origin.seed,
        size=(origin.height, origin.width),
        split=origin.split,
        degenerate=origin.degenerate,
    )
    return replace(drawn, name=name)


def content_digest(value: Any) -> str:
    """The sha256 of pictures or of a network's input, with its shapes."""
    digest = hashlib.sha256()
    _digest_into(digest, value.images if isinstance(value, Scene) else value)
    return digest.hexdigest()


def _note_model(model: Model | nn.Module, name: str, *, digests: bool) -> ModelNote:
    mark = fingerprint(model) if digests else ""
    if not isinstance(model, Model):
        return ModelNote(name, fingerprint=mark)
    path = "" if name in MODELS or model.path is None else _writable(str(model.path.absolute()))
    return ModelNote(name, path, mark, model.dtype)


def _note_file(path: Path) -> FileNote:
    digest = file_digest(path)
    return FileNote(_writable(str(path)), path.stat().st_size, digest)


_drawn_before: WeakKeyDictionary[Scene, bool] = WeakKeyDictionary()
"""Scenes that were compared with what the generator draws: an app notes the same scene at every change."""


def _as_drawn(scene: Scene, origin: Drawn) -> bool:
    """Whether the pictures are still those of the generator: a copy may have others."""
    if scene not in _drawn_before:
        _drawn_before[scene] = _same_pictures(scene, drawn_scene(origin, scene.name))
    return _drawn_before[scene]


def _as_read(scene: Scene, origin: Files) -> bool:
    """Whether all pictures of the files are still those of the scene: a copy may have dropped some."""
    return origin.frames is not None or len(scene.images) == len(origin.paths)


def _same_pictures(one: Scene, other: Scene) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) for a, b in zip(one.images, other.images, strict=True)
    )


def _digest_into(digest: hashlib._Hash, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            digest.update(repr(key).encode())
            _digest_into(digest, item)
    elif isinstance(value, list | tuple):
        for item in value:
            _digest_into(digest, item)
    elif isinstance(value, Tensor | np.ndarray):
        array = np.ascontiguousarray(
            value.detach().cpu().float().numpy() if isinstance(value, Tensor) else value
        )
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    else:
        digest.update(repr(value).encode("utf-8", "replace"))


def _writable(text: str) -> str:
    """Without what UTF-8 cannot say: file names may hold any bytes."""
    return text.encode("utf-8", "replace").decode()[:LONGEST_TEXT]
