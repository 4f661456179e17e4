"""Measures a cell in this process and writes its file; and is the process that does so when told. Plans nothing."""

from __future__ import annotations

import multiprocessing.connection
import os
import platform
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab import __version__
from quantlab.bench.cells import Cell, Record, record, write
from quantlab.errors import JobCancelledError, QuantLabError
from quantlab.jobs import Job

if TYPE_CHECKING:
    from quantlab.bench.bed import Bed

FREE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Task:
    """A cell, the model's name or path, the folder of results, and the command that asked."""

    cell: Cell
    source: str
    folder: Path
    command: str = ""


class Worker:
    """Measures tasks one after the other; the network of the last task stays loaded."""

    def __init__(self) -> None:
        import quantlab.lab  # noqa: F401 -- what has only imported is the zero of the memory figures
        from quantlab.engine.watch import anonymous_bytes

        self._baseline = anonymous_bytes()
        self._bed: Bed | None = None
        self._at: tuple[object, ...] = ()

    def do(self, task: Task, job: Job | None = None) -> Record:
        """Measure a cell and write its file. What fails is written too, with the reason.

        Raises:
            StorageError: The file cannot be written.
            JobCancelledError: The job was cancelled; nothing is written.
        """
        start = time.perf_counter()
        measured, reason = None, ""
        try:
            from quantlab.engine.recipe import Recipe

            recipe = Recipe.from_dict(task.cell.recipe)
            measured = self._bed_for(task).measure(recipe, task.cell.protocol, job)
        except JobCancelledError:
            raise
        except QuantLabError as error:
            reason = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 -- a bug in one method must not cost the table its other rows
            traceback.print_exc()
            reason = f"bug, {type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        how = made(task.command, threads(), task.cell.protocol.device)
        done = record(task.cell, seconds=seconds, made=how, measured=measured, reason=reason)
        write(done, task.cell.path(task.folder))
        return done

    def _bed_for(self, task: Task) -> Bed:
        from quantlab.bench.bed import Bed

        protocol = task.cell.protocol
        at = (task.source, protocol.views, protocol.seed, protocol.device)
        if self._bed is None or self._at != at:
            self._bed = None  # two networks at once would be one too many
            self._bed = Bed(
                task.source,
                views=protocol.views,
                seed=protocol.seed,
                device=protocol.device,
                baseline=self._baseline,
            )
            self._at = at
        return self._bed


def serve(connection: Connection, count: int) -> None:
    """The body of a worker process: tasks in, records out, until the other end closes. Ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(count)
    worker = Worker()
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            answer: Record | QuantLabError = worker.do(task)
        except QuantLabError as error:
            answer = error
        connection.send(answer)


def threads() -> int:
    """Threads that arithmetic uses in this process."""
    import torch

    return torch.get_num_threads()


def made(command: str, count: int, device: str) -> dict[str, Any]:
    """When, on what and by which command something was measured."""
    import torch

    gpu = torch.cuda.get_device_name() if device.startswith("cuda") and torch.cuda.is_available() else ""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "quantlab": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": count,
        "gpu": gpu,
    }


def _end_with_parent() -> None:
    """Leave when the parent is gone, however it went: a worker on its own would go on for hours, unheard."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
