"""What a person does with the two clouds: which stand where, which error, cleaned or not, taken away as a file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from quantlab.app.changing import Message, Verb
from quantlab.app.compare import compare_panel, prepared
from quantlab.app.kept import File, file_name
from quantlab.app.measure import panels
from quantlab.app.running import follow, run_job
from quantlab.app.sides import base, is_side, missing, with_state
from quantlab.app.work import Emit, Parts, stamped
from quantlab.engine.cloud_files import Side, clouds_as
from quantlab.errors import JobCancelledError, QuantLabError
from quantlab.geometry.cleaning import Cleaning
from quantlab.views.clouds import ERRORS

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.jobs import Job

TAKEN = {"left": ".ply", "right": ".ply", "both": ".glb"}
"""What can be taken away, and as which kind of file."""


def _put(name: str) -> Verb:
    """A verb that puts another cloud on the side ``name``; a state that was not measured is measured first."""

    def put(session: Session, message: Message) -> Iterator[Parts]:
        side, before = message.get("value"), getattr(session.view, name)
        if session.lab is None or not is_side(session, side):
            return
        session.show(**{name: side})
        if not missing(session):
            yield panels(session, "compare")
            return
        yield from follow(session, "compare")  # what runs is worth more than another look
        if getattr(session.view, name) == side and missing(session) and session.job is None:
            yield from run_job(session, _measure_states)
            if missing(session):  # stopped or failed
                session.show(**{name: before})
        yield panels(session, "compare")

    return put


def _measure_states(session: Session, emit: Emit, job: Job) -> None:
    """The clouds of the states that are to be shown; lab and history stay as they are."""
    lab, recipes = session.open_lab(), missing(session)
    for index, recipe in enumerate(recipes):
        section = job.part(index / len(recipes), (index + 1) / len(recipes))
        comparison = lab.compare(recipe=recipe, job=section)
        session.learn(job, states=with_state(session, recipe, comparison))
    emit(panels(session, "compare"))


def _error(session: Session, message: Message) -> Iterator[Parts]:
    if message.get("value") in ERRORS:
        yield from _look(session, error=message["value"])


def _clean(session: Session, message: Message) -> Iterator[Parts]:
    """Clean both clouds alike, or take that back; values that are refused change nothing."""
    changes, wanted = message.get("changes"), {}
    if isinstance(changes, dict):
        known = {item.name: _number(changes[item.name]) for item in fields(Cleaning) if item.name in changes}
        wanted["cleaning"] = replace(session.view.cleaning, **known)
    if isinstance(message.get("on"), bool):
        wanted["clean"] = message["on"]
    yield from _look(session, **wanted)


def _number(value: Any) -> Any:
    """A number as a page sends it: 20.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _look(session: Session, **wanted: Any) -> Iterator[Parts]:
    """Show the clouds in another way: as a job, unless other work runs, which is not stopped for it."""
    before = {name: getattr(session.view, name) for name in wanted}

    def work(session: Session, emit: Emit, job: Job) -> None:
        try:
            if base(session) is not None:
                prepared(session, job)
        except JobCancelledError:
            session.show(**before)  # or the page would wait for what was just stopped
            raise
        except QuantLabError:
            pass  # the panel says what is missing
        emit(panels(session, "compare"))

    if session.lab is None:
        return
    session.show(**wanted)
    if session.job is None:
        yield from run_job(session, work)
    else:
        yield panels(session, "compare")


def _take(session: Session, message: Message) -> Iterator[Parts]:
    """Make a file of what is shown, and tell the page where it is.

    Raises:
        QuantLabError: There is no cloud yet, or no point is left under the filters.
    """
    what = message.get("value")
    if session.lab is None or what not in TAKEN:
        return
    shown = prepared(session)
    kept = shown.pair.visible(frames=_frames(message), confidence=_percent(message))
    sides = [
        Side(label, side)
        for label, side in zip(shown.labels, (shown.pair.left, shown.pair.right), strict=True)
    ]
    wanted = sides if what == "both" else [sides[("left", "right").index(str(what))]]
    data = clouds_as(TAKEN[str(what)], wanted, kept)
    name = file_name(session.scene, *(side.name for side in wanted), ending=TAKEN[str(what)])
    address = session.keep_file(File(name, data))
    yield {
        "compare": stamped(lambda: {**compare_panel(session), "download": {"address": address, "name": name}})
    }


def _frames(message: Message) -> Collection[int] | None:
    """The frames a viewer shows; None for all.

    Raises:
        QuantLabError: They are no list of numbers.
    """
    frames = message.get("frames")
    if frames is None:
        return None
    if not isinstance(frames, list) or not all(isinstance(index, int) for index in frames):
        raise QuantLabError("the frames are no list of numbers", remedy="Reload the page.")
    return frozenset(frames)


def _percent(message: Message) -> float:
    value = message.get("confidence", 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 100:
        raise QuantLabError("the confidence is no percentage", remedy="Reload the page.")
    return float(value)


VERBS: dict[str, Verb] = {
    "left": _put("left"),
    "right": _put("right"),
    "error": _error,
    "clean": _clean,
    "take": _take,
}
