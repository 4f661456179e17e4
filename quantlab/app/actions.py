"""What happens when a person does something: session and message in, changed parts of the page out. No Gradio here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from quantlab import figures
from quantlab.app import panels, table
from quantlab.app.measure import choose_first, measure_change, measure_first, measure_layer
from quantlab.app.measure import panels as parts_of
from quantlab.app.messages import explain
from quantlab.app.recipes import load_recipe, read_recipe
from quantlab.app.running import guarded, run_job
from quantlab.app.state import Results, Session, Store
from quantlab.app.status import head, refusal, status
from quantlab.app.work import Emit, Parts, stream
from quantlab.app.workshop import Workshop, is_large
from quantlab.engine.recipe import Recipe
from quantlab.errors import QuantLabError
from quantlab.jobs import Job
from quantlab.views import edits

if TYPE_CHECKING:
    from quantlab.lab import Lab
    from quantlab.scenes.scene import Scene

Message = dict[str, Any]
ALL = ("map", "layer", "settings", "numbers", "compare", "modules", "recipe")
AFTER_EDIT = ("settings", "modules", "recipe")


class Actions:
    """Every handler of the app. A message comes from a browser and is checked like a file from a stranger.

    Args:
        store: The sessions.
        workshop: Makes their labs.
    """

    def __init__(self, store: Store, workshop: Workshop) -> None:
        self._store, self._workshop = store, workshop
        self._verbs: dict[str, Callable[[Session, Message], Iterator[Parts]]] = {
            "model": self._model,
            "scene": self._scene,
            "select": self._select,
            "set": self._set,
            "preset": self._preset,
            "undo": lambda session, _: self._step(session, "undo"),
            "redo": lambda session, _: self._step(session, "redo"),
            "recipe": lambda session, message: self._replace(
                session, read_recipe(str(message.get("text", "")))
            ),
            "color_by": self._look("color_by", figures.QUANTITIES, "map"),
            "streams": self._look("streams", panels.STREAMS, "map"),
            "panel": self._look("panel", panels.PANELS, "layer"),
            "left": self._look("left", ("full", "now", "former", "truth"), "compare"),
            "right": self._look("right", ("full", "now", "former", "truth"), "compare"),
            "apply_to": self._look("apply_to", edits.APPLY_TO, "settings"),
            "tab": self._look("tab", ("bench", "modules", "recipe", "notes"), "modules", "recipe"),
            "run": self._run_all,
            "stop": self._stop,
            "sync": self._sync,
            "dismiss": self._dismiss,
        }

    # ---- entries --------------------------------------------------------------------------------------------------

    def act(self, page: str, message: Any) -> Iterator[Parts]:
        """Do what a panel asks: ``message`` is ``{"do": verb, ...}``."""
        verb = str(message.get("do", "")) if isinstance(message, dict) else ""
        if verb == "ready":
            yield from guarded(None, lambda: self._ready(page, message))
        elif verb == "tab" and not self._store.knows(page):
            return  # Gradio selects the first tab while the page loads, before it has said hello
        elif verb in self._verbs:
            yield from self._in_session(page, lambda session: self._verbs[verb](session, message))

    def upload(self, page: str, paths: Sequence[str]) -> Iterator[Parts]:
        """Replace the scene by uploaded pictures or a film; when they cannot be used, all stays as it was."""
        yield from self._in_session(page, lambda session: self._upload(session, paths))

    def load_recipe(self, page: str, path: str) -> Iterator[Parts]:
        """Replace the recipe by an uploaded one."""
        yield from self._in_session(page, lambda session: self._replace(session, load_recipe(path)))

    def edit_table(self, page: str, rows: Sequence[Sequence[Any]]) -> Iterator[Parts]:
        """Take over what changed in the table of layers."""
        yield from self._in_session(page, lambda session: self._edit_table(session, rows))

    def open_row(self, page: str, row: Any) -> Iterator[Parts]:
        """Open the layer of a row of the table."""
        yield from self._in_session(page, lambda s: self._select(s, {"layer": table.named(s, row)}))

    def leave(self, page: str) -> None:
        """A tab closed."""
        self._store.leave(page)

    # ---- opening --------------------------------------------------------------------------------------------------

    def _ready(self, page: str, message: Message) -> Iterator[Parts]:
        session = self._store.join(page, str(message.get("handle", "")))
        if session.lab is not None:
            yield {"head": self._head(session), "status": status(session), **parts_of(session, *ALL)}
            yield from self._follow(session)
            return
        if session.job is not None:  # asked again, before the first answer came
            yield from self._sync(session, message)
            return
        session.model, session.scene = self._workshop.options.model, self._workshop.options.scene
        yield {"head": self._head(session)}
        yield from run_job(session, self._open_first)

    def _sync(self, session: Session, _message: Message) -> Iterator[Parts]:
        """A page that has heard nothing for a while: how far the work is, or all that holds."""
        parts = ALL if session.lab is not None and session.job is None else ()
        yield {"head": self._head(session), "status": status(session), **parts_of(session, *parts)}

    def _open_first(self, session: Session, emit: Emit, job: Job) -> None:
        lab = self._workshop.first_lab(job.part(0.0, 0.4))
        self._opened(session, emit, job.part(0.4, 1.0), lab)

    def _install(self, session: Session, lab: Lab, job: Job) -> None:
        """Put a lab in the place of the former one, whole."""
        scene = lab.evaluation[0]
        with session.lock:
            job.check()
            session.lab, session.scene, session.results = lab, scene.name, Results()
            session.stale, session.interactive = True, False
            layer = session.view.layer if session.view.layer in lab.structure.layers else ""
            session.show(layer=layer, picked=frozenset(), left="full", right="now")

    def _follow(self, session: Session) -> Iterator[Parts]:
        """A page that came back while its work still runs: tell how far it is, then show what it found."""
        job = session.job
        if job is None:
            return

        pause = threading.Event()

        def wait(_emit: Emit) -> None:
            while session.job is job:
                job.check()
                pause.wait(0.2)

        yield from stream(wait, job, progress=lambda _: {"status": status(session)}, lane=threading.Lock())
        yield {"status": status(session), **parts_of(session, *ALL)}

    # ---- looking --------------------------------------------------------------------------------------------------

    def _look(self, name: str, allowed: Any, *parts: str) -> Callable[[Session, Message], Iterator[Parts]]:
        """A verb that only changes what is looked at."""

        def look(session: Session, message: Message) -> Iterator[Parts]:
            value = message.get("value")
            if value in allowed:
                session.show(**{name: value})
                if session.lab is not None:
                    yield parts_of(session, *parts)

        return look

    def _select(self, session: Session, message: Message) -> Iterator[Parts]:
        lab, name = session.open_lab(), message.get("layer")
        if name not in lab.structure.layers:
            return
        session.show(layer=name)
        yield parts_of(session, "map", "layer", "settings")
        if name in session.results.layers or session.stale or session.results.profile is None:
            return
        if session.job is None:
            yield from run_job(session, measure_layer)

    def _dismiss(self, session: Session, _message: Message) -> Iterator[Parts]:
        session.message = {}
        yield {"status": status(session)}

    # ---- changing -------------------------------------------------------------------------------------------------

    def _set(self, session: Session, message: Message) -> Iterator[Parts]:
        lab, view = session.open_lab(), session.view
        changes = message.get("changes")
        if not isinstance(changes, dict):
            return
        recipe = edits.edited(
            lab.recipe, lab.structure, changes, layer=view.layer, apply_to=view.apply_to, picked=view.picked
        )
        yield from self._replace(session, recipe)

    def _preset(self, session: Session, message: Message) -> Iterator[Parts]:
        scope = session.open_lab().recipe.scope
        bits = {name: edits.checked(name, message.get(name)) for name in ("weights", "activations")}
        yield from self._replace(session, Recipe.preset(str(message.get("name")), **bits, scope=scope))

    def _edit_table(self, session: Session, rows: Sequence[Sequence[Any]]) -> Iterator[Parts]:
        session.show(picked=table.picked(session, rows))
        recipe = table.recipe_from(session, rows)
        if recipe == session.open_lab().recipe:
            yield parts_of(session, "settings")
        else:
            yield from self._replace(session, recipe)

    def _replace(self, session: Session, recipe: Recipe) -> Iterator[Parts]:
        """Make ``recipe`` the one that holds, and follow it with everything that depends on it."""
        lab = session.open_lab()
        recipe.layers(lab.structure)
        if recipe == lab.recipe:
            yield {"status": status(session), **parts_of(session, "settings", "modules")}
            return
        session.stop()
        lab.recipe = recipe
        yield from self._changed(session)

    def _step(self, session: Session, direction: str) -> Iterator[Parts]:
        lab = session.open_lab()
        if not (lab.can_undo if direction == "undo" else lab.can_redo):
            return
        session.stop()
        getattr(lab, direction)()
        yield from self._changed(session)

    def _changed(self, session: Session) -> Iterator[Parts]:
        with session.lock:
            session.results = session.results.aged()
            session.stale, session.message = True, {}
        if session.interactive:
            yield from run_job(session, measure_change, first=lambda: parts_of(session, *AFTER_EDIT))
        else:
            yield {"status": status(session), **parts_of(session, *AFTER_EDIT, "map", "layer", "numbers")}

    def _run_all(self, session: Session, _message: Message) -> Iterator[Parts]:
        if session.job is not None:  # a second click while it runs asks for nothing new
            return
        if session.lab is None:  # it was stopped before it opened
            yield from run_job(session, self._open_first)
        else:
            yield from run_job(session, measure_change, first=lambda: parts_of(session, "map", "layer"))

    def _stop(self, session: Session, _message: Message) -> Iterator[Parts]:
        session.stop()
        yield {"status": status(session)}

    # ---- other models and scenes ----------------------------------------------------------------------------------

    def _model(self, session: Session, message: Message) -> Iterator[Parts]:
        name = message.get("value")
        if name not in [item["id"] for item in self._workshop.models()]:
            return
        # The weights may have to be downloaded first: that holds nobody else up, and Stop need not wait for it.
        yield from run_job(session, lambda _s, _emit, job: self._fetch(job, name), lane=threading.Lock())
        if not session.message:
            yield from run_job(session, lambda s, emit, job: self._open_model(s, emit, job, name))
        yield {"head": self._head(session)}

    def _fetch(self, job: Job, name: str) -> None:
        job.report(0, 0, f"loading {name}")
        self._workshop.model(name)

    def _open_model(self, session: Session, emit: Emit, job: Job, name: str) -> None:
        scene = session.lab.evaluation[0] if session.lab is not None else None
        lab = self._workshop.lab(name, scene or self._workshop.scene(self._workshop.options.scene))
        session.model = name
        self._opened(session, emit, job, lab)

    def _scene(self, session: Session, message: Message) -> Iterator[Parts]:
        name = message.get("value")
        yield from self._replace_scene(session, lambda: self._workshop.chosen_scene(name))

    def _upload(self, session: Session, paths: Sequence[str]) -> Iterator[Parts]:
        yield from self._replace_scene(session, lambda: self._workshop.uploaded_scene(paths))

    def _replace_scene(self, session: Session, load: Callable[[], Scene]) -> Iterator[Parts]:
        yield from run_job(session, lambda s, emit, job: self._open_scene(s, emit, job, load))
        yield {"head": self._head(session)}

    def _open_scene(self, session: Session, emit: Emit, job: Job, load: Callable[[], Scene]) -> None:
        job.report(0, 0, "reading the scene")
        scene = load()
        former = session.open_lab()
        lab = self._workshop.lab(session.model, scene, former.recipe)
        if lab.interactive:
            lab.compare(
                job=job.part(0.0, 0.3)
            )  # pictures the model cannot take leave the former scene in place
        self._opened(session, emit, job.part(0.3, 1.0), lab)

    def _opened(self, session: Session, emit: Emit, job: Job, lab: Lab) -> None:
        self._install(session, lab, job)
        emit({"head": self._head(session), "status": status(session), **parts_of(session, *ALL)})
        if not is_large(lab):
            lab.reference(job=job.part(0.0, 0.1))
            session.interactive = lab.interactive
        if session.interactive:
            measure_first(session, emit, job.part(0.1, 1.0))
        else:  # a slow model measures nothing before it is asked to
            choose_first(session)
            emit(parts_of(session, *ALL))

    # ---- plumbing -------------------------------------------------------------------------------------------------

    def _head(self, session: Session) -> Parts:
        return head(session, self._workshop.models(), self._workshop.scenes(session.scene))

    def _in_session(self, page: str, do: Callable[[Session], Iterator[Parts]]) -> Iterator[Parts]:
        try:
            session = self._store.of(page)
        except QuantLabError as error:
            yield {"status": refusal(explain(error))}
            return
        yield from guarded(session, lambda: do(session))
