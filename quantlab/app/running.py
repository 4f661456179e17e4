"""How a handler runs: work as the session's one job, and every failure as a message while the former state holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from quantlab.app.measure import panels
from quantlab.app.messages import explain
from quantlab.app.state import Session
from quantlab.app.status import refusal, status
from quantlab.app.work import LANE, Emit, Parts, stream
from quantlab.jobs import Job

Work = Callable[[Session, Emit, Job], None]
OVERTAKEN = "overtaken"
"""The key of the last thing a handler says whose job another one took the place of."""


def run_job(
    session: Session,
    work: Work,
    first: Callable[[], Parts] | None = None,
    *,
    lane: threading.Lock = LANE,
) -> Iterator[Parts]:
    """Run work as the session's job. A newer job takes the page over; then this one says nothing more.

    Args:
        session: Gets the job; its former one is stopped.
        work: Called with the session, a function that takes parts of the page as they become ready, and the job.
        first: What changes on the page at once, asked for when the job has begun.
        lane: Held while the work runs.
    """
    job = session.begin()
    session.message = {}
    yield {"status": status(session), **(first() if first else {})}

    def body(emit: Emit) -> None:
        try:
            work(session, emit, job)
        finally:
            session.end(job)

    try:
        for parts in stream(body, job, progress=lambda _: {"status": status(session)}, lane=lane):
            if session.job not in (job, None):
                yield {OVERTAKEN: True}
                return
            yield parts
    except Exception as error:  # noqa: BLE001 - said and logged; the page lives on
        session.end(job)  # it may have been stopped before it began
        if session.job is not None:
            yield {OVERTAKEN: True}
            return
        session.message = explain(error)
    yield _settled(session)


def guarded(session: Session | None, do: Callable[[], Iterator[Parts]]) -> Iterator[Parts]:
    """Run a handler; an error becomes a message, and the controls show again what holds."""
    try:
        yield from do()
    except Exception as error:  # noqa: BLE001 - said and logged; the page lives on
        if session is None:
            yield {"status": refusal(explain(error))}
        else:
            session.message = explain(error)
            yield _settled(session)


def follow(session: Session, *parts: str) -> Iterator[Parts]:
    """A page that came back while its work still runs: tell how far it is, then show the parts with what it found."""
    job = session.job
    if job is None:
        return

    pause = threading.Event()

    def wait(_emit: Emit) -> None:
        while session.job is job:
            job.check()
            pause.wait(0.2)

    yield from stream(wait, job, progress=lambda _: {"status": status(session)}, lane=threading.Lock())
    yield {"status": status(session), **panels(session, *parts)}


def _settled(session: Session) -> Parts:
    """The page after work ended: after a failure the controls and the views show again what holds."""
    if not session.message:
        return {"status": status(session)}
    again = (
        panels(session, "settings", "modules", "layer", "map", "compare", "calibration")
        if session.lab is not None
        else {}
    )
    return {"status": status(session), **again}
