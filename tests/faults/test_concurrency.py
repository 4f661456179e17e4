"""Faults K1 to K10: work that is stopped, interrupted, doubled or overtaken, and people who must not meet."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

import pytest

import quantlab as ql
from quantlab.engine import desk
from quantlab.engine.plan import plan
from quantlab.errors import JobCancelledError
from quantlab.jobs import Job

LONG = ["profile", "diagnose", "evaluate", "compare"]
CALIBRATED = {
    "smoothquant": ql.Recipe.preset("smoothquant"),
    "quantvggt": ql.Recipe.preset("quantvggt"),
    "compensated": ql.Recipe.preset("taptq").set("*", compensation="on", tre_threshold=0.0),
}
LAYER = "aggregator.frame_blocks.1.mlp.fc2"


def steps_of(ask: Callable[[Job], object]) -> int:
    """How often the job reports when it runs to its end."""
    reports: list[str] = []
    ask(Job(lambda job: reports.append(job.progress.text)))
    return len(reports)


def stopped_at(last: int, stop: Callable[[Job], object]) -> Job:
    """A job that is stopped at its report number ``last``."""
    seen: list[str] = []

    def listen(job: Job) -> None:
        seen.append(job.progress.text)
        if len(seen) > last:
            stop(job)

    return Job(listen)


def interrupt(_job: Job) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("verb", LONG)
def test_k4_a_stopped_job_leaves_the_lab_as_it_was(make_lab, refused, verb: str) -> None:
    steps = steps_of(lambda job: getattr(make_lab(), verb)(job=job))
    for last in (0, steps // 2):
        bench = make_lab()
        with refused("stopped", lab=bench) as caught:
            getattr(bench, verb)(job=stopped_at(last, Job.cancel))
        assert caught.type is JobCancelledError
        assert getattr(bench, verb)() is not None


@pytest.mark.parametrize("recipe", CALIBRATED)
def test_k4_stop_is_heard_in_calibration_and_while_layers_are_quantized(
    make_lab, refused, recipe: str
) -> None:
    fresh = make_lab(recipe=CALIBRATED[recipe])
    steps = steps_of(lambda job: fresh.evaluate(job=job))
    for last in (2, steps // 3, 2 * steps // 3):
        bench = make_lab(recipe=CALIBRATED[recipe])
        with refused("stopped", lab=bench) as caught:
            bench.evaluate(job=stopped_at(last, Job.cancel))
        assert last > 2 or re.search("quantize|learn|round|scene 1", caught.value.place)
        assert bench.evaluate().full_precision == fresh.evaluate().full_precision


def test_k4_stop_is_heard_while_a_layer_is_looked_at(make_lab, refused) -> None:
    bench = make_lab(recipe=CALIBRATED["smoothquant"])
    with refused("stopped", lab=bench):
        bench.layer(LAYER, job=stopped_at(2, Job.cancel))
    assert bench.layer(LAYER).output_error > 0


@pytest.mark.parametrize("verb", LONG)
def test_k7_ctrl_c_in_a_notebook_cell_leaves_no_trace_and_the_cell_can_run_again(
    lab, unchanged, verb: str
) -> None:
    lab.redo()
    with unchanged(), pytest.raises(KeyboardInterrupt):
        getattr(lab, verb)(job=stopped_at(2, interrupt))
    assert getattr(lab, verb)() is not None


@pytest.mark.parametrize("recipe", CALIBRATED)
def test_k7_ctrl_c_while_quantizing_leaves_a_lab_that_gives_the_numbers_of_a_fresh_one(
    make_lab, unchanged, recipe: str
) -> None:
    bench = make_lab(recipe=CALIBRATED[recipe])
    with unchanged(bench), pytest.raises(KeyboardInterrupt):
        bench.evaluate(job=stopped_at(15, interrupt))
    fresh = make_lab(recipe=CALIBRATED[recipe])
    assert bench.evaluate().full_precision == fresh.evaluate().full_precision


def test_k3_a_job_keeps_the_recipe_it_began_with(lab, make_lab) -> None:
    expected = lab.evaluate().full_precision
    fresh = make_lab(recipe=lab.recipe)

    def meddle(_job: Job) -> None:
        if not fresh.can_undo:
            fresh.set("*", weights=2)

    assert fresh.evaluate(job=Job(meddle)).full_precision == expected
    assert fresh.evaluate().full_precision != expected


def together(*calls: Callable[[], object]) -> None:
    """Make the calls at once and wait for all."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)


def test_k2_k8_threads_that_ask_at_once_get_the_one_answer(lab) -> None:
    lab.redo()
    answers: list[object] = []
    together(*[lambda: answers.append(lab.evaluate())] * 3)
    assert len(answers) == 3
    assert answers[0] is answers[1] is answers[2]


def test_k8_edits_from_several_threads_are_all_kept(lab, monkeypatch) -> None:
    def slow_plan(*arguments):
        time.sleep(0.01)  # between reading the recipe and storing the new one
        return plan(*arguments)

    monkeypatch.setattr(desk, "plan", slow_plan)
    lab.redo()
    rules, length = len(lab.recipe.rules), len(lab.history)
    layers = list(lab.structure.layers)[:8]
    together(*(lambda name=name: lab.set(name, keep=True) for name in layers))
    assert len(lab.recipe.rules) == rules + 8
    assert len(lab.history) == length + 8


def test_k1_two_labs_on_one_model_at_once_get_what_each_gets_alone(make_lab, unchanged) -> None:
    recipes = [ql.Recipe.preset("rtn", weights=2), CALIBRATED["smoothquant"]]
    alone = [make_lab(recipe=recipe).evaluate().full_precision for recipe in recipes]
    labs = [make_lab(recipe=recipe) for recipe in recipes]
    found: dict[int, object] = {}
    with unchanged():
        together(
            lambda: found.update({0: labs[0].evaluate().full_precision}),
            lambda: found.update({1: labs[1].evaluate().full_precision}),
        )
    assert [found[0], found[1]] == alone


def test_k10_a_listener_that_fails_keeps_no_other_from_hearing(lab) -> None:
    heard: list[ql.Recipe] = []

    def broken(_recipe: ql.Recipe) -> None:
        raise ZeroDivisionError

    lab.subscribe(heard.append)
    leave = lab.subscribe(broken)
    lab.subscribe(heard.append)
    with pytest.raises(ZeroDivisionError):
        lab.redo()
    assert heard == [lab.recipe] * 2
    leave()
    lab.undo()
    assert len(heard) == 4


def test_k2_a_second_click_on_run_starts_nothing(tab) -> None:
    session, job = tab.session, Job()
    session.job = job
    assert list(tab.actions.act(tab.page, {"do": "run"})) == []
    assert session.job is job
    session.end(job)
    assert list(tab.actions.act(tab.page, {"do": "run"}))
    assert not session.message


def test_k1_k5_a_second_tab_gets_its_own_lab_and_a_reloaded_one_its_former(tab) -> None:
    first, recipe = tab.session, tab.session.lab.recipe
    list(tab.actions.act("other", {"do": "ready", "handle": first.handle}))
    list(tab.actions.act("other", {"do": "preset", "name": "quarot", "weights": 8, "activations": 8}))
    assert tab.store.of("other").lab.recipe.name == "quarot"
    assert first.lab.recipe == recipe
    tab.actions.leave(tab.page)
    list(tab.actions.act("reloaded", {"do": "ready", "handle": first.handle}))
    assert tab.store.of("reloaded") is first
    assert first.lab.recipe == recipe
