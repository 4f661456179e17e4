"""What the command line prints: progress on stderr, results on stdout. It computes nothing."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from quantlab.jobs import Job, Listener

_PLAIN_WIDTH = 120
_LINE_EVERY = 0.1


def say(text: str) -> None:
    """One line on stderr; the text is printed as it is, never read as markup."""
    Console(stderr=True, soft_wrap=True).print(Text(printable(text)))


@contextlib.contextmanager
def stage(title: str) -> Iterator[Job]:
    """A job whose progress shows on stderr while the block runs: a bar in a terminal, a line each tenth elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Job(_line_writer(title))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[step]}"), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, step=Text(""))

        def show(job: Job) -> None:
            _, total, text = job.progress
            bar.update(
                task, completed=round(job.fraction * total), total=total or None, step=Text(printable(text))
            )

        yield Job(show)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str | float | None]], *, note: str = ""
) -> None:
    """Print a table on stdout; numbers with three significant digits to the right, None as a dash.

    A line break or control character in title, columns or cells shows as "?"; ``note`` may have several lines.
    """
    drawn = Table(box=None, pad_edge=False)
    numeric = [any(isinstance(row[i], (int, float)) for row in rows) for i in range(len(columns))]
    for name, right in zip(columns, numeric, strict=True):
        drawn.add_column(Text(printable(name)), justify="right" if right else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(printable(number(cell))) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(_PLAIN_WIDTH, console.width))
    console.print(Text(printable(title), style="bold"))
    console.print(drawn)
    if note:
        console.print(Text("\n".join(map(printable, note.split("\n")))))


def number(value: str | float | None) -> str:
    """Three significant digits; whole numbers whole; a dash for what was not measured."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def megabytes(count: int) -> str:
    """Bytes as 10^6 bytes, two decimals under ten."""
    return f"{count / 1e6:.2f} MB" if count < 1e7 else f"{count / 1e6:.0f} MB"


def _line_writer(title: str) -> Listener:
    """A listener that writes a line when the job starts and at each further tenth of it."""
    next_line = 0.0

    def show(job: Job) -> None:
        nonlocal next_line
        if job.fraction >= next_line:
            next_line = job.fraction + _LINE_EVERY
            sys.stderr.write(f"{title}: {job.fraction:.0%} {printable(job.progress.text)}".rstrip() + "\n")

    return show


def printable(text: str) -> str:
    """The text with "?" for what could forge a line or drive the terminal: names of scenes come from strangers."""
    return "".join(char if char.isprintable() else "?" for char in text)
