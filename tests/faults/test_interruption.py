"""Faults K2 to K8: work that is stopped, interrupted, doubled or overtaken."""

from __future__ import annotations

import threading
import time

import pytest

from quantlab.engine.plan import plan
from quantlab.errors import JobCancelledError
from quantlab.jobs import Job

LONG = ["profile", "diagnose", "evaluate"]


def steps_of(lab, verb: str) -> int:
    """How often the job reports when it runs to its end."""
    reports: list[float] = []
    getattr(lab, verb)(job=Job(lambda job: reports.append(job.fraction)))
    return len(reports)


def traces(lab) -> list[str]:
    """Modules of the user's network on which something was left behind."""
    return [
        name
        for name, module in lab.model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    ]


@pytest.mark.parametrize("verb", LONG)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_k4_a_stopped_job_leaves_the_lab_as_it_was(lab, refused, verb: str, share: float) -> None:
    last = int(share * (steps_of(type(lab)(lab.model, lab.calibration, lab.evaluation), verb) - 1))
    seen: list[str] = []

    def stop_in_time(job: Job) -> None:
        seen.append(job.progress.text)
        if len(seen) > last:
            job.cancel()

    with refused("stopped") as caught:
        getattr(lab, verb)(job=Job(stop_in_time))
    assert caught.type is JobCancelledError
    assert getattr(lab, verb)() is not None
    assert not traces(lab)


@pytest.mark.parametrize("verb", LONG)
def test_k7_ctrl_c_in_a_notebook_cell_leaves_no_hook_and_the_cell_can_run_again(lab, verb: str) -> None:
    def interrupt(job: Job) -> None:
        if job.fraction > 0:
            raise KeyboardInterrupt

    recipe, history = lab.recipe, lab.history
    with pytest.raises(KeyboardInterrupt):
        getattr(lab, verb)(job=Job(interrupt))
    assert not traces(lab)
    assert (lab.recipe, lab.history) == (recipe, history)
    assert getattr(lab, verb)() is not None


def test_k3_a_job_keeps_the_recipe_it_began_with(lab) -> None:
    expected = lab.evaluate().full_precision.outputs
    fresh = type(lab)(lab.model, lab.calibration, lab.evaluation, recipe=lab.recipe)

    def meddle(_job: Job) -> None:
        if not fresh.can_undo:
            fresh.set("*", weights=2)

    assert fresh.evaluate(job=Job(meddle)).full_precision.outputs == expected
    assert fresh.evaluate().full_precision.outputs != expected


def test_k2_k8_two_threads_that_ask_at_once_get_the_same_answer(lab) -> None:
    answers: list[object] = []
    threads = [threading.Thread(target=lambda: answers.append(lab.evaluate())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(answers) == 3
    assert answers[0] is answers[1] is answers[2]


def test_k8_edits_from_several_threads_are_all_kept(lab, monkeypatch) -> None:
    def slow_plan(*arguments):
        time.sleep(0.01)  # between reading the recipe and storing the new one
        return plan(*arguments)

    monkeypatch.setattr("quantlab.lab.plan", slow_plan)
    lab.redo()
    rules, length = len(lab.recipe.rules), len(lab.history)
    threads = [
        threading.Thread(target=lambda bits=bits: lab.set(f"*blocks.0*{bits}", keep=True))
        for bits in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(lab.recipe.rules) == rules + 8
    assert len(lab.history) == length + 8
