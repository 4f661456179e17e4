"""The sections of numbers: what the recipe costs, on every scene and pixel by pixel. It measures nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from quantlab.figures.readable import counted, short, size
from quantlab.figures.theme import PAGE, Figure, axis, layout, titled
from quantlab.report.data import ReportData
from quantlab.report.markup import Child, Markup, tag
from quantlab.report.parts import NOT_MEASURED, Part, exported, facts, number, section, table
from quantlab.report.plots import lines
from quantlab.views.numbers import NOTHING, digits

ERROR_BINS = 60
NO_NUMBER = "no number"
"""Where there can be none: cameras of a single view, a cloud that collapsed."""
PER_SCENE = {"auc30": "AUC@30", "auc5": "AUC@5", "abs_rel": "AbsRel"}


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of an evaluation: where it is read, what it says, and what its absence means."""

    label: str
    field: str
    help: str
    factor: float = 1.0
    unit: str = ""
    absent: str = NO_NUMBER

    def told(self, value: float | None) -> Markup:
        """A value with its unit, or the word for there being none."""
        return number(None, self.absent) if value is None else tag("span", digits(value) + self.unit)


AGAINST_TRUTH = (
    Measure(
        "camera AUC@30", "auc30", "Camera accuracy: area under the curve up to 30 degrees. 1 is perfect."
    ),
    Measure("camera AUC@15", "auc15", "The same up to 15 degrees."),
    Measure("camera AUC@5", "auc5", "The same up to 5 degrees, which small drifts show in first."),
    Measure("camera AUC@3", "auc3", "The same up to 3 degrees."),
    Measure(
        "depth AbsRel", "abs_rel", "Mean relative depth error after one median scale a scene. 0 is perfect."
    ),
    Measure(
        "accuracy",
        "accuracy",
        "Mean distance from the cloud to the true surface, after Sim(3) and ICP.",
        absent=NOT_MEASURED,
    ),
    Measure(
        "completeness",
        "completeness",
        "Mean distance from the true surface to the cloud.",
        absent=NOT_MEASURED,
    ),
    Measure(
        "normal consistency",
        "normal_consistency",
        "Mean |cos| between normals, both ways. 1 is perfect.",
        absent=NOT_MEASURED,
    ),
)
DRIFT = (
    Measure(
        "point error",
        "point_error",
        "Mean distance of paired points from full precision, in per cent of the scene's size.",
        100,
        " %",
    ),
    Measure("depth difference", "abs_rel", "Mean relative difference of the depths."),
    Measure(
        "agreement AUC@30",
        "auc30",
        "Its cameras against those of full precision, up to 30 degrees. 1 is perfect.",
    ),
    Measure("agreement AUC@5", "auc5", "The same up to 5 degrees."),
)


Row = tuple[Child, ...]


def numbers_section(data: ReportData) -> Part:
    """Every number of the evaluation, against the truth, against full precision, and the sizes."""
    evaluation = data.evaluation
    truth = evaluation.ground_truth
    rows: list[Row] = []
    sheet: list[list[Any]] = []
    if truth is not None:
        rows.append(("against the ground truth",))
        for measure in AGAINST_TRUTH:
            now, full = getattr(truth, measure.field), getattr(evaluation.baseline, measure.field, None)
            rows.append(
                _row(measure.label, measure.help, measure.told(now), measure.told(full), _change(now, full))
            )
            sheet.append([measure.label, "truth", now, full])
    rows.append(("against the same network at full precision",))
    for measure in DRIFT:
        value = getattr(evaluation.full_precision, measure.field)
        now = None if value is None else measure.factor * value
        rows.append(
            _row(measure.label, measure.help, measure.told(now), tag("span", "the reference", class_="none"))
        )
        sheet.append([measure.label + measure.unit, "full precision", now, None])
    rows += [("cost",), _size(data)]
    sheet.append(["size in bytes", "", evaluation.packed_bytes, evaluation.full_bytes])
    columns = ("number", "this recipe", "full precision", "change", "what it says")
    body = exported(
        "numbers",
        table(columns, rows, caption="What the recipe costs"),
        kinds=["csv"],
        class_="table explained",
    )
    tables = {"numbers": {"columns": ["number", "against", "recipe", "full precision"], "rows": sheet}}
    return Part(section("numbers", "Numbers", _over(data), body, _outputs(data), _problems(data)), tables)


def _over(data: ReportData) -> str:
    count = len(data.evaluation.scenes)
    told = f"Means over {count} {'scene' if count == 1 else 'scenes'}."
    if data.evaluation.ground_truth is not None:
        return told
    return f"{told} There is no ground truth, so every number compares with full precision."


def _row(label: str, help_text: str, now: Markup, full: Markup, change: Markup | None = None) -> Row:
    """A number with what it says: in a column of its own, and below its name where there is no room for one."""
    return (tag("span", label, tag("small", help_text, class_="narrow")), now, full, change, help_text)


