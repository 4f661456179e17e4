"""What the widgets of one lab share: the selected layer, and who measures what again when. It draws nothing itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from quantlab.errors import JobCancelledError, QuantLabError
from quantlab.figures.readable import duration
from quantlab.jobs import Job
from quantlab.views.names import short_text

if TYPE_CHECKING:
    from quantlab.lab import Lab
    from quantlab.models.structure import Structure

REPORT_SECONDS = 0.2


class View(Protocol):
    """Something on the page that follows the lab. ``rank`` orders the work: lowest first."""

    rank: int
    stale: bool
    follows_selection: bool

    def settle(self) -> None:
        """Show what can be known without measuring anything. Any thread."""

    def update(self, job: Job) -> None:
        """Measure what it shows, and show it. Any thread."""

    def tell(self, *, status: str | None = None, error: str | None = None) -> None:
        """Say what is going on, or what went wrong; "" takes it away, None leaves it."""


class Desk:
    """One a lab, kept by the lab itself, so that widgets in several cells show the same thing.

    A change made by a person in a widget is followed at once. A change made by a cell is followed when the cell has
    ended, once, however many changes it made. Where a forward is slow, nothing starts by itself: ``run`` does, in
    a thread of its own, and ``stop`` ends it.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.selected = next(iter(lab.structure.layers), "")
        self.chosen = False
        self._views: list[View] = []
        self._lock = threading.RLock()
        self._editing = threading.local()
        self._waiting = False
        self._job: Job | None = None
        self._thread: threading.Thread | None = None
        self._aside: Job | None = None
        lab.subscribe(self._lab_changed)

    @classmethod
    def of(cls, lab: Lab) -> Desk:
        """The desk of a lab, made on first use."""
        desk = vars(lab).get("_widgets_desk")
        if not isinstance(desk, Desk):
            desk = cls(lab)
            vars(lab)["_widgets_desk"] = desk
        return desk

    def add(self, *views: View) -> None:
        """Let views follow the lab, and measure them now (later, on demand, where a forward is slow)."""
        self._views.extend(views)
        self.refresh()

    def remove(self, *views: View) -> None:
        """Forget views that were closed."""
        self._views = [view for view in self._views if view not in views]

    def select(self, name: str) -> None:
        """Look at another layer. An unknown name is ignored: it comes from the page."""
        if name in self.lab.structure.layers and name != self.selected:
            self.selected, self.chosen = name, True
            for view in self._views:
                view.stale |= view.follows_selection
            self.refresh()

    def edit(self, change: Callable[[], object]) -> str:
        """Carry out a change of the recipe and follow it.

        Returns:
            What was wrong with it (the recipe is then as it was), or "".
        """
        self._end_aside()
        self._editing.on = True
        try:
            change()
        except QuantLabError as error:
            return str(error)
        finally:
            self._editing.on = False
        self.invalidate()
        return ""

    def invalidate(self) -> None:
        """Everything shown may be out of date: measure it again."""
        for view in self._views:
            view.stale = True
        self.refresh()

    def refresh(self) -> None:
        """Bring what is stale up to date now; where that would be slow, say so and wait for ``run``."""
        for view in self._stale():
            self._guarded(view, view.settle)
        if self.lab.interactive:
            self._work(Job())
            return
        seconds = " ".join(duration(self.lab.estimate().seconds))
        for view in self._stale():
            view.tell(status=f"waiting: press Run (about {seconds})")

    def run(self) -> None:
        """Bring what is stale up to date in a thread; nothing happens where one is at it."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._work, args=(Job(),), daemon=True)
        self._thread.start()

    def aside(self, view: View, work: Callable[[Job], None]) -> None:
        """Carry out a longer work of one view in a thread of its own; the next change or the next such work ends it."""
        self._end_aside()
        job = self._aside = Job(_Teller(view, self.lab.structure))

        def run() -> None:
            self._guarded(view, lambda: work(job), status="measuring …")

        threading.Thread(target=run, daemon=True).start()

    def stop(self) -> None:
        """Ask the running work to end; what was shown before stays."""
        self._end_aside()
        if self._job is not None:
            self._job.cancel()

    def _end_aside(self) -> None:
        if self._aside is not None:
            self._aside.cancel()
            self._aside = None

    def _lab_changed(self, *_details: object) -> None:
        if getattr(self._editing, "on", False):
            return
        for view in self._views:
            view.stale = True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.refresh()
            return
        if not self._waiting:
            self._waiting = True
            loop.call_soon(self._after_the_cell)

    def _after_the_cell(self) -> None:
        self._waiting = False
        self.refresh()

    def _stale(self) -> list[View]:
        return sorted((view for view in self._views if view.stale), key=lambda view: view.rank)

    def _work(self, job: Job) -> None:
        with self._lock:
            self._job = job
            try:
                for view in self._stale():
                    if not job.cancelled:
                        self._update(view, job)
            finally:
                self._job = None

    def _update(self, view: View, job: Job) -> None:
        """Update one view; what was left undone stays stale, and what another thread changes meanwhile makes it so."""
        job._listener = _Teller(view, self.lab.structure)  # noqa: SLF001
        view.stale, done = False, False
        try:
            done = self._guarded(view, lambda: view.update(job), status="measuring …")
        finally:
            view.stale |= not done

    def _guarded(self, view: View, work: Callable[[], None], *, status: str = "") -> bool:
        """Do something for one view; what goes wrong is told in it, and the others go on. False: it was stopped."""
        if status:
            view.tell(status=status)
        try:
            work()
        except JobCancelledError:
            view.tell(status="stopped; this is the state before")
            return False
        except KeyboardInterrupt:
            view.tell(status="interrupted; this is the state before")
            raise
        except QuantLabError as error:
            view.tell(error=str(error))
        except Exception as error:  # noqa: BLE001 - a failing view never blanks the page
            view.tell(error=f"This is a bug in QuantLab: {type(error).__name__}: {error}")
        else:
            if status:
                view.tell(error="")
        if status:
            view.tell(status="")
        return True


class _Teller:
    """Shows a job's progress in a view, a few times a second."""

    def __init__(self, view: View, structure: Structure) -> None:
        self._view, self._structure = view, structure
        self._last = time.monotonic()

    def __call__(self, job: Any) -> None:
        if time.monotonic() - self._last > REPORT_SECONDS:
            self._last = time.monotonic()
            progress = job.progress
            share = f" {progress.done}/{progress.total}" if progress.total else ""
            text = short_text(progress.text, self._structure) or "measuring"
            self._view.tell(status=f"{text}{share} …")
