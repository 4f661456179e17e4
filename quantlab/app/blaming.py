"""What happens when a person marks a region: its layers are found, one is restored or given more bits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from quantlab.app.blame import raised
from quantlab.app.changing import Message, Verb, replace_recipe
from quantlab.app.measure import panels
from quantlab.app.running import run_job
from quantlab.app.work import Emit, Parts
from quantlab.errors import SceneError
from quantlab.views.region import SIZES, region_from

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.engine.blame_record import Blame
    from quantlab.jobs import Job

VERIFIED = 8
"""Suspects that are measured of a slow model."""
VERIFIED_FAST = 48
"""Of a model that follows every edit: mostly all."""
PERIOD_SECONDS = 0.3


def _region(session: Session, message: Message) -> Iterator[Parts]:
    """Take a region over, or that it was wiped; its layers are found where that is a matter of seconds.

    Raises:
        SceneError: It is no region of the clouds that were compared.
    """
    compared = session.results.comparison or (session.results.former and session.results.former.comparison)
    if not compared:
        raise SceneError("there is no cloud to mark", place="region", remedy="Wait until it is compared.")
    drawn = region_from(message, compared.errors.shape).any()
    _forget(session)
    if not drawn:
        by = "tre" if session.view.color_by == "blame" else session.view.color_by
        session.show(region=None, color_by=by)
    else:
        kept = {name: message[name] for name in (*SIZES, "mask")}
        session.show(region=kept, color_by="blame")
    free = session.job is None or session.job is session.blaming
    if drawn and session.interactive and free and not session.stale:
        yield from _find(session, message)
        return
    yield panels(session, "map")


def _forget(session: Session) -> None:
    """What is found of a region, and was, is of no use for another: a job that looks at the former one is stopped."""
    with session.lock:
        if session.job is not None and session.job is session.blaming:
            session.stop()
        former = session.results.former
        former = None if former is None else replace(former, blame=None)
        session.results = replace(session.results, blame=None, former=former)


def _find(session: Session, _message: Message) -> Iterator[Parts]:
    """Find the layers that damage the region under the recipe as it is now."""
    if session.view.region is not None:
        yield from run_job(session, _blame, first=lambda: _begun(session))
        yield panels(session, "map")


def _begun(session: Session) -> Parts:
    """The map says that its suspects are looked for."""
    session.blaming = session.job
    return panels(session, "map")


def _blame(session: Session, emit: Emit, job: Job) -> None:
    lab, drawn = session.open_lab(), session.view.region
    shown_at = 0.0

    def found(blame: Blame) -> None:
        nonlocal shown_at
        session.learn(job, blame=blame)
        if time.monotonic() - shown_at > PERIOD_SECONDS:
            emit(panels(session, "map"))
            shown_at = time.monotonic()

    shape = lab.compare(job=job.part(0.0, 0.1)).errors.shape
    verify = VERIFIED_FAST if session.interactive else VERIFIED
    region = region_from(drawn, shape)
    session.learn(job, blame=lab.blame(region, verify=verify, found=found, job=job.part(0.1, 1.0)))


def _restore(session: Session, message: Message) -> Iterator[Parts]:
    """Keep a layer in full precision; undo takes it back."""
    lab, name = session.open_lab(), message.get("layer")
    if isinstance(name, str) and name in lab.structure.layers:
        yield from replace_recipe(session, lab.recipe.set(name, keep=True))


def _raise(session: Session, message: Message) -> Iterator[Parts]:
    """Give a layer the next higher bits; undo takes them back."""
    lab, name = session.open_lab(), message.get("layer")
    if not isinstance(name, str) or name not in lab.structure.layers:
        return
    higher = raised(lab.recipe.layer(name, lab.structure))
    if higher:
        yield from replace_recipe(session, lab.recipe.set(name, **higher))


VERBS: dict[str, Verb] = {"region": _region, "blame": _find, "restore": _restore, "raise": _raise}
