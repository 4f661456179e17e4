"""The section of speed and memory: what executing the recipe takes on a machine. It measures nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quantlab.figures.readable import duration, short, size
from quantlab.report.data import ReportData
from quantlab.report.markup import Child, Markup, tag
from quantlab.report.parts import Part, exported, number, section, table
from quantlab.views.names import distinct_names
from quantlab.views.spent import spent
from quantlab.views.timing import BUSY, kernels, speed

if TYPE_CHECKING:
    from quantlab.engine.measurement import Measurement

SLOWEST = 12
"""Layers that are listed."""
HOW = (
    "Not measured: this report was made without executing the recipe. Run quantlab report --measure, call"
    " lab.measure() first, or press Measure in the app."
)
Row = tuple[Child, ...]


def speed_section(data: ReportData) -> Part:
    """Latency, memory and kernels as measured, and where; or that they were not, and how to."""
    measured = data.measurement
    rows = [*_measured(measured), _simulated(data)]
    columns = ("number", "this recipe", "full precision", "change", "what it says")
    told, kinds = table(columns, rows, caption="Speed and memory"), [] if measured is None else ["csv"]
    body = exported("speed", told, kinds=kinds, class_="table explained")
    if measured is None:
        return Part(section("speed", "Speed and memory", HOW, body), {})
    parts = [body, _kinds(measured), _simulations(measured), _slowest(data, measured), _passed_over(measured)]
    tables = {"speed": _sheet(measured)}
    return Part(section("speed", "Speed and memory", _where(measured), *parts), tables)


def _where(measured: Measurement) -> str:
    threads = f"{measured.threads} thread{'' if measured.threads == 1 else 's'}"
    when = measured.date.replace("T", " ").replace("+00:00", " UTC")
    passes = f"the median of {measured.runs} passes" if measured.runs > 1 else "one pass"
    if measured.slowest > BUSY * measured.fastest:
        passes += f" from {_time(measured.fastest)} to {_time(measured.slowest)}"
    return (
        f"Measured on {measured.machine}, {threads}, {when}: scene {measured.scene}, {passes}, in turns with full"
        f" precision. Kernels: {kernels(measured.kernels)}; attention: {measured.attention}."
    )


def _measured(measured: Measurement | None) -> list[Row]:
    if measured is None:
        told = {
            "latency": "Of one scene, as a machine executes it.",
            "weights in memory": "As they are executed.",
            "peak memory": "Weights, and what a pass allocates besides.",
        }
        return [_row(label, number(None), number(None), None, words) for label, words in told.items()]
    mixed = measured.mixed_seconds
    beside = "" if mixed is None else f" The published mixed precision takes {_time(mixed)}."
    rows = [
        _row(
            "latency",
            tag("span", _time(measured.seconds)),
            tag("span", _time(measured.full_seconds)),
            tag("span", speed(measured)),
            f"Of one scene, as this machine executes it.{beside}",
        ),
        _memory("weights in memory", measured.bytes, measured.full_bytes, "As they are executed."),
    ]
    own, full = measured.peak_bytes, measured.full_peak_bytes
    peaks = (
        None if own is None else measured.bytes + own,
        None if full is None else measured.full_bytes + full,
    )
    return [*rows, _memory("peak memory", *peaks, "Weights, and what a pass allocates besides.")]


def _simulated(data: ReportData) -> Row:
    evaluation = data.evaluation
    forward = None if evaluation.replayed else tag("span", _time(evaluation.seconds))
    why = " Blocks were answered from memory, so no time is stated." if evaluation.replayed else ""
    words = f"Of one scene, rounding simulated in floating point: how accuracy is measured, not speed.{why}"
    return _row("simulated forward", forward or number(None), number(None), None, words)


def _kinds(measured: Measurement) -> Markup | None:
    """Where both passes go, by kind of work."""
    known = spent(measured)
    if not known:
        return None
    rows = [
        (
            row["label"],
            *(tag("span", cell[told]) for cell in row["cells"] for told in ("told", "part")),
            row["help"],
        )
        for row in known["rows"]
    ]
    columns = ("work", "as executed", "share", "full precision", "share", "what it is")
    inner = table(columns, rows, caption="Where the time goes")
    return tag("details", tag("summary", "Where the time goes"), inner)


def _simulations(measured: Measurement) -> Markup | None:
    """What no kernel multiplies, and why."""
    count, reasons = len(measured.simulated), dict.fromkeys(measured.simulated.values())
    if not count:
        return None
    told = f"{count} layer{'' if count == 1 else 's'} simulated: {'; '.join(reasons)}."
    return tag("ul", tag("li", told), class_="problems")


def _passed_over(measured: Measurement) -> Markup | None:
    """Kernels that were not taken for another reason than speed."""
    told = [tag("li", f"{kernel}: {why}") for kernel, why in measured.skipped.items()]
    return tag("details", tag("summary", "Kernels that were passed over"), tag("ul", told)) if told else None


def _slowest(data: ReportData, measured: Measurement) -> Markup:
    names = distinct_names(data.layers)
    ranked = sorted(measured.layers, key=lambda name: -measured.layers[name])[:SLOWEST]
    rows = [
        (
            names.get(name, name),
            tag("span", short(1e3 * measured.layers[name])),
            tag("span", short(1e3 * measured.full_layers[name]) if name in measured.full_layers else "–"),
            tag("span", f"{short(100 * measured.shares[name], 2)} %"),
            measured.chosen.get(name, "not rounded"),
        )
        for name in ranked
    ]
    columns = ("layer", "ms", "ms, full precision", "share", "kernel")
    inner = table(columns, rows, caption="The slowest layers")
    return tag("details", tag("summary", "The layers that take longest"), inner)


def _row(label: str, now: Child, full: Child, change: Child, words: str) -> Row:
    return (tag("span", label, tag("small", words, class_="narrow")), now, full, change, words)


def _memory(label: str, now: int | None, full: int | None, words: str) -> Row:
    before, after = (
        number(None) if count is None else tag("span", " ".join(size(count))) for count in (now, full)
    )
    change = tag("span", f"{short(100 * (now / full - 1), 2)} %") if now is not None and full else None
    return _row(label, before, after, change, words)


def _time(seconds: float) -> str:
    return " ".join(duration(seconds))


def _sheet(measured: Measurement) -> dict[str, Any]:
    columns = ["layer", "ms", "ms, full precision", "kernel"]
    total: list[Any] = ["forward pass", 1e3 * measured.seconds, 1e3 * measured.full_seconds, ""]
    rows = [
        [name, 1e3 * taken, _milliseconds(measured.full_layers.get(name)), measured.chosen.get(name, "")]
        for name, taken in measured.layers.items()
    ]
    return {"columns": columns, "rows": [total, *rows]}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
