"""The order in which results are measured and told to the page, what is wanted most first. No arithmetic."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from quantlab import figures
from quantlab.app import table
from quantlab.app.calibration import calibration_panel, draft, known
from quantlab.app.compare import compare_panel
from quantlab.app.decide import decide_panel
from quantlab.app.layer import layer_panel
from quantlab.app.map import map_panel
from quantlab.app.memory import memory_panel
from quantlab.app.messages import explain
from quantlab.app.methods import methods_panel
from quantlab.app.panels import settings_panel
from quantlab.app.recipes import recipe_panel
from quantlab.app.sides import with_state
from quantlab.app.tabs import ON_THEIR_TAB
from quantlab.app.work import Emit, stamped
from quantlab.errors import JobCancelledError, QuantLabError, RecipeError
from quantlab.views.numbers import numbers

if TYPE_CHECKING:
    from quantlab.app.state import Session
    from quantlab.jobs import Job

BUILDERS: dict[str, Callable[[Session], Any]] = {
    "map": map_panel,
    "layer": layer_panel,
    "settings": settings_panel,
    "compare": compare_panel,
    "recipe": recipe_panel,
    "memory": memory_panel,
    "methods": methods_panel,
    "calibration": calibration_panel,
    "decide": decide_panel,
}


def panels(session: Session, *names: str) -> dict[str, Any]:
    """The named parts of the page; one that fails is left as it was, and the others come (the failure is logged)."""
    parts: dict[str, Any] = {}
    for name in names:
        try:
            if name == "numbers":
                parts[name] = stamped(lambda: _numbers(session))
            elif ON_THEIR_TAB.get(name, session.view.tab) != session.view.tab:
                continue
            elif name == "modules":
                parts[name] = table.rows(session)
            else:
                parts[name] = stamped(partial(BUILDERS[name], session))
        except Exception:  # noqa: BLE001 - one broken view must not blank the page
            traceback.print_exc(file=sys.stderr)
            session.message = session.message or {  # what went wrong first is what a person can act on
                "problem": f"The {name} view could not be drawn",
                "remedy": "The log says why.",
            }
    return parts


def measure_first(session: Session, emit: Emit, job: Job) -> None:
    """Everything, for a lab that has just opened: clouds, numbers, map, and the worst layer opened."""
    lab = session.open_lab()
    _clouds_and_numbers(session, emit, job.part(0.0, 0.4))
    session.learn(job, profile=lab.profile(job=job.part(0.4, 0.6)))
    emit(panels(session, "map"))
    _diagnosis(session, job.part(0.6, 0.95))
    choose_worst(session)
    _layer(session, job.part(0.95, 1.0))
    session.settle(job)
    emit(panels(session, "map", "layer", "settings", "modules", "numbers"))
    _pool_if_open(session, emit, job)


def measure_change(session: Session, emit: Emit, job: Job) -> None:
    """What a change of the recipe moves: the open layer, then clouds and numbers, then the map.

    Of a model that is not known to be fast the profile comes first, because its pass over the network gives the
    full-precision cloud and the layers' samples too, and the layer last.
    """
    lab = session.open_lab()
    if session.interactive:
        _layer(session, job.part(0.0, 0.1))
        emit(panels(session, "layer"))
    else:
        if session.results.profile is None:
            session.learn(job, profile=lab.profile(job=job.part(0.0, 0.3)))
            emit(panels(session, "map"))
        lab.reference(job=job.part(0.3, 0.35))
        session.interactive = lab.interactive
    _clouds_and_numbers(session, emit, job.part(0.35, 0.6))
    if session.results.profile is None:
        session.learn(job, profile=lab.profile(job=job.part(0.6, 0.7)))
    _diagnosis(session, job.part(0.7, 0.98))
    choose_worst(session)
    _layer(session, job.part(0.98, 1.0))
    session.settle(job)
    emit(panels(session, "map", "layer", "settings", "modules", "numbers"))
    _pool_if_open(session, emit, job)


def measure_layer(session: Session, emit: Emit, job: Job) -> None:
    """The layer that was just opened."""
    _layer(session, job)
    names = ("layer", "map") if session.view.color_by == "error" else ("layer",)
    emit(panels(session, *names))
    _pool_if_open(session, emit, job)


def measure_pool(session: Session, emit: Emit, job: Job) -> None:
    """The map of the pool, for the selection that the person looks at."""
    session.pooling = job
    emit(panels(session, "calibration"))
    lab, chosen = session.open_lab(), draft(session)
    key = (chosen, lab.recipe.seed)
    session.learn(job, pool={**session.results.pool, key: lab.pool_map(chosen, job=job)})
    emit(panels(session, "calibration"))


def measure_execution(session: Session, emit: Emit, job: Job) -> None:
    """Time and memory as this machine executes the recipe."""
    lab, again = session.open_lab(), session.results.measurement is not None
    found = lab.measure(again=again, job=job.part(0.0, 0.5))
    try:
        lowered = lab.measure(compute="bfloat16", again=again, job=job.part(0.5, 1.0))
    except RecipeError:  # a network of another build, or one that computes in bfloat16 already
        lowered = None
    session.learn(job, measurement=replace(found, lowered=lowered))
    emit(panels(session, "numbers", "map", "layer", "decide"))


def _pool_if_open(session: Session, emit: Emit, job: Job) -> None:
    """The map of the pool too, where its tab waits for it."""
    if session.view.tab == "calibration" and session.interactive and known(session) is None:
        measure_pool(session, emit, job)


def choose_worst(session: Session) -> None:
    """Open the worst layer, when none is open."""
    results = session.results
    if session.view.layer:
        return
    by = "tre" if results.diagnosis is not None else "kurtosis"
    ranked = figures.worst(figures.severities(by, results.profile, results.diagnosis), 1)
    names = [name for name, _ in ranked] or list(session.open_lab().structure.layers)[:1]
    session.show(layer=names[0] if names else "")


def choose_first(session: Session) -> None:
    """Open some layer of a large model, so that its settings can be changed before anything was measured."""
    lab = session.open_lab()
    inside = [name for name, item in lab.recipe.layers(lab.structure).items() if not item.keep]
    session.show(layer=(inside or list(lab.structure.layers) or [""])[0])


def _clouds_and_numbers(session: Session, emit: Emit, job: Job) -> None:
    lab = session.open_lab()
    try:
        recipe, comparison = lab.recipe, lab.compare(job=job.part(0.0, 0.6))
        session.learn(job, comparison=comparison, states=with_state(session, recipe, comparison))
    except JobCancelledError:
        raise
    except QuantLabError as error:  # a cloud that collapsed has no comparison, but it has numbers
        session.message = explain(error)
    evaluation = lab.evaluate(job=job.part(0.6, 1.0))
    session.learn(job, evaluation=evaluation, measurement=lab.measured())
    emit(panels(session, "compare", "numbers"))


def _diagnosis(session: Session, job: Job) -> None:
    session.learn(job, diagnosis=session.open_lab().diagnose(job=job))


def _layer(session: Session, job: Job) -> None:
    """Measure the open layer; one that is not quantizable on these scenes is left without a plot."""
    name = session.view.layer
    if not name or name in session.results.layers:
        return
    job.check()
    view = session.open_lab().layer(name, job=job)
    session.learn(job, layers={**session.results.layers, name: view})


def _numbers(session: Session) -> dict[str, Any]:
    results = session.results
    former = results.former.evaluation if results.former is not None else None
    plan = session.open_lab().plan()
    sizes = (plan.bytes, plan.full_bytes)
    timed = (results.measurement, results.former.measurement if results.former is not None else None)
    stale, measuring = results.evaluation is None, session.job is not None and session.job is session.timing
    now, before = (former, None) if stale else (results.evaluation, former)
    return numbers(now, before, sizes=sizes, stale=stale, measured=timed, measuring=measuring)
