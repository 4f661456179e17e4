"""Runs one task on many inputs so that all pause at the same points, where something is decided from all of them.

Block by block over all calibration scenes, without cutting a network into blocks: whatever stands between them runs
as it is. One task runs at a time, so that memory and results do not depend on timing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

Meet = Callable[[Hashable, Any], Any]
"""``meet(point, contribution)`` waits until every task still running has met or ended, and returns the decision."""
Task = Callable[[Meet], None]
Decide = Callable[[Hashable, list[Any]], Any]


def run_in_lockstep(tasks: Sequence[Task], decide: Decide) -> None:
    """Run ``tasks``; where they meet at a point, ``decide(point, contributions)`` answers them all.

    Tasks run in threads of their own, one at a time and always in the same order; thread-local modes of torch must be
    entered inside. When a task or the decision raises, the others are ended at their next meeting and the error is
    raised here.
    """
    workers = [_Worker(task) for task in tasks]
    try:
        _drive(workers, decide)
    finally:
        for worker in workers:
            worker.stop()


class _Stopped(BaseException):
    """Ends a task from outside; not an Exception, so that the task does not catch it."""


class _Worker:
    """A task in a thread that runs only between `resume` and its next meeting."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._orders: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
        self._news: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="quantlab-lockstep", daemon=True)
        self.started = False

    def resume(self, decision: Any) -> tuple[str, Any]:
        """Let the task run to its next meeting ("met", (point, contribution)) or to its end ("ended", error)."""
        if self.started:
            self._orders.put((True, decision))
        else:
            self.started = True
            self._thread.start()
        return self._news.get()

    def stop(self) -> None:
        """End the task at its next meeting, and wait for that."""
        if self.started:
            self._orders.put((False, None))
            self._thread.join()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with suppress(_Stopped):
                self._task(self._meet)
        except BaseException as caught:  # noqa: BLE001 - handed to the caller's thread and raised there
            error = caught
        self._news.put(("ended", error))

    def _meet(self, point: Hashable, contribution: Any) -> Any:
        self._news.put(("met", (point, contribution)))
        go, decision = self._orders.get()
        if not go:
            raise _Stopped
        return decision


def _drive(workers: Sequence[_Worker], decide: Decide) -> None:
    waiting: list[tuple[_Worker, Any]] = [(worker, None) for worker in workers]
    while waiting:
        met: dict[Hashable, list[tuple[_Worker, Any]]] = {}
        for worker, decision in waiting:
            kind, news = worker.resume(decision)
            if kind == "met":
                point, contribution = news
                met.setdefault(point, []).append((worker, contribution))
            elif news is not None:
                raise news
        waiting = []
        for point, group in met.items():
            decision = decide(point, [contribution for _, contribution in group])
            waiting += [(worker, decision) for worker, _ in group]
