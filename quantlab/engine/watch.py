"""How much memory a piece of work takes, watched from the side. Anonymous pages; mapped weight files do not count."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from quantlab.memory import release

STATUS = Path("/proc/self/status")
EVERY_SECONDS = 0.005


def anonymous_bytes() -> int | None:
    """Anonymous memory of this process (RssAnon); None on a system that does not tell."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else None


class Watch:
    """The anonymous memory of this process while a block runs: where it began, and the largest that was seen."""

    def __init__(self) -> None:
        self._begin = self._peak = anonymous_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, daemon=True)

    @property
    def added(self) -> int | None:
        """Bytes over the beginning, at the most; None where the system does not tell."""
        return None if self._begin is None or self._peak is None else self._peak - self._begin

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Look every few milliseconds while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()
            self._look()

    def _keep_looking(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        now = anonymous_bytes()
        if now is not None and self._peak is not None:
            self._peak = max(self._peak, now)


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """Watch the block, beginning with nothing held that nobody needs any more."""
    release()  # what earlier work left behind is not counted to this
    watch = Watch()
    with watch.running():
        yield watch
