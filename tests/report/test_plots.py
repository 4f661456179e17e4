"""Still pictures of the lab's figures: values land where the axis says, colours are those of the page."""

from __future__ import annotations

import re

import pytest

from quantlab.report.map import SHADES, network_map
from quantlab.report.plots import HEIGHT, LEFT, RIGHT, WIDTH, lines
from quantlab.report.svg import axis, paint, words

NUMBER = r"(-?[0-9.]+)"


def line(x: list[float | None], y: list[float | None], **more: object) -> dict[str, object]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "a",
        "x": x,
        "y": y,
        "line": {"color": "@full"},
        **more,
    }


def figure(*traces: dict[str, object], **layout: object) -> dict[str, object]:
    axes = {"xaxis": {"range": [0, 10]}, "yaxis": {"range": [0, 1]}}
    return {"data": list(traces), "layout": {**axes, **layout}}


def points(svg: str) -> list[list[tuple[float, float]]]:
    """The runs of every drawn line in pixels."""
    paths = re.findall(r'<path d="([^"]*)" fill="none"', svg)
    pair = re.compile(rf"{NUMBER} {NUMBER}")
    return [
        [(float(a), float(b)) for a, b in pair.findall(run)] for path in paths for run in path.split("M")[1:]
    ]


def test_a_line_runs_from_end_to_end_of_its_axes() -> None:
    (run,) = points(lines(figure(line([0, 10], [0, 1])), title="t"))
    (x0, y0), (x1, y1) = run
    assert (x0, x1) == (LEFT, WIDTH - RIGHT)
    assert y0 > y1, "up is up"
    assert 0 < y1 < y0 < HEIGHT


def test_equal_steps_of_a_logarithm_are_equal_steps_on_the_screen() -> None:
    drawn = figure(line([0, 5, 10], [1e-4, 1e-2, 1]), yaxis={"type": "log", "range": [-6, 0]})
    (run,) = points(lines(drawn, title="t"))
    heights = [y for _, y in run]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)


def test_a_gap_is_a_gap_and_what_lies_outside_stands_at_the_edge() -> None:
    runs = points(lines(figure(line([0, 5, None, 6, 99], [0, 9, None, 1, 1])), title="t"))
    assert [len(run) for run in runs] == [2, 2]
    assert runs[1][-1][0] == WIDTH - RIGHT
    assert runs[0][1][1] == runs[1][0][1]


def test_a_trace_that_waits_in_the_legend_is_left_out() -> None:
    svg = lines(
        figure(line([0, 1], [0, 1]), line([0, 1], [1, 0], visible="legendonly", name="later")), title="t"
    )
    assert len(points(svg)) == 1
    assert "later" not in svg


def test_bars_stand_on_zero_and_are_as_high_as_they_say() -> None:
    bars = {"type": "bar", "name": "", "x": [1, 2, 3], "y": [1.0, 0.5, 0.0], "width": 1.0}
    svg = lines({"data": [bars], "layout": {"xaxis": {"range": [0, 4]}, "yaxis": {}}}, title="t")
    heights = [float(height) for height in re.findall(rf'<rect [^>]*height="{NUMBER}"/>', svg)]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    assert heights[2] == 0


def test_a_colour_is_a_name_of_the_page_or_a_colour_and_nothing_else() -> None:
    assert paint("@severity3") == "var(--ql-severity3)"
    assert paint("rgba(1, 2, 3, 0.5)") == "rgba(1, 2, 3, 0.5)"
    assert paint("#b4560c") == "#b4560c"
    assert paint("url(http://x)") == "none"
    assert paint('red" onload="x') == "none"


def test_words_of_a_figure_lose_its_markup_and_keep_a_strangers() -> None:
    assert words("<b>a</b><br>b &lt;img&gt;") == ["a", "b <img>"]
    assert "<img" not in lines(figure(line([0, 1], [0, 1], name="&lt;img src=x&gt;")), title="t")


def test_a_linear_axis_has_between_two_and_eight_round_ticks() -> None:
    for high in (0.003, 0.7, 1.0, 9.0, 73.0, 4e6):
        ticks = axis({}, [0.0, high], (0, 100)).ticks
        assert 2 <= len(ticks) <= 8
        assert all(0 <= value <= high * 1.0001 for value, _ in ticks)


def heat(z: list[list[float | None]], names: list[list[str]]) -> dict[str, object]:
    trace = {
        "customdata": names,
        "z": z,
        "zmin": -3.0,
        "zmax": 0.0,
        "colorbar": {"tickvals": [-3, 0], "ticktext": ["a", "b"]},
    }
    return {
        "data": [trace],
        "layout": {"xaxis": {"tickvals": [0]}, "yaxis": {"tickvals": [0], "ticktext": ["frame"]}},
    }


def test_each_cell_of_the_map_is_a_button_with_its_layer_and_shade() -> None:
    names = [["p", "q"], ["r", ""]]
    figure = heat([[-3.0, 0.0], [None, None]], names)
    svg = network_map(figure, {"p": 7, "q": 8, "r": 9}, {name: f"{name}: 1" for name in "pqr"}, title="t")
    cells = re.findall(r'<rect [^>]*fill="var\(--ql-([a-z0-9]+)\)"[^>]*data-layer="(\d)"', svg)
    assert cells == [("s0", "7"), (f"s{SHADES - 1}", "8"), ("missing", "9")]
    assert svg.count('role="button"') == 3
    assert 'aria-label="q: 1"' in svg
