"""Every cell and every metric as CSV: one line a model, method, bits and seed. Means over seeds are the table's."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from quantlab.bench.cells import Record
from quantlab.bench.summary import METRICS, names, value

KEYS = ("model", "method", "bits", "seed", "state")
TAIL = ("rooms", "seconds", "date", "device", "threads", "torch", "reason", "digest")
MORE = (
    "calibration_cpu_seconds",
    "drift_abs_rel",
    "device_bytes",
    "full_bytes",
    "scene_seconds",
    "evaluation_seconds",
)
"""Metrics that the detailed table has no room for."""


def csv_text(records: Sequence[Record]) -> str:
    """The file's text; an absent number is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    metrics = (*METRICS, *MORE)
    writer.writerow((*KEYS, *metrics, *TAIL))
    for cell in records:
        key = (cell.model, cell.method, str(cell.bits), cell.seed, cell.state)
        made = cell.made
        tail = (
            len(names(cell)),
            round(cell.seconds, 3),
            made.get("date"),
            cell.protocol.get("device"),
            made.get("threads"),
            made.get("torch"),
            cell.reason,
            cell.digest,
        )
        writer.writerow((*key, *(_field(value(cell, metric)) for metric in metrics), *tail))
    return out.getvalue()


def _field(number: float | None) -> str:
    return "" if number is None else repr(number)
