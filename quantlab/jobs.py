"""A piece of work that runs: how far it is, and whether it was asked to stop. It starts no thread and runs nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import NamedTuple

from quantlab.errors import JobCancelledError

Listener = Callable[["Job"], None]


class Progress(NamedTuple):
    """``done`` of ``total`` steps of the part that runs now, and what it is doing, in words."""

    done: int
    total: int
    text: str


class Job:
    """Progress and cancellation of one long call, shared between the thread that works and those that watch.

    The worker calls ``check()`` and ``report()`` between its steps; any other thread may call ``cancel()`` and read
    ``progress`` and ``fraction``. Every long function takes ``job=None`` and then runs without being watched.

    Args:
        listener: Called after every report, in the worker's thread.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._progress = Progress(0, 0, "")
        self._fraction = 0.0

    @property
    def progress(self) -> Progress:
        """The last report as (done, total, text)."""
        with self._lock:
            return self._progress

    @property
    def fraction(self) -> float:
        """Share of the whole job that is done, 0 to 1; parts of a job fill their slice of it."""
        with self._lock:
            return self._fraction

    @property
    def cancelled(self) -> bool:
        """Whether someone asked the job to stop."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Ask the worker to stop at its next check; a second call changes nothing."""
        self._stop.set()

    def check(self) -> None:
        """Stop here if asked to.

        Raises:
            JobCancelledError: ``cancel()`` was called.
        """
        if self.cancelled:
            raise JobCancelledError(
                "the job was stopped", place=self.progress.text, remedy="Start it again when you want it."
            )

    def report(self, done: int, total: int, text: str = "") -> None:
        """Say that ``done`` of ``total`` steps are behind; ``text`` names the step that comes."""
        self._publish(Progress(done, total, text), _share(done, total))

    def part(self, low: float, high: float) -> Job:
        """A view of this job whose reports fill its slice from ``low`` to ``high``; cancelling either stops both."""
        return _Part(self, low, high, self._stop)

    def _publish(self, progress: Progress, fraction: float) -> None:
        with self._lock:
            self._progress, self._fraction = progress, fraction
        if self._listener is not None:
            self._listener(self)


class _Part(Job):
    """A slice of another job: its reports are rescaled and passed on."""

    def __init__(self, whole: Job, low: float, high: float, stop: threading.Event) -> None:
        super().__init__(self._pass_on)
        self._whole, self._low, self._high = whole, low, high
        self._stop = stop

    def _pass_on(self, _part: Job) -> None:
        fraction = self._low + (self._high - self._low) * self.fraction
        self._whole._publish(self.progress, fraction)  # noqa: SLF001 - a part is made of its whole


def check(job: Job | None) -> None:
    """Stop here if ``job`` was cancelled; nothing for None."""
    if job is not None:
        job.check()


def step(job: Job | None, done: int, total: int, text: str = "") -> None:
    """Check, then report, for a job that may be None."""
    if job is not None:
        job.check()
        job.report(done, total, text)


def part(job: Job | None, index: int, count: int) -> Job | None:
    """The ``index``-th of ``count`` equal slices of a job that may be None."""
    return None if job is None else job.part(index / count, (index + 1) / count)


def between(job: Job | None, low: float, high: float) -> Job | None:
    """The slice from ``low`` to ``high`` of a job that may be None."""
    return None if job is None else job.part(low, high)


def divided(job: Job | None, *weights: float) -> tuple[Job | None, ...]:
    """Slices of a job that may be None, one behind the other, each as wide as its weight."""
    ends = (0.0, *accumulate(weights))
    total = ends[-1] or 1.0
    return tuple(between(job, low / total, high / total) for low, high in pairwise(ends))


def _share(done: int, total: int) -> float:
    return min(max(done / total, 0.0), 1.0) if total > 0 else 0.0
