"""Where labs come from: each model is loaded once and shared, each tab gets a lab of its own. It serves no page."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab.errors import SceneError
from quantlab.jobs import Job

if TYPE_CHECKING:
    from quantlab.app.options import Options
    from quantlab.engine.recipe import Recipe
    from quantlab.engine.session_record import FileNote, SceneNote
    from quantlab.lab import Lab
    from quantlab.models.model import Model
    from quantlab.scenes.scene import Scene

MODELS = {
    "mini": "built in; knows only its rooms",
    "mini-outliers": "mini with outliers planted; the same function",
    "pi3-mini": "Pi3, built in; knows only its rooms",
    "vggt-1b": "5 GB; from the hub's cache",
    "pi3": "3.8 GB; from the hub's cache",
}
ROOMS = 5
FIRST_PRESET = "rtn"
MOST_PARAMETERS = 100_000_000
UPLOAD_FRAMES = 8
"""Pictures taken from an upload that brings more; a film gives as many."""


class Workshop:
    """Loads models and scenes, and builds labs on them; safe to use from several threads.

    Args:
        options: What the app was started with; device and dtype hold for every model.
        make: Builds a lab from a model and a scene; None: `quantlab.Lab`.
    """

    def __init__(self, options: Options, *, make: Callable[..., Lab] | None = None) -> None:
        self.options = options
        self._make = make or _make_lab
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._models: dict[str, Model] = {}
        self._ready: Lab | None = None
        self._warming: threading.Thread | None = None
        self.warming = Job()

    def models(self) -> list[dict[str, str]]:
        """The models to choose from, the one of the command line first."""
        names = dict.fromkeys([self.options.model, *MODELS])
        return [{"id": name, "label": Path(name).name, "note": MODELS.get(name, name)} for name in names]

    def scenes(self, current: str = "") -> list[dict[str, str]]:
        """The scenes to choose from; ``current`` is listed even when it was uploaded."""
        built_in = ["demo", *[f"room {index}" for index in range(1, ROOMS + 1)]]
        names = dict.fromkeys([self.options.scene, *built_in, *([current] if current else [])])
        return [{"id": name, "label": Path(name).name} for name in names]

    def warm(self) -> None:
        """Begin to load and measure the first lab, while the browser still opens."""
        self._warming = threading.Thread(target=self._prepare, daemon=True)
        self._warming.start()

    def _prepare(self) -> None:
        try:
            lab = self.lab(self.options.model, self.scene(self.options.scene))
            if not is_large(lab):
                lab.compare(job=self.warming.part(0.0, 0.4))
                lab.profile(job=self.warming.part(0.4, 0.8))
                lab.evaluate(job=self.warming.part(0.8, 1.0))
            self._ready = lab
        except Exception:  # noqa: BLE001 - the first tab meets the same error and shows it
            self._ready = None

    def first_lab(self, job: Job) -> Lab:
        """The lab prepared at the start, once; later a new one."""
        while self._warming is not None and self._warming.is_alive():
            job.check()
            progress = self.warming.progress
            job.report(
                round(100 * self.warming.fraction), 100, progress.text or f"loading {self.options.model}"
            )
            self._warming.join(0.1)
        with self._lock:
            lab, self._ready = self._ready, None
        return lab or self.lab(self.options.model, self.scene(self.options.scene))

    def model(self, name: str) -> Model:
        """A model, loaded at its first use and then shared: labs never change it."""
        from quantlab.models.zoo import load_model

        with self._lock:
            own = self._loading.setdefault(name, threading.Lock())
        with own:  # two tabs load a model once, and a download holds up nobody who wants another model
            if name not in self._models:
                self._models[name] = load_model(name, device=self.options.device, dtype=self.options.dtype)
            return self._models[name]

    def scene(self, source: str | Sequence[str]) -> Scene:
        """A built-in scene by name, or what lies at a path or at several.

        Raises:
            SceneError: Nothing usable there.
        """
        from quantlab.scenes.load import load_scene

        room = re.fullmatch(r"room (\d{1,2})", source) if isinstance(source, str) else None
        if room is None:
            return load_scene(source)
        return _room(int(room[1]))

    def chosen_scene(self, name: Any) -> Scene:
        """A scene of the list a page offers; a page can name nothing else, no path above all.

        Raises:
            SceneError: It is not on the list.
        """
        if name not in [item["id"] for item in self.scenes()]:
            raise SceneError(
                f"{str(name)[:60]!r} is not on the list", remedy="Choose a scene, or upload pictures."
            )
        return self.scene(name)

    def uploaded_scene(self, paths: Sequence[str]) -> Scene:
        """The scene of uploaded pictures, or of one film; of many pictures some, evenly spaced.

        Raises:
            SceneError: A file that cannot be used; it is named as the person named it.
        """
        from quantlab.scenes.load import load_scene

        return load_scene(list(paths), max_frames=UPLOAD_FRAMES)

    def at_hand(self, name: str) -> bool:
        """Whether a model of the list can be opened without fetching it from elsewhere."""
        from quantlab.models.hub import HUB_FILES, local_file

        with self._lock:
            loaded = name in self._models
        return loaded or name == self.options.model or name not in HUB_FILES or local_file(name) is not None

    def holds(self, file: FileNote) -> bool:
        """Whether a file that a session names is one that was uploaded here, or of the scene the app was started with,
        and unchanged. A session of a stranger makes the app read nothing else.
        """
        from quantlab.engine.session_open import unchanged

        try:
            place = Path(file.path).resolve(strict=True)
        except (OSError, ValueError):  # ValueError: a null character in the name
            return False
        inside = any(
            place.is_relative_to(folder) for folder in (uploads(), Path(self.options.scene).resolve())
        )
        return inside and place.is_file() and unchanged(file, place)

    def known_scene(self, paths: Sequence[Path], note: SceneNote) -> Scene:
        """The scene of files that are held, under the name it had.

        Raises:
            SceneError: A file cannot be used.
        """
        from dataclasses import replace

        from quantlab.scenes.load import load_scene

        return replace(load_scene(paths, max_frames=note.frames or len(paths)), name=note.name)

    def lab(self, model: str, scene: Scene, recipe: Recipe | None = None) -> Lab:
        """A new lab on a shared model."""
        return self._make(self.model(model), scene, recipe)


def uploads() -> Path:
    """Where Gradio keeps what was uploaded."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio").resolve()


def is_large(lab: Lab) -> bool:
    """Whether even one forward pass is more than a person expects of opening a model: nothing runs before Run then."""
    return sum(layer.parameters for layer in lab.structure.layers.values()) > MOST_PARAMETERS


def _room(index: int) -> Scene:
    from dataclasses import replace

    from quantlab.scenes.synthetic import rooms

    return replace(rooms(1, views=4, seed=1000 + index)[0], name=f"room {index}")


def _make_lab(model: Model, scene: Scene, recipe: Recipe | None) -> Lab:
    from quantlab.engine.recipe import Recipe as Recipes
    from quantlab.lab import Lab as Labs

    return Labs(
        model, evaluation=[scene], recipe=recipe or Recipes.preset(FIRST_PRESET, weights=4, activations=4)
    )
