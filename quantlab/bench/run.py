"""A run: which cells there are, which are measured already, how long the others will take. It measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.bench import pool
from quantlab.bench.cells import FAILED, Cell, Record, read, record, write
from quantlab.bench.protocol import FULL, Extent
from quantlab.bench.rows import Row, full_precision
from quantlab.bench.work import Task, made
from quantlab.errors import QuantLabError
from quantlab.jobs import Job

if TYPE_CHECKING:
    from quantlab.models.model import Model

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.

    Attributes:
        sources: Names or paths of models.
        methods: Rows.
        extent: Columns, seeds and rooms.
        folder: Where cells are kept and results written.
        workers: Processes.
        command: As it was typed, for the records.
    """

    sources: Sequence[str]
    methods: Sequence[Row]
    extent: Extent
    folder: Path
    workers: int = 1
    command: str = ""


def run(request: Request, tell: Tell = lambda _: None, job: Job | None = None) -> list[str]:
    """Measure every cell that is not measured yet, and answer the names of the models.

    A run that was killed goes on where it was: each cell is a file of its own, written whole or not at all. Cells that
    were made by other settings, and cells that failed, are measured again, which is told.

    Raises:
        CheckpointError, DeviceError: A model cannot be loaded.
        StorageError: The folder cannot be written.
        JobCancelledError: The job was cancelled; what was finished is kept.
    """
    tasks, names = [], []
    for source in request.sources:
        model = _load(source, request.extent.protocol.device)
        names.append(model.name)
        tasks += [
            Task(cell, source, request.folder, request.command) for cell in _cells(request, model, tell)
        ]
    clock = _Clock(request.folder, request.workers)
    todo = [task for task in tasks if not clock.known(task.cell, tell)]
    tell(f"{len(tasks)} cells, {len(tasks) - len(todo)} of them measured before")
    left = {_key(task.cell): task.cell for task in todo}

    def told(found: Record) -> None:
        left.pop(_key(found), None)
        clock.add(found)
        number = len(todo) - len(left)
        text = f"{_outcome(found)}; {clock.left(left.values())}"
        tell(f"[{number}/{len(todo)}] {_label(found)}: {text}")
        if job is not None:
            job.report(number, len(todo), _label(found))

    pool.measure_all(todo, workers=request.workers, told=told, job=job)
    return names


def _load(source: str, device: str) -> Model:
    from quantlab.models.zoo import load_model

    return load_model(source, device=device)


def _cells(request: Request, model: Model, tell: Tell) -> list[Cell]:
    """All cells of a model, full precision first; those that cannot exist are written as failed at once."""
    weights = f"{model.sha256}{'+outliers' if model.planted else ''}"
    found: list[Cell] = []
    asked = [(full_precision(), FULL)]
    asked += [(row, bits) for row in request.methods for bits in request.extent.columns]
    for row, bits in asked:
        for seed in request.extent.seeds_of(bits):
            protocol = request.extent.of(bits)
            try:
                recipe, reason = row.recipe(bits, seed).to_dict(), ""
            except QuantLabError as error:
                recipe, reason = {}, f"{type(error).__name__}: {error}"
            cell = Cell(model.name, row.name, bits, seed, recipe, protocol, weights)
            if reason:
                failed = record(
                    cell, seconds=0.0, made=made(request.command, 1, protocol.device), reason=reason
                )
                write(failed, cell.path(request.folder))
                tell(f"{_label(failed)}: {reason}")
            else:
                found.append(cell)
    return found


class _Clock:
    """Knows what cells took, and so about how long the others will."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder, self._workers = folder, max(1, workers)
        self._seconds: dict[tuple[str, str], list[float]] = {}

    def known(self, cell: Cell, tell: Tell) -> bool:
        """Whether the cell was measured already, as it is asked for now; what is not reused is told."""
        path = cell.path(self._folder)
        found = read(path)
        if found is None:
            if path.exists():
                tell(f"{cell}: the file is damaged, so it is measured again")
            return False
        if found.digest != cell.digest:
            tell(f"{cell}: made with other settings, so it is measured again")
            return False
        if found.state == FAILED:
            tell(f"{cell}: failed before ({found.reason}), so it is tried again")
            return False
        self.add(found)
        return True

    def add(self, found: Record) -> None:
        """Learn from a finished cell."""
        if found.seconds:
            self._seconds.setdefault((found.model, found.method), []).append(found.seconds)

    def left(self, cells: Iterable[Cell]) -> str:
        """About how long these cells will take, in words; a method not seen yet counts as the average one."""
        everything = [seconds for listed in self._seconds.values() for seconds in listed]
        average = sum(everything) / len(everything) if everything else 0.0
        total = 0.0
        for cell in cells:
            listed = self._seconds.get((cell.model, cell.method)) or [average]
            total += sum(listed) / len(listed)
        return f"about {duration(total / self._workers)} left"


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _key(cell: Cell | Record) -> tuple[str, str, str, int]:
    return cell.model, cell.method, str(cell.bits), cell.seed


def _label(found: Record) -> str:
    return f"{found.model} {found.method} {found.bits} seed {found.seed}"


def _outcome(found: Record) -> str:
    if found.measured is None:
        return f"failed, {found.reason}"
    calibration = found.measured.metrics.get("calibration_seconds") or 0.0
    return f"calibrated in {calibration:.1f} s, {found.seconds:.1f} s in all"
