"""Writes a machine's table and its numbers from the records on the disk. It measures nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from quantlab.bench.speed.goals import verdicts
from quantlab.bench.speed.markdown import document
from quantlab.bench.speed.records import every
from quantlab.errors import StorageError
from quantlab.storage import atomic_write


def render(folder: Path, machine: str, tell: Callable[[str], object] = lambda _: None) -> list[Path]:
    """Write MACHINE.md and MACHINE.json into the folder, and answer their paths; other machines' stay as they are.

    ``tell`` hears of each record that is damaged and left out.

    Raises:
        StorageError: The folder has no records of the machine, or cannot be written.
    """
    records = every(folder, machine, tell)
    if not records:
        raise StorageError(
            f"nothing was measured on {machine}",
            place=str(folder / "groups"),
            remedy="Run without --render first.",
        )
    data = {
        "goals": [asdict(verdict) for verdict in verdicts(records)],
        "groups": [asdict(record) for record in records],
    }
    text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    return [
        atomic_write(folder / f"{machine}.md", document(records)),
        atomic_write(folder / f"{machine}.json", text),
    ]
