"""A model's table as a Markdown document, the way papers print it. It computes no score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from quantlab.bench.cells import FAILED, Record
from quantlab.bench.checks import checks
from quantlab.bench.protocol import FULL, Bits
from quantlab.bench.rows import FULL_PRECISION, VARIANTS
from quantlab.bench.summary import METRICS, Statistic, Summary

DASH = "–"
PROTOCOL = """Rooms of the split "held-out", seed {seed}, {views} views; calibration on rooms of another split. Means
and, where there are several seeds of the recipe, sample standard deviations over seeds. Arithmetic is simulated.
Bold: the best of a column."""
DETAILS = """Accuracy and completeness in scene units, after Sim(3) and ICP; TRE with ρ = 0.01, each branch quantized
alone, on the calibration rooms. Peak: anonymous memory over a process that only imported, while calibrating."""
HELD = {True: "held", False: "not held", None: DASH}


def document(table: Summary, *, plot: str = "", reading: str = "") -> str:
    """The whole document.

    Args:
        table: What was measured.
        plot: File name of the plot, to be shown.
        reading: Prose to end with.
    """
    notes = Notes(table)
    parts = [
        f"# Accuracy of `{table.model}`, by method and bits",
        _how(table),
        *headline(table, notes),
        f"![Drift by method and bits]({plot})" if plot else "",
        _legend(table, notes),
        "## Every metric",
        DETAILS,
        _details(table, notes),
        "## Goals",
        _goals(table),
        f"## Reading\n\n{reading.strip()}" if reading.strip() else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def headline(table: Summary, notes: Notes | None = None) -> list[str]:
    """Cameras and drift, methods by bits: what a person wants to see first."""
    marks = notes or Notes(table)
    return [
        "## Cameras: AUC@30 / AUC@5, in points",
        _grid(table, marks, ("auc30", "auc5")),
        "## Drift: point error against full precision, in thousandths of the scene's size",
        _grid(table, marks, ("drift",)),
    ]


class Notes:
    """The footnotes: why a cell is a dash, and what could not be scored in another. Equal reasons share one."""

    def __init__(self, table: Summary) -> None:
        self._table = table
        self.texts: dict[str, int] = {}

    def mark(self, method: str, bits: Bits) -> str:
        """The numbers of a cell's notes, raised; empty where there is nothing to say."""
        numbers = [
            self.texts.setdefault(text, len(self.texts) + 1)
            for text in dict.fromkeys(map(_complaint, self._table.cells(method, bits)))
            if text
        ]
        return "".join(f"<sup>{number}</sup>" for number in sorted(set(numbers)))

    def lines(self) -> str:
        """The notes themselves."""
        return "\n".join(f"{number}. {text}" for text, number in self.texts.items())


def _complaint(cell: Record) -> str:
    if cell.measured is None:
        return _escaped(cell.reason)
    problems = cell.measured.problems
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{_escaped(problems[0])}{more}" if problems else ""


def shown(found: Statistic | float | None, metric: str) -> str:
    """A number as the tables have it: scaled, rounded, with its spread where there is one."""
    style = METRICS[metric]
    if found is None:
        return DASH
    if not isinstance(found, Statistic):
        return f"{style.scale * found:.{style.digits}f}"
    text = f"{style.scale * found.mean:.{style.digits}f}"
    return text if found.spread is None else f"{text} ± {style.scale * found.spread:.{style.digits}f}"


def _grid(table: Summary, notes: Notes, metrics: Sequence[str]) -> str:
    """Methods by bits; the best of a column is bold."""
    heads = [f"{bits} ({table.rooms(bits)} rooms)" for bits in table.columns]
    lines = [["method", *heads]]
    lines.append(
        ["full precision"]
        + [" / ".join(shown(table.full(m, table.rooms(bits)), m) for m in metrics) for bits in table.columns]
    )
    best = {(bits, m): table.best(bits, m) for bits in table.columns for m in metrics}
    for method in table.methods:
        line = [_row_name(method)]
        for bits in table.columns:
            if not table.cells(method, bits):
                line.append("")
                continue
            texts = []
            for m in metrics:
                text = shown(table.statistic(method, bits, m), m)
                texts.append(f"**{text}**" if best[bits, m] == method and text != DASH else text)
            line.append((DASH if set(texts) == {DASH} else " / ".join(texts)) + notes.mark(method, bits))
        lines.append(line)
    return _table(lines)


