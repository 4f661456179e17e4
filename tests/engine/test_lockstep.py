"""Running tasks in lockstep: everyone has arrived before anyone goes on, and nothing is left running after an error."""

from __future__ import annotations

import threading

import pytest

from quantlab.engine.lockstep import Meet, run_in_lockstep


def alive() -> int:
    return sum(thread.name == "quantlab-lockstep" for thread in threading.enumerate())


def test_a_decision_sees_all_contributions_in_order_and_all_tasks_see_the_decision():
    log: list[str] = []

    def task(index: int):
        def run(meet: Meet) -> None:
            for point in ("a", "b"):
                log.append(f"{index}{point}")
                assert meet(point, index) == f"{point}!"

        return run

    def decide(point, contributions):
        assert contributions == [0, 1, 2]
        log.append(point)
        return f"{point}!"

    run_in_lockstep([task(index) for index in range(3)], decide)
    assert log == ["0a", "1a", "2a", "a", "0b", "1b", "2b", "b"]
    assert alive() == 0


def test_tasks_may_end_early_and_there_may_be_none():
    seen = []
    tasks = [lambda meet: None, lambda meet: meet("x", 5)]
    run_in_lockstep(tasks, lambda point, given: seen.append((point, given)))
    run_in_lockstep([], lambda point, given: None)
    assert seen == [("x", [5])]


@pytest.mark.parametrize("where", ["task", "decision"])
def test_an_error_anywhere_ends_all_tasks_and_arrives_here(where):
    cleaned = []

    def task(index: int):
        def run(meet: Meet) -> None:
            try:
                meet("a", index)
                if where == "task" and index == 1:
                    raise KeyError("task")
                meet("b", index)
            finally:
                cleaned.append(index)

        return run

    def decide(point, contributions):
        if where == "decision" and point == "b":
            raise KeyError("decision")

    with pytest.raises(KeyError, match=where):
        run_in_lockstep([task(index) for index in range(3)], decide)
    assert sorted(cleaned) == [0, 1, 2]
    assert alive() == 0