def _size(data: ReportData) -> Row:
    packed, full = data.evaluation.packed_bytes, data.evaluation.full_bytes
    change = tag("span", f"{short(100 * (packed / full - 1), 2)} %") if full else None
    now, before = (tag("span", " ".join(size(count))) for count in (packed, full))
    return _row(
        "size of the weights",
        "Packed, with scales and corrections; full precision is 16 bits.",
        now,
        before,
        change,
    )


def _change(now: float | None, full: float | None) -> Markup | None:
    if now is None or full is None:
        return None
    difference = now - full
    same = digits(now) == digits(full) or abs(difference) < NOTHING
    return tag("span", "0" if same else f"{'+' if difference > 0 else '−'}{abs(difference):#.2g}")


def _outputs(data: ReportData) -> Markup | None:
    outputs = data.evaluation.full_precision.outputs
    if not outputs:
        return None
    rows = [(name, tag("span", f"{digits(100 * error)} %")) for name, error in outputs.items()]
    inner = table(("output of the network", "relative error"), rows, caption="Errors of the outputs")
    return tag("details", tag("summary", "Relative error of every output of the network"), inner)


def _problems(data: ReportData) -> Markup | None:
    told = [*data.evaluation.problems, *data.plan.warnings]
    return tag("ul", [tag("li", line) for line in told], class_="problems") if told else None


def scenes_section(data: ReportData) -> Part:
    """The same numbers scene by scene, each beside that of full precision where there is a truth."""
    has_truth = data.evaluation.ground_truth is not None
    columns = ["scene", "point error %"]
    for name in PER_SCENE.values():
        columns += [name, f"{name} full"] if has_truth else [name]
    sheet: list[list[Any]] = []
    for scene in data.evaluation.by_scene:
        error = scene.drift.get("point_error")
        row: list[Any] = [scene.name, None if error is None else 100 * error]
        for field in PER_SCENE:
            row += (
                [scene.truth.get(field), scene.baseline.get(field)] if has_truth else [scene.drift.get(field)]
            )
        sheet.append(row)
    rows = [[row[0], *(number(value, NO_NUMBER) for value in row[1:])] for row in sheet]
    against = "the ground truth; “full” is full precision against the same truth"
    lead = f"Point error is against full precision, the rest against {against if has_truth else 'it too'}."
    told = table(columns, rows, caption="Numbers of every scene")
    body = exported("scenes", told, kinds=["csv"], class_="table")
    tables = {"scenes": {"columns": columns, "rows": sheet}}
    return Part(section("scenes", "Scene by scene", lead, body), tables)


def error_part(data: ReportData) -> Part | None:
    """How the distances of the paired points are distributed; None without clouds."""
    comparison = data.comparison
    if comparison is None:
        return None
    shares = comparison.errors[np.isfinite(comparison.errors)] / comparison.scale * 100
    top = float(np.percentile(shares, 99.5)) if len(shares) else 0.0
    edges = np.linspace(0, top or 1.0, ERROR_BINS + 1)
    counts, _ = np.histogram(np.minimum(shares, edges[-1]), edges)
    picture = lines(
        _error_histogram(edges, 100 * counts / max(1, len(shares))), title="Distances of paired points"
    )
    columns = ["distance from, % of scene", "distance to, % of scene", "points"]
    rows = [[float(low), float(high), int(n)] for low, high, n in zip(edges, edges[1:], counts, strict=False)]
    caption = "Distance of each point from its partner at full precision"
    figure = exported("errors", picture, kinds=["csv", "png"], caption=caption)
    side = tag("div", figure, facts(_spread(shares, comparison.errors.size)), class_="beside")
    return Part(side, {"errors": {"columns": columns, "rows": rows}})


def _spread(shares: Any, pixels: int) -> list[tuple[Child, Child]]:
    """How far apart the points are, in words; shares in per cent of the scene."""
    named = {"median": 50, "90 % within": 90, "99 % within": 99, "largest": 100}
    told: list[tuple[Child, Child]] = [
        ("paired points", tag("span", f"{counted(len(shares))} of {counted(pixels)}"))
    ]
    if not len(shares):
        return told
    told += [("mean", tag("span", f"{digits(float(np.mean(shares)))} %"))]
    places = {name: float(np.percentile(shares, at)) for name, at in named.items()}
    return told + [(name, tag("span", f"{digits(place)} %")) for name, place in places.items()]


def _error_histogram(edges: Any, percent: Any) -> Figure:
    drawn = layout(PAGE, uirevision="errors")
    drawn["xaxis"] = axis(
        PAGE,
        range=[0, float(edges[-1])],
        title=titled("distance, % of the scene's size (last bar: and beyond)", PAGE),
    )
    drawn["yaxis"] = axis(PAGE, title=titled("% of the points", PAGE))
    middles = [float(value) for value in (edges[1:] + edges[:-1]) / 2]
    bars = {"type": "bar", "name": "", "x": middles, "y": [float(value) for value in percent]}
    return {
        "data": [{**bars, "width": float(edges[1] - edges[0]), "marker": {"color": PAGE.quantized}}],
        "layout": drawn,
    }
