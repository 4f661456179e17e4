"""What one browser tab sees: its lab, what it looks at, what was measured; and the bounded store of all of them."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from quantlab.app.decide_view import Deciding
from quantlab.app.kept import File, Kept
from quantlab.app.results import Results
from quantlab.errors import DeviceError, QuantLabError
from quantlab.geometry.cleaning import Cleaning
from quantlab.jobs import Job
from quantlab.memory import release

if TYPE_CHECKING:
    from quantlab.app.compare import Shown
    from quantlab.engine.recipe import Recipe
    from quantlab.engine.selection_settings import Selection
    from quantlab.lab import Lab

MOST_SESSIONS = 8
GRACE_SECONDS = 90.0
"""A page that is reloaded or a laptop that slept for less finds its lab again."""
MOST_CLOUDS = MOST_FILES = 3


@dataclass(frozen=True, slots=True)
class View:
    """What the person looks at; changing it measures nothing anew. ``selection`` is one tried, not applied yet;
    ``cleaning`` says how the clouds are cleaned where ``clean`` is on; ``region`` is the viewer's event, checked.
    """

    layer: str = ""
    color_by: str = "tre"
    streams: str = "trunk"
    panel: str = "histogram"
    side: str = "inputs"
    relief: str = "flat"
    left: str = "full"
    right: str = "now"
    error: str = "paired"
    clean: bool = False
    cleaning: Cleaning = field(default_factory=Cleaning)
    apply_to: str = "layer"
    tab: str = "bench"
    picked: frozenset[str] = frozenset()
    selection: Selection | None = None
    region: Mapping[str, Any] | None = None
    decide: Deciding = field(default_factory=Deciding)


class Session:
    """One tab's lab. Everything in it but the lab and the job is replaced whole, never changed.

    Attributes:
        handle: Secret name of the session; the tab keeps it to find its lab after a reload.
        lab: None until it is open.
        interactive: Whether edits are followed at once: a forward pass is short.
        stale: Whether the recipe changed since everything was last measured; then there is something to run.
        pooling, blaming, searching, timing: The jobs that last looked at the pool, for the layers that damage a region,
            for the bits of every layer, and at the time of a forward pass.
        message: What went wrong last, for the person; "" for nothing.
        exported: Where the model was last written, what is said of it, and the code that runs it; or, with a "target",
            where an earlier export stands, which waits for a yes.
        shown: The pairs of clouds that were prepared to be shown of late, the last one first.
    """

    def __init__(self) -> None:
        self.handle = secrets.token_urlsafe(24)
        self.lock = threading.RLock()
        self.lab: Lab | None = None
        self.model = ""
        self.scene = ""
        self.view = View()
        self.results = Results()
        self.job: Job | None = None
        self.pooling: Job | None = None
        self.blaming: Job | None = None
        self.searching: Job | None = None
        self.timing: Job | None = None
        self.interactive = False
        self.stale = False
        self.message: dict[str, str] = {}
        self.histories: dict[str, tuple[tuple[Recipe, ...], int]] = {}  # of the models that were open before
        self.version = 0
        self._clouds: Kept[bytes] = Kept(MOST_CLOUDS)
        self._files: Kept[File] = Kept(MOST_FILES)
        self.shown: tuple[Shown, ...] = ()
        self.exported: dict[str, str] = {}

    def open_lab(self) -> Lab:
        """The lab.

        Raises:
            QuantLabError: It is not open yet.
        """
        if self.lab is None:
            raise QuantLabError("the lab is still opening", remedy="Wait a moment, then try again.")
        return self.lab

    def show(self, **changes: Any) -> None:
        """Look at something else."""
        self.view = replace(self.view, **changes)

    def learn(self, job: Job, **results: Any) -> None:
        """Take in what a job measured, unless it was stopped meanwhile: then the recipe may be another one.

        Raises:
            JobCancelledError: It was.
        """
        with self.lock:
            job.check()
            self.results = replace(self.results, **results)

    def settle(self, job: Job) -> None:
        """All that a job was to measure is there.

        Raises:
            JobCancelledError: It was stopped, so it is not.
        """
        with self.lock:
            job.check()
            self.stale = False

    def begin(self) -> Job:
        """A job for new work; the work that runs is stopped, because its result is no longer wanted."""
        with self.lock:
            self.stop()
            self.job = Job()
            return self.job

    def end(self, job: Job) -> None:
        """Forget the job, unless another one took its place."""
        with self.lock:
            if self.job is job:
                self.job = None

    def stop(self) -> None:
        """Ask the work that runs to stop."""
        if self.job is not None:
            self.job.cancel()

    def keep_cloud(self, data: bytes) -> str:
        """Keep a payload for the viewer to fetch, and answer its name; the oldest is dropped."""
        with self.lock:
            return self._clouds.keep(data)

    def cloud(self, name: str) -> bytes | None:
        """The payload of that name, if it is still kept."""
        return self._clouds.get(name)

    def keep_file(self, file: File) -> str:
        """Keep a file for the person to take away, and answer its address; the oldest is dropped."""
        with self.lock:
            return f"/quantlab/files/{self.handle}/{self._files.keep(file)}"

    def file(self, name: str) -> File | None:
        """The file of that name, if it is still kept."""
        return self._files.get(name)

    def close(self) -> None:
        """Free everything large."""
        with self.lock:
            self.stop()
            self.lab = None
            self.results = Results()
            self.shown = ()
            self._clouds.clear()
            self._files.clear()
        release()


@dataclass(slots=True)
class _Seat:
    session: Session
    page: str
    left_at: float | None = None


class Store:
    """All sessions, at most ``most`` of them; those whose tab is gone are freed after ``grace`` seconds.

    Args:
        most: Beyond it, the tab that left first makes room; where none left, the newcomer is refused.
        grace: Seconds a lab outlives its tab.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        *,
        most: int = MOST_SESSIONS,
        grace: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._grace, self._clock = most, grace, clock
        self._lock = threading.Lock()
        self._seats: dict[str, _Seat] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def join(self, page: str, handle: str = "") -> Session:
        """The session of a page that has just loaded: the one ``handle`` names if its tab left, else a new one.

        A page that asks again, because it heard no answer, gets the one it has.

        Raises:
            DeviceError: As many labs as this process may hold are in use.
        """
        with self._lock:
            self._sweep()
            for seat in self._seats.values():
                if seat.page == page:
                    seat.left_at = None
                    return seat.session
            former = self._seats.get(handle)
            if former is not None and former.left_at is not None:
                former.page, former.left_at = page, None
                return former.session
            self._make_room()
            session = Session()
            self._seats[session.handle] = _Seat(session, page)
            return session

    def knows(self, page: str) -> bool:
        """Whether a page has a session."""
        with self._lock:
            return any(seat.page == page for seat in self._seats.values())

    def of(self, page: str) -> Session:
        """The session of a page.

        Raises:
            QuantLabError: It was freed.
        """
        with self._lock:
            for seat in self._seats.values():
                if seat.page == page:
                    seat.left_at = None
                    return seat.session
        raise QuantLabError("this page has lost its lab", remedy="Reload the page.")

    def leave(self, page: str) -> None:
        """A tab closed: its lab is freed after the grace time, or as soon as room is needed."""
        with self._lock:
            for seat in self._seats.values():
                if seat.page == page:
                    seat.left_at = self._clock()
        timer = threading.Timer(self._grace + 1, self.sweep)
        timer.daemon = True
        timer.start()

    def sweep(self) -> None:
        """Free the labs whose tab has been gone for the grace time."""
        with self._lock:
            self._sweep()

    def named(self, handle: str) -> Session | None:
        """The session of that secret name, as long as it is open."""
        with self._lock:
            seat = self._seats.get(handle)
        return seat.session if seat else None

    def _sweep(self) -> None:
        now = self._clock()
        for handle, seat in list(self._seats.items()):
            if seat.left_at is not None and now - seat.left_at >= self._grace:
                self._free(handle)

    def _make_room(self) -> None:
        while len(self._seats) >= self._most:
            gone = [
                (seat.left_at, handle) for handle, seat in self._seats.items() if seat.left_at is not None
            ]
            if not gone:
                raise DeviceError(
                    f"{len(self._seats)} labs are open, which is all this process holds",
                    remedy="Close a tab, then reload this page.",
                )
            self._free(min(gone)[1])

    def _free(self, handle: str) -> None:
        self._seats.pop(handle).session.close()
