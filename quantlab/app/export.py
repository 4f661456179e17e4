"""What a person takes away and brings back: session, profile, report; and which of them an uploaded file is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.app.changing import Message, Verb
from quantlab.app.kept import File, file_name
from quantlab.app.measure import measure_change, panels
from quantlab.app.recipes import recipe_panel
from quantlab.app.running import follow, run_job
from quantlab.app.status import status
from quantlab.app.work import Emit, Parts, stamped
from quantlab.engine.plain import parse
from quantlab.engine.recipe import Recipe
from quantlab.engine.session_file import read_text, to_text
from quantlab.engine.session_record import SessionRecord, from_plain, is_session
from quantlab.errors import StorageError

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.calibration.profile import Profile
    from quantlab.jobs import Job

Make = Callable[["Session", "Job"], File]
RECIPES = (".yaml", ".yml")


def read_any(path: str) -> Recipe | SessionRecord | Profile:
    """An uploaded recipe, session or profile, told apart by the ending of its name and what is inside.

    Raises:
        StorageError, RecipeError: It is none of them, or damaged.
    """
    file = Path(path)
    ending = file.suffix.lower()
    if ending == ".npz":
        from quantlab.calibration.profile_file import load_profile

        return load_profile(file)
    if ending in RECIPES:
        return Recipe.load(file)
    if ending != ".json":
        raise StorageError(
            "this is no recipe, session or profile",
            place=file.name,
            remedy="Choose a .yaml, .json or .npz file.",
        )
    data = parse(read_text(file), file.name, what="recipe or session", remedy="Save it again.")
    return from_plain(data, file.name) if is_session(data) else Recipe.from_dict(data, place=file.name)


def take_over(session: Session, profile: Profile) -> Iterator[Parts]:
    """Use a profile that was measured elsewhere.

    Raises:
        StorageError: It is of another network, or of other weights.
    """
    session.open_lab().use_profile(profile)
    with session.lock:
        session.results = replace(session.results, profile=profile)
        session.stale |= session.results.diagnosis is None
    yield {"status": status(session), **panels(session, "map", "layer", "modules")}


def _taking(make: Make, *, measured: Callable[[Session], bool] = lambda _: True) -> Verb:
    """A verb that makes a file as a job, after what runs, and tells the page where it is."""

    def take(session: Session, _message: Message) -> Iterator[Parts]:
        if session.lab is None:
            return
        yield from follow(session, "recipe")
        if session.job is not None:
            return
        made: list[File] = []

        def work(session: Session, emit: Emit, job: Job) -> None:
            if not measured(session):
                measure_change(session, emit, job.part(0.0, 0.6))
            made.append(make(session, job.part(0.6, 1.0)))

        yield from run_job(session, work)
        if made:
            download = {"address": session.keep_file(made[0]), "name": made[0].name}
            yield {"recipe": stamped(lambda: {**recipe_panel(session), "download": download})}

    return take


def _session_file(session: Session, job: Job) -> File:
    from quantlab.engine.session_notes import describe

    job.report(0, 0, "reading the weights")
    lab, view = session.open_lab(), session.view
    looked = {"layer": view.layer, "color_by": view.color_by, "panel": view.panel}
    text = to_text(replace(describe(lab), view={**lab.view, **looked}))
    return File(_named(session, ".quantlab.json"), text.encode())


def _profile_file(session: Session, job: Job) -> File:
    lab = session.open_lab()
    with tempfile.TemporaryDirectory(prefix="quantlab-") as folder:
        path = lab.save_profile(Path(folder) / "profile.npz", job=job)
        return File(_named(session, ".profile.npz"), path.read_bytes())


def _report_file(session: Session, job: Job) -> File:
    from quantlab.report.page import render

    page = render(session.open_lab(), job=job, command="made in the app")
    return File(_named(session, ".html"), page)


def _named(session: Session, ending: str) -> str:
    recipe = session.open_lab().recipe
    bits = [recipe.defaults.get(name, 16) for name in ("weights", "activations")]
    model = Path(session.model).stem if "/" in session.model else session.model
    return file_name(model, session.scene, recipe.name, f"W{bits[0]}A{bits[1]}", ending=ending)


def _known(session: Session) -> bool:
    """Whether everything that a report shows was measured under the recipe that holds."""
    return not session.stale


VERBS: dict[str, Verb] = {
    "take_session": _taking(_session_file),
    "take_profile": _taking(_profile_file),
    "take_report": _taking(_report_file, measured=_known),
}