def _details(table: Summary, notes: Notes) -> str:
    lines = [["method", "bits", *(metric.label for metric in METRICS.values()), "rooms", "seeds"]]
    for bits in table.columns:
        for method in table.methods:
            cells = table.cells(method, bits)
            if not cells:
                continue
            values = [shown(table.statistic(method, bits, name), name) for name in METRICS]
            done = [cell for cell in cells if cell.state != FAILED]
            tail = [
                str(table.rooms(bits)),
                f"{len(done)} of {len(cells)}" if len(done) < len(cells) else str(len(cells)),
            ]
            lines.append([f"{_row_name(method)}{notes.mark(method, bits)}", str(bits), *values, *tail])
    whole = [shown(table.statistic(FULL_PRECISION, FULL, name), name) for name in METRICS]
    if table.cells(FULL_PRECISION, FULL):
        lines.insert(1, ["full precision", str(FULL), *whole, str(table.rooms(FULL)), "1"])
    return _table(lines)


def _goals(table: Summary) -> str:
    lines = [["goal", "measured", ""]]
    lines += [[check.goal, check.measured, HELD[check.held]] for check in checks(table)]
    return _table(lines, numeric=False)


def _how(table: Summary) -> str:
    """When, how and on what it was measured."""
    made = [cell.made for cell in table.records]
    dates = sorted(str(entry.get("date", ""))[:10] for entry in made)
    commands = _most_common(str(entry.get("command", "")) for entry in made)
    versions = _most_common(
        f"quantlab {entry.get('quantlab')}, torch {entry.get('torch')}, {entry.get('machine')}"
        f"{', ' + str(entry['gpu']) if entry.get('gpu') else ''}, a cell on {entry.get('threads')} of"
        f" {entry.get('cores')} cores"
        for entry in made
    )
    span = "" if not dates else dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    protocol = table.records[0].protocol if table.records else {}
    lines = [
        f"Measured on {span}: {'; '.join(versions)}.",
        "\n".join(f"    {command}" for command in commands if command),
        PROTOCOL.format(seed=protocol.get("seed"), views=protocol.get("views")),
    ]
    mixed = {(cell.protocol.get("seed"), cell.protocol.get("views")) for cell in table.records}
    if len(mixed) > 1:
        lines.append(
            f"**Cells of {len(mixed)} different sets of rooms stand side by side here: do not compare them.**"
        )
    if table.outdated():
        stale = dict.fromkeys(f"{cell.method} {cell.bits}" for cell in table.outdated())
        lines.append(f"**Made with another recipe than the method now stands for: {', '.join(stale)}.**")
    return "\n\n".join(line for line in lines if line)


def _legend(table: Summary, notes: Notes) -> str:
    variants = [f"* `{row.name}`: {row.help}." for row in VARIANTS if row.name in table.methods]
    apart = [name for name in table.methods if name not in table.competitors()]
    variants += [
        f"* `{name}` rounds no layer to these bits (keys and values only): out of competition."
        for name in apart
    ]
    return "\n\n".join(part for part in ("\n".join(variants), notes.lines()) if part)


def _row_name(method: str) -> str:
    return f"`{method}`"


def _table(lines: Sequence[Sequence[str]], *, numeric: bool = True) -> str:
    head, *body = lines
    rule = ["---", *(["---:"] * (len(head) - 1) if numeric else ["---"] * (len(head) - 1))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


def _most_common(texts: Iterable[str]) -> list[str]:
    return [text for text, _ in Counter(texts).most_common(3)]


def _escaped(text: str) -> str:
    """Names of scenes and files come from strangers; they may not break the table."""
    safe = "".join(char if char.isprintable() else "?" for char in text)
    return safe.replace("|", "\\|").replace("<", "&lt;")
