"""Means, spreads, tables, plot and goals, from records made by hand; numpy and the parsed files are the oracles."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from quantlab.bench.checks import checks
from quantlab.bench.csv_file import csv_text
from quantlab.bench.markdown import document
from quantlab.bench.plot import drift_plot
from quantlab.bench.protocol import Bits
from quantlab.bench.render import reading
from quantlab.bench.summary import Summary, value

W4A4, W8A8 = Bits(4, 4), Bits(8, 8)


def cells_of(text, heading):
    """Rows of the first table below a heading, by their first column."""
    table = text.split(heading, 1)[1].split("\n\n", 2)[1]
    lines = [[part.strip() for part in line.strip("|").split(" | ")] for line in table.splitlines()]
    return {line[0].strip("` "): line[1:] for line in lines[2:]}


def held(table):
    return {check.goal: check.held for check in checks(table)}


def goal(table, *words):
    return next(state for text, state in held(table).items() if all(word in text for word in words))


def test_mean_and_spread_over_seeds_are_numpys(made):
    drifts = [(0.010, 0.030), (0.012, 0.044), (0.020, 0.020)]
    table = Summary("mini", [made(seed=seed, drift=drift) for seed, drift in enumerate(drifts)])
    found = table.statistic("rtn", W4A4, "drift")
    means = np.mean(drifts, axis=1)
    assert found.mean == pytest.approx(means.mean())
    assert found.spread == pytest.approx(means.std(ddof=1))
    assert found.seeds == 3


def test_one_seed_has_no_spread(made):
    assert Summary("mini", [made()]).statistic("rtn", W4A4, "drift").spread is None


def test_rooms_without_a_value_do_not_count_as_zero(made):
    assert value(made(drift=(0.5, 0.1)), "accuracy") == 0.5


def test_full_precision_is_read_on_the_rooms_of_the_column(made):
    whole = made("full_precision", Bits(16, 16), drift=(0.0, 0.2, 0.4))
    table = Summary("mini", [whole, made(drift=(0.1, 0.2))])
    assert table.full("auc30", table.rooms(W4A4)) == pytest.approx(0.95 - 0.1)


def test_table_and_csv_agree(made, whole):
    records = [
        whole,
        *(made(seed=seed, drift=(0.01 * (seed + 1), 0.03)) for seed in range(3)),
        made("quarot"),
    ]
    table = Summary("mini", records)
    lines = list(csv.DictReader(io.StringIO(csv_text(table.records))))
    assert len(lines) == len(records)
    shown = cells_of(document(table), "## Drift")
    for method in ("rtn", "quarot"):
        drifts = [float(line["drift"]) for line in lines if line["method"] == method]
        text = shown[method][0].replace("*", "")
        assert float(text.split(" ± ")[0]) == pytest.approx(1000 * np.mean(drifts), abs=0.005)
        if len(drifts) > 1:
            assert float(text.split(" ± ")[1]) == pytest.approx(1000 * np.std(drifts, ddof=1), abs=0.005)


def test_a_failed_cell_is_a_dash_with_its_reason_and_a_line_of_the_csv(made, whole):
    why = "RecipeError: static activations per token do not exist"
    table = Summary("mini", [whole, made(), made("quarot", reason=why)])
    text = document(table)
    assert cells_of(text, "## Cameras")["quarot"] == ["–<sup>1</sup>"]
    assert f"1. {why}" in text
    (line,) = [line for line in csv.DictReader(io.StringIO(csv_text(table.records))) if line["reason"]]
    assert (line["state"], line["reason"], line["drift"]) == ("failed", why, "")


def test_a_seed_that_failed_among_others_is_said(made, whole):
    table = Summary("mini", [whole, made(), made(seed=1, reason="NumericError: not finite")])
    text = document(table)
    assert "NumericError: not finite" in text
    assert "1 of 2" in text


def test_a_cell_that_was_not_asked_for_is_empty_not_a_dash(made, whole):
    text = document(Summary("mini", [whole, made(), made("quarot", W8A8)]))
    assert cells_of(text, "## Cameras")["rtn"][0] == ""


def test_the_best_of_a_column_is_bold_and_keys_and_values_alone_do_not_compete(made, whole):
    text = document(
        Summary("mini", [whole, made(), made("quarot", drift=(0.01, 0.01)), made("rotatekv", drift=(0, 0))])
    )
    shown = cells_of(text, "## Drift")
    assert shown["quarot"][0].startswith("**")
    assert not shown["rtn"][0].startswith("**")
    assert not shown["rotatekv"][0].startswith("**")
    assert "out of competition" in text


def test_names_from_outside_do_not_break_the_table(made, whole):
    text = document(Summary("mini", [whole, made(reason="a | b\n| c <b>")]))
    assert "a \\| b?\\| c &lt;b>" in text


def test_cells_of_another_recipe_are_said_to_be_so(made, whole):
    old = made("quarot")
    old = replace(old, recipe={**old.recipe, "seed": 9})
    assert "Made with another recipe" in document(Summary("mini", [whole, made(), old]))
    assert "Made with another recipe" not in document(Summary("mini", [whole, made()]))


def test_the_plot_is_a_whole_document_and_a_larger_drift_lies_further_right(made, whole):
    records = [whole, made(drift=(0.03, 0.03)), made("quarot", drift=(0.01, 0.01)), made("quarot", seed=1)]
    root = ET.fromstring(drift_plot(Summary("mi<ni", records)))
    assert "mi<ni" in root.get("aria-label")
    place = {}
    for group in (found for found in root if found.tag.endswith("}g")):
        title, *_, mark = group
        place[title.text.split(":")[0]] = float(mark.get("cx"))
    assert list(place) == ["rtn W4A4", "quarot W4A4"]
    assert 200 < place["quarot W4A4"] < place["rtn W4A4"] < 880


def test_what_does_not_compete_is_not_in_the_plot(made, whole):
    text = drift_plot(Summary("mini", [whole, made(), made("rotatekv", drift=(1e-9, 1e-9))]))
    assert "rtn" in text
    assert "rotatekv" not in text


def test_a_plot_of_nothing_is_still_a_document(made):
    ET.fromstring(drift_plot(Summary("mini", [made(reason="NumericError: x")])))


def test_the_goal_of_shares_holds_and_fails_where_it_should(made, whole):
    good = Summary(
        "mini", [whole, made("quarot", drift=(0.01, 0.01)), made("quarot", W8A8, drift=(0.001, 0.001))]
    )
    assert goal(good, "W4A4", "AUC@30", "AUC@5") is True
    assert goal(good, "W8A8") is True
    bad = Summary(
        "mini", [whole, made("quarot", drift=(0.03, 0.03)), made("quarot", W8A8, drift=(0.01, 0.01))]
    )
    assert goal(bad, "W4A4", "AUC@30", "AUC@5") is False
    assert goal(bad, "W8A8") is False
    assert goal(Summary("mini", [whole]), "W8A8") is None


def test_on_planted_outliers_smoothing_first_does_not_reach_the_goal(made):
    whole = made("full_precision", Bits(16, 16), drift=(0.0, 0.0), model="mini-outliers")

    def table(method):
        records = [whole, made(drift=(0.03, 0.03)), made(method, drift=(0.002, 0.002))]
        return Summary("mini-outliers", records)

    assert goal(table("smoothquant"), "drift of the best") is None
    assert goal(table("quarot"), "drift of the best") is True


def test_to_beat_beyond_the_spread_the_bands_may_not_touch(made, whole):
    def table(*ours):
        records = [made("quantvggt", seed=seed, drift=(drift, drift)) for seed, drift in enumerate(ours)]
        rivals = [made(seed=seed, drift=(drift, drift)) for seed, drift in enumerate((0.030, 0.032))]
        return Summary("mini", [whole, *records, *rivals])

    assert goal(table(0.020, 0.021), "quantvggt beats rtn", "drift") is True
    assert goal(table(0.020, 0.040), "quantvggt beats rtn", "drift") is False
    assert goal(table(0.040, 0.041), "quantvggt beats rtn", "AUC@5") is False
    assert goal(table(0.020), "quantvggt beats rtn", "drift") is None


def test_the_reading_has_what_is_for_all_and_what_is_for_the_model(tmp_path):
    path = tmp_path / "reading.md"
    assert reading(path, "mini") == ""
    path.write_text("For all.\n\n## mini\n\nOf mini.\n\n## pi3-mini\n\nOf Pi3.\n")
    assert reading(path, "mini") == "For all.\n\nOf mini."
    assert reading(path, "mini-outliers") == "For all."
