"""How labs come to a page: the first one, one that a link or a session asks for, one on another model or scene."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from quantlab.app.measure import choose_first, measure_first, panels
from quantlab.app.messages import explain
from quantlab.app.results import Results
from quantlab.app.state import Session
from quantlab.app.status import head, status
from quantlab.app.tabs import ON_THEIR_TAB
from quantlab.app.wanted import Wanted, asked_for
from quantlab.app.work import Emit, Parts
from quantlab.app.workshop import Workshop, is_large
from quantlab.errors import JobCancelledError, QuantLabError

if TYPE_CHECKING:
    from quantlab.jobs import Job
    from quantlab.lab import Lab
    from quantlab.scenes.scene import Scene

ALL = ("map", "layer", "settings", "numbers", "compare", "memory", *ON_THEIR_TAB)


class Opening:
    """Puts labs into sessions. Methods that take a job are work; a lab that cannot be opened leaves the former one.

    Args:
        workshop: Makes the labs.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def head(self, session: Session) -> Parts:
        """What is open, and what else can be."""
        return head(session, self._workshop.models(), self._workshop.scenes(session.scene))

    def first(self, session: Session, emit: Emit, job: Job, message: Mapping[str, Any]) -> None:
        """The lab of a page that has just come: what it asks for, or else the one of the command line."""
        problem: QuantLabError | None = None
        try:
            wanted = asked_for(message, self._workshop)
            if wanted is not None:
                self.wanted(session, emit, job, wanted)
                return
        except JobCancelledError:
            raise
        except QuantLabError as error:
            problem = error
        options = self._workshop.options
        session.model, session.scene = options.model, options.scene
        lab = self._workshop.first_lab(job.part(0.0, 0.4))
        self.opened(session, emit, job.part(0.4, 1.0), lab, options.model)
        if problem is not None:
            session.message = explain(problem)

    def wanted(self, session: Session, emit: Emit, job: Job, wanted: Wanted) -> None:
        """What a link, a session or the memory of a tab asks for, with its history.

        Raises:
            QuantLabError: A recipe cannot be carried out on this model, or model or scene cannot be opened.
        """
        job.report(0, 0, f"loading {wanted.model}")
        model = self._workshop.model(wanted.model)
        scene = self._scene_for(session, wanted)
        lab = self._prepared(session, job, wanted.model, scene) or self._workshop.lab(wanted.model, scene)
        lab.resume(wanted.recipes, wanted.position)
        notes = [*wanted.notes]
        if wanted.fingerprint:
            from quantlab.models.fingerprint import fingerprint

            if fingerprint(model) != wanted.fingerprint:
                notes.append(
                    f"the weights of {wanted.model} are not those it was saved of; its numbers will differ"
                )
        layer = wanted.view.get("layer")
        session.show(layer=layer if layer in lab.structure.layers else "")
        self.opened(session, emit, job, lab, wanted.model)
        if notes:
            text = "; ".join(notes)
            session.message = {"problem": text[:1].upper() + text[1:], "remedy": ""}

    def model(self, session: Session, emit: Emit, job: Job, name: str) -> None:
        """Another model on the same scene: the same recipes where it has the same layers, else those it had before."""
        former, left = session.lab, session.model
        scene = former.evaluation[0] if former is not None else None
        lab = self._workshop.lab(name, scene or self._workshop.scene(self._workshop.options.scene))
        if former is not None:
            same = former.structure.layers.keys() == lab.structure.layers.keys()
            history = former.records if same else session.histories.get(name)
            if history is not None:
                lab.resume(*history)
            session.histories = {**session.histories, left: former.records}
        self.opened(session, emit, job, lab, name)

    def scene(self, session: Session, emit: Emit, job: Job, load: Callable[[], Scene]) -> None:
        """Another scene for the same model and recipes; undo reaches back beyond it."""
        job.report(0, 0, "reading the scene")
        scene, former = load(), session.open_lab()
        lab = self._workshop.lab(session.model, scene)
        lab.resume(*former.records)
        if lab.interactive:
            lab.compare(
                job=job.part(0.0, 0.3)
            )  # pictures the model cannot take leave the former scene in place
        self.opened(session, emit, job.part(0.3, 1.0), lab, session.model)

    def opened(self, session: Session, emit: Emit, job: Job, lab: Lab, model: str) -> None:
        """Put a lab in the place of the former one, show it, and measure it where that is a matter of seconds.

        Args:
            session: Gets the lab.
            emit: Tells the page.
            job: A lab whose job was stopped meanwhile changes nothing.
            lab: The new one.
            model: Its name on the list.
        """
        self._install(session, lab, job, model)
        emit({"head": self.head(session), "status": status(session), **panels(session, *ALL)})
        if not is_large(lab):
            lab.reference(job=job.part(0.0, 0.1))
            session.interactive = lab.interactive
        if session.interactive:
            measure_first(session, emit, job.part(0.1, 1.0))
        else:  # a slow model measures nothing before it is asked to
            choose_first(session)
            emit(panels(session, *ALL))

    def _install(self, session: Session, lab: Lab, job: Job, model: str) -> None:
        scene = lab.evaluation[0]
        with session.lock:
            job.check()
            # single layers were searched on calibration scenes, whichever scene is shown
            search = session.results.search if session.model == model else None
            session.lab, session.model, session.scene = lab, model, scene.name
            session.results = Results(search=search)
            session.stale, session.interactive = True, False
            layer = session.view.layer if session.view.layer in lab.structure.layers else ""
            by = "tre" if session.view.color_by == "blame" else session.view.color_by
            session.show(layer=layer, picked=frozenset(), left="full", right="now", region=None, color_by=by)
            session.shown = ()

    def _prepared(self, session: Session, job: Job, model: str, scene: Scene) -> Lab | None:
        """The lab warmed up at the start, where it is on this model and scene: it has measured much already."""
        options = self._workshop.options
        if session.lab is not None or (model, scene.name) != (options.model, options.scene):
            return None
        lab = self._workshop.first_lab(job.part(0.0, 0.4))
        pictures = lab.evaluation[0].images
        same = len(pictures) == len(scene) and all(map(np.array_equal, pictures, scene.images))
        return lab if same else None

    def _scene_for(self, session: Session, wanted: Wanted) -> Scene:
        if wanted.scene is not None:
            return wanted.scene()
        if session.lab is not None:
            return session.lab.evaluation[0]
        return self._workshop.scene(self._workshop.options.scene)
