"""Writes a model's table, file of cells and plot from the cells on the disk. It measures nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from quantlab.bench.cells import every
from quantlab.bench.csv_file import csv_text
from quantlab.bench.markdown import document
from quantlab.bench.plot import drift_plot
from quantlab.bench.summary import Summary
from quantlab.errors import StorageError
from quantlab.storage import atomic_write

READING = "reading.md"


def render(folder: Path, model: str, tell: Callable[[str], object] = lambda _: None) -> list[Path]:
    """Write MODEL.md, MODEL.csv and MODEL.svg into the folder, and answer their paths.

    The document ends with what reading.md in the folder says: all that stands before its first heading ``## ``, and
    what stands below a heading with the model's name. ``tell`` hears of each cell that is damaged and left out.

    Raises:
        StorageError: The folder has no cells of the model, or cannot be written.
    """
    table = Summary(model, every(folder, model, tell))
    if not table.records:
        raise StorageError(
            f"there are no measured cells of {model}",
            place=str(folder / "cells"),
            remedy="Run without --render first.",
        )
    plot = atomic_write(folder / f"{model}.svg", drift_plot(table))
    text = document(table, plot=plot.name, reading=reading(folder / READING, model))
    return [
        atomic_write(folder / f"{model}.md", text),
        atomic_write(folder / f"{model}.csv", csv_text(table.records)),
        plot,
    ]


def reading(path: Path, model: str) -> str:
    """What a person wrote about a model: the common part of the file and the model's own; empty without a file.

    Raises:
        StorageError: The file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            "the reading cannot be read", place=str(path), remedy="Save it as UTF-8 text."
        ) from error
    common, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    own = [
        body for title, _, body in (section.partition("\n") for section in sections) if title.strip() == model
    ]
    return "\n\n".join(part.strip() for part in (common, *own) if part.strip())
