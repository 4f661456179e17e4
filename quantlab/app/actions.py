"""What happens when a person does something: session and message in, changed parts of the page out. No Gradio here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from quantlab.app import (
    blaming,
    changing,
    clouds,
    deciding,
    export,
    exporting,
    looking,
    measuring,
    selecting,
    table,
)
from quantlab.app.changing import Message, Verb, edit_table, replace_recipe
from quantlab.app.looking import select
from quantlab.app.measure import measure_change, panels
from quantlab.app.messages import explain
from quantlab.app.opening import ALL, Opening
from quantlab.app.running import follow, guarded, run_job
from quantlab.app.state import Session, Store
from quantlab.app.status import refusal, status
from quantlab.app.wanted import Wanted, from_link, from_record
from quantlab.app.work import Parts
from quantlab.app.workshop import Workshop
from quantlab.engine.recipe import Recipe
from quantlab.engine.session_record import SessionRecord
from quantlab.errors import QuantLabError
from quantlab.jobs import Job

if TYPE_CHECKING:
    from quantlab.scenes.scene import Scene

PANELS = (blaming, changing, clouds, deciding, export, exporting, looking, measuring, selecting)
"""Modules whose ``VERBS`` say what a message ``{"do": verb, ...}`` of the page does."""


class Actions:
    """Every handler of the app. A message comes from a browser and is checked like a file from a stranger.

    Args:
        store: The sessions.
        workshop: Makes their labs.
    """

    def __init__(self, store: Store, workshop: Workshop) -> None:
        self._store, self._workshop, self._opening = store, workshop, Opening(workshop)
        self._verbs: dict[str, Verb] = {
            "model": self._model,
            "scene": self._scene,
            "run": self._run_all,
            "stop": self._stop,
            "sync": self._sync,
        }
        for panel in PANELS:
            self._verbs |= panel.VERBS

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

    def load(self, page: str, path: str) -> Iterator[Parts]:
        """Open an uploaded recipe, session or profile."""
        yield from self._in_session(page, lambda session: self._load(session, path))

    def edit_table(self, page: str, rows: Sequence[Sequence[Any]]) -> Iterator[Parts]:
        """Take over what changed in the table of layers."""
        yield from self._in_session(page, lambda session: edit_table(session, rows))

    def open_row(self, page: str, row: Any) -> Iterator[Parts]:
        """Open the layer of a row of the table."""
        yield from self._in_session(page, lambda s: select(s, {"layer": table.named(s, row)}))

    def leave(self, page: str) -> None:
        """A tab closed."""
        self._store.leave(page)

    # ---- opening --------------------------------------------------------------------------------------------------

    def _ready(self, page: str, message: Message) -> Iterator[Parts]:
        session = self._store.join(page, str(message.get("handle", "")))
        if session.lab is not None:
            yield {"head": self._opening.head(session), "status": status(session), **panels(session, *ALL)}
            yield from follow(session, *ALL)
            if message.get("link"):
                yield from self._open_wanted(session, from_link(str(message["link"]), self._workshop))
            return
        if session.job is not None:  # asked again, before the first answer came
            yield from self._sync(session, message)
            return
        session.model, session.scene = self._workshop.options.model, self._workshop.options.scene
        yield {"head": self._opening.head(session)}
        yield from run_job(session, lambda s, emit, job: self._opening.first(s, emit, job, message))

    def _sync(self, session: Session, _message: Message) -> Iterator[Parts]:
        """A page that has heard nothing for a while: how far the work is, or all that holds."""
        parts = ALL if session.lab is not None and session.job is None else ()
        yield {"head": self._opening.head(session), "status": status(session), **panels(session, *parts)}

    def _open_wanted(self, session: Session, wanted: Wanted) -> Iterator[Parts]:
        yield from run_job(session, lambda s, emit, job: self._opening.wanted(s, emit, job, wanted))
        yield {"head": self._opening.head(session)}

    # ---- running --------------------------------------------------------------------------------------------------

    def _run_all(self, session: Session, message: Message) -> Iterator[Parts]:
        if session.job is not None:  # a second click while it runs asks for nothing new
            return
        if session.lab is None:  # it was stopped before it opened
            yield from run_job(session, lambda s, emit, job: self._opening.first(s, emit, job, message))
        else:
            yield from run_job(session, measure_change, first=lambda: panels(session, "map", "layer"))

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
            yield from run_job(session, lambda s, emit, job: self._opening.model(s, emit, job, name))
        yield {"head": self._opening.head(session)}

    def _fetch(self, job: Job, name: str) -> None:
        job.report(0, 0, f"loading {name}")
        self._workshop.model(name)

    def _scene(self, session: Session, message: Message) -> Iterator[Parts]:
        name = message.get("value")
        yield from self._replace_scene(session, lambda: self._workshop.chosen_scene(name))

    def _upload(self, session: Session, paths: Sequence[str]) -> Iterator[Parts]:
        yield from self._replace_scene(session, lambda: self._workshop.uploaded_scene(paths))

    def _replace_scene(self, session: Session, load: Callable[[], Scene]) -> Iterator[Parts]:
        yield from run_job(session, lambda s, emit, job: self._opening.scene(s, emit, job, load))
        yield {"head": self._opening.head(session)}

    def _load(self, session: Session, path: str) -> Iterator[Parts]:
        found = export.read_any(path)
        if isinstance(found, Recipe):
            yield from replace_recipe(session, found)
        elif isinstance(found, SessionRecord):
            yield from self._open_wanted(session, from_record(found, self._workshop))
        else:
            yield from export.take_over(session, found)

    # ---- plumbing -------------------------------------------------------------------------------------------------

    def _in_session(self, page: str, do: Callable[[Session], Iterator[Parts]]) -> Iterator[Parts]:
        try:
            session = self._store.of(page)
        except QuantLabError as error:
            yield {"status": refusal(explain(error))}
            return
        yield from guarded(session, lambda: do(session))
