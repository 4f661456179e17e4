"""Long work in a thread of its own, told to the page step by step, and stoppable. It knows nothing of quantization."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any

from quantlab.jobs import Job

Parts = Mapping[str, Any]
"""What changes on the page: name of a part to its new value."""
Emit = Callable[[Parts], None]

_numbers = count(1)
PERIOD_SECONDS = 0.2
PATIENCE_SECONDS = 1.5
"""So long a stopped worker may take to come to its next check; then the page goes on without it."""
LANE = threading.Lock()
"""One piece of heavy work at a time in this process: two at once would only slow each other down."""


def stamped(build: Callable[[], Any]) -> dict[str, Any]:
    """A value with a number taken before the state is read: of two values the page keeps the one with the larger.

    Whatever a handler changed before it took its number is in every value with a larger one, whoever is faster.
    """
    number = next(_numbers)
    return {"number": number, "value": build()}


class _Done:
    """The worker ended; ``error`` says how, None for well."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def stream(
    work: Callable[[Emit], None], job: Job, *, progress: Callable[[Job], Parts], lane: threading.Lock = LANE
) -> Iterator[Parts]:
    """Run ``work`` in a thread and yield what it emits, with its progress in between.

    Closing the iterator leaves the work running: a page that was reloaded finds its results. Only
    ``job.cancel()`` stops it.

    Args:
        work: Called with a function that takes the parts of the page that are ready.
        job: Cancels the work, also while it still waits for the lane.
        progress: Turns the job's progress into parts, several times a second.
        lane: Held while the work runs.

    Raises:
        JobCancelledError: The job was stopped; a worker that is stuck meanwhile (in a download, say) is left behind.
        Exception: Whatever the work raised.
    """
    messages: SimpleQueue[Parts | _Done] = SimpleQueue()
    threading.Thread(target=_run, args=(work, job, messages, lane), daemon=True).start()
    told: object = None
    stopped = 0.0
    while True:
        try:
            message = messages.get(timeout=PERIOD_SECONDS)
        except Empty:
            stopped += PERIOD_SECONDS if job.cancelled else 0.0
            if stopped > PATIENCE_SECONDS:
                job.check()
            now = (job.progress, job.cancelled)
            if now != told:
                told = now
                yield progress(job)
            continue
        if isinstance(message, _Done):
            if message.error is not None:
                raise message.error
            return
        yield message


def _run(
    work: Callable[[Emit], None], job: Job, messages: SimpleQueue[Parts | _Done], lane: threading.Lock
) -> None:
    try:
        _take(lane, job)
    except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
        messages.put(_Done(error))
        return
    try:
        work(messages.put)
    except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
        messages.put(_Done(error))
    else:
        messages.put(_Done(None))
    finally:
        lane.release()


def _take(lane: threading.Lock, job: Job) -> None:
    """Wait for the lane, but no longer than the job is wanted."""
    if lane.acquire(blocking=False):
        return
    job.report(0, 0, "waiting for other work on this machine")
    while not lane.acquire(timeout=PERIOD_SECONDS):
        job.check()
