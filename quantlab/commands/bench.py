"""`quantlab bench accuracy`: measure the cells that are missing, and write the tables. It computes no score."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quantlab.commands.console import say
from quantlab.errors import JobCancelledError, StorageError

MODELS = ("mini", "mini-outliers", "pi3-mini")
RESULTS = Path("benchmarks/results/accuracy")


@dataclass(frozen=True, slots=True)
class AccuracyChoice:
    """What was typed; comma-separated texts, None for the default.

    Attributes:
        models: Names or paths.
        methods: Presets and variants.
        bits: Columns, as W4A8.
        seeds: Seeds of the columns that have several.
        rooms, headline_rooms, icp_rooms, views, seed: As `quantlab.bench.protocol` has them.
        workers: Processes; 0: one a core.
        device: Where networks run.
        out: Folder of cells and results.
        render: Measure nothing.
    """

    models: str | None = None
    methods: str | None = None
    bits: str | None = None
    seeds: int = 3
    rooms: int = 30
    headline_rooms: int = 100
    icp_rooms: int = 10
    views: int = 4
    seed: int = 7
    workers: int = 0
    device: str = "cpu"
    out: Path = RESULTS
    render: bool = False


def accuracy(choice: AccuracyChoice, typed: Sequence[str]) -> None:
    """Measure what is missing, then write the tables of the models.

    Raises:
        QuantLabError: Something that was asked for does not exist, or the folder cannot be written.
        JobCancelledError: Interrupted; the same command goes on where it was.
    """
    from quantlab.bench.cells import every
    from quantlab.bench.markdown import headline
    from quantlab.bench.render import render
    from quantlab.bench.summary import Summary

    _folder(choice.out)
    try:
        names = _measured_models(choice) if choice.render else _measure(choice, typed)
    except KeyboardInterrupt:
        raise JobCancelledError(
            "interrupted; finished cells are kept",
            place=str(choice.out),
            remedy="Give the same command again to go on, or add --render to see what there is.",
        ) from None
    for name in names:
        for path in render(choice.out, name, say):
            say(f"written: {path}")
        tables = headline(Summary(name, every(choice.out, name)))
        print("\n\n".join((f"# {name}", *tables)))  # noqa: T201 - the result


def _measure(choice: AccuracyChoice, typed: Sequence[str]) -> list[str]:
    from quantlab.bench.pool import cores
    from quantlab.bench.protocol import COLUMNS, Bits, Extent, Protocol
    from quantlab.bench.rows import chosen
    from quantlab.bench.run import Request, run

    request = Request(
        sources=_listed(choice.models) or _shipped(),
        methods=chosen(_listed(choice.methods)),
        extent=Extent(
            Protocol(choice.views, choice.seed, choice.rooms, choice.icp_rooms, choice.device),
            headline_rooms=choice.headline_rooms,
            seeds=choice.seeds,
            columns=tuple(Bits.parse(text) for text in _listed(choice.bits)) or COLUMNS,
        ),
        folder=choice.out,
        workers=choice.workers or cores(),
        command=shlex.join(typed),
    )
    return run(request, tell=say)


def _measured_models(choice: AccuracyChoice) -> list[str]:
    from quantlab.bench.cells import models

    found = _listed(choice.models) or models(choice.out)
    if not found:
        raise StorageError(
            "there are no measured cells", place=str(choice.out), remedy="Run without --render first."
        )
    return found


def _shipped() -> list[str]:
    """The built-in models that are there."""
    from quantlab.models.zoo import MODELS as KNOWN

    return [name for name in MODELS if name in KNOWN]


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"the folder cannot be made: {error.strerror}", place=str(path), remedy="Choose another --out."
        ) from None
