"""What the numbers of an evaluation say, and what they must not."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import pytest

from quantlab.engine.evaluation import Drift, Evaluation, Scores
from quantlab.engine.measurement import Measurement
from quantlab.views.numbers import numbers
from quantlab.views.timing import layer_time


def evaluation(*, error=0.02, truth=True, packed=1_000_000, auc5=0.4):
    scores = Scores(auc30=0.8, auc5=auc5, abs_rel=0.05) if truth else None
    drift = Drift(error, 0.01, 0.99, 0.98, 0.97, 0.96, {})
    return Evaluation(scores, drift, 0.04, packed, 4_000_000, ("demo",))


def measurement(seconds):
    return Measurement(
        seconds=seconds,
        full_seconds=0.08,
        mixed_seconds=0.06,
        runs=5,
        bytes=1_000_000,
        full_bytes=8_000_000,
        kernels={"native": 3, "reference": 1},
        chosen={"a": "native"},
        layers={"a": 0.01, "kept": 0.004},
        simulated={"b": "its input is not rounded"},
        attention="torch",
        threads=2,
        machine="a test",
    )


def tiles(now, before=None, **settings):
    strip = numbers(now, before, **{"sizes": (1_000_000, 4_000_000), "stale": False, **settings})
    return {tile["label"]: tile for tile in strip["items"]}


def test_what_was_not_measured_says_so_and_shows_no_zero():
    strip = tiles(None)
    for label in ("point error", "AUC@30", "AUC@5", "AbsRel", "forward"):
        assert (strip[label]["value"], strip[label]["note"]) == ("", "not measured")
    assert strip["size"]["value"] == "1", "the size is known before anything ran"


@pytest.mark.parametrize(
    ("label", "before", "now", "trend"),
    [
        ("point error", {"error": 0.03}, {"error": 0.02}, "better"),
        ("point error", {"error": 0.02}, {"error": 0.03}, "worse"),
        ("point error", {"error": 0.02}, {"error": 0.020001}, "same"),
        ("AUC@5", {"auc5": 0.4}, {"auc5": 0.5}, "better"),
        ("AUC@5", {"auc5": 0.5}, {"auc5": 0.4}, "worse"),
    ],
)
def test_a_change_is_called_by_whether_it_helps(label, before, now, trend):
    tile = tiles(evaluation(**now), evaluation(**before))[label]
    assert tile["trend"] == trend
    assert tile["note"].startswith("was ")


def test_without_a_truth_the_scores_are_those_against_full_precision_and_say_so():
    tile = tiles(evaluation(truth=False))["AUC@5"]
    assert tile["value"] == "0.970"
    assert tile["base"] == ""
    assert "full precision" in tile["help"]


def test_a_time_of_the_simulation_is_no_latency_and_not_stated_where_blocks_were_answered_from_memory():
    for now, base in ((evaluation(), "simulated 40 ms"), (replace(evaluation(), replayed=3), "")):
        tile = tiles(now)["forward"]
        assert (tile["value"], tile["note"], tile["base"]) == ("", "not measured", base)
        assert tile["ask"]["do"] == "measure"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "2× faster"), (0.16, "2× slower"), (0.081, "about as fast")]
)
def test_a_measured_time_stands_beside_that_of_full_precision_and_names_its_kernels(seconds, words):
    tile = tiles(evaluation(), measured=(measurement(seconds), None))["forward"]
    assert (tile["note"], tile["base"]) == (words, "full 80 ms")
    assert tile["ask"]["label"] == "↻", "it can be measured again"
    for told in (
        "native (our own C) × 3, reference × 1",
        "a test",
        "2 threads",
        "1 layer simulated",
        "bfloat16): 60 ms",
    ):
        assert told in tile["help"]


def test_what_bfloat16_between_the_layers_takes_and_costs_stands_beside_it():
    exact = replace(measurement(0.04), errors={"depth": 0.02, "pose": 0.01})
    both = replace(exact, lowered=replace(exact, seconds=0.025, errors={"depth": 0.031}))
    told = tiles(evaluation(), measured=(both, None))["forward"]["help"]
    assert "outputs off full precision by up to 2 %" in told
    assert "(compute='bfloat16'): 25 ms, off by up to 3.1 %" in told


def test_a_machine_that_was_busy_meanwhile_is_told_of():
    assert "busy" not in tiles(evaluation(), measured=(measurement(0.04), None))["forward"]["help"]
    busy = replace(measurement(0.04), fastest=0.03, slowest=0.09)
    tile = tiles(evaluation(), measured=(busy, None))["forward"]
    assert "passes took 30 ms to 90 ms" in tile["help"]
    assert tile["note"] == "2× faster"


@pytest.mark.parametrize(
    ("ratios", "note", "base"),
    [
        ((1.9, 2.0, 2.0, 2.05, 9.0), "2× faster", "full 80 ms"),
        ((0.5, 0.5, 0.51), "2× slower", "full 80 ms"),
        ((1.1, 1.2, 1.4, 1.5, 1.6), "1.2–1.5× as fast", "busy machine"),
        ((0.7, 0.9, 1.2, 1.3, 1.4), "about as fast", "0.9–1.3×, busy"),
        ((0.97, 1.0, 1.06, 1.06), "about as fast", "full 80 ms"),
    ],
)
def test_rounds_decide_which_is_faster_and_where_they_do_not_agree_their_range_is_in_sight(
    ratios, note, base
):
    seconds = 0.08 / median(ratios)
    tile = tiles(evaluation(), measured=(replace(measurement(seconds), ratios=ratios), None))["forward"]
    assert (tile["note"], tile["base"]) == (note, base)
    assert ("the machine was busy" in tile["help"]) == ("full" not in base)


def test_milliseconds_that_contradict_the_rounds_do_not_stand_beside_them():
    waited = replace(measurement(0.1), ratios=(1.1, 1.1, 1.12))
    tile = tiles(evaluation(), measured=(waited, None))["forward"]
    assert (tile["note"], tile["base"]) == ("1.1× faster", "busy machine")
    assert "the machine was busy" in tile["help"]


def test_the_range_stays_in_sight_beside_the_former_time():
    wide = replace(measurement(0.04), ratios=(1.1, 1.2, 1.4, 1.5, 1.6))
    tile = tiles(evaluation(), measured=(wide, measurement(0.05)))["forward"]
    assert (tile["note"], tile["base"]) == ("was 50 ms", "1.2–1.5×, busy")


def test_while_it_is_measured_the_tile_says_so_and_cannot_be_pressed():
    for known in (None, measurement(0.04)):
        tile = tiles(evaluation(), measured=(known, None), measuring=True)["forward"]
        assert (tile["note"], tile["ask"]["busy"]) == ("measuring…", True)
        assert not tiles(evaluation(), measured=(known, None))["forward"]["ask"]["busy"]


def test_what_the_hover_text_says_is_there_line_by_line_for_those_who_cannot_hover():
    tile = tiles(evaluation(), measured=(measurement(0.04), None))["forward"]
    assert "\n".join(tile["details"]) == tile["help"]
    assert "details" not in tiles(evaluation())["forward"], "nothing was measured"


def test_the_former_time_is_shown_after_a_change_and_what_was_timed_before_is_not_the_time_now():
    both = tiles(evaluation(), measured=(measurement(0.04), measurement(0.05)))["forward"]
    assert both["note"] == "was 50 ms"
    assert tiles(evaluation(), measured=(None, measurement(0.05)))["forward"]["value"] == ""


def test_a_layer_is_told_its_time_its_part_and_its_kernel():
    assert layer_time(measurement(0.04), "a") == "10 ms (25 %) by native"
    assert layer_time(measurement(0.04), "kept") == "4 ms (10 %)"
    assert layer_time(measurement(0.04), "never called") == layer_time(None, "a") == ""


def test_scores_stand_beside_those_of_full_precision_against_the_same_truth():
    strip = tiles(replace(evaluation(), baseline=Scores(auc30=0.911, auc5=0.5, abs_rel=0.026)))
    assert [strip[label]["base"] for label in ("AUC@30", "AbsRel")] == ["full 0.911", "full 0.0260"]
    assert "true depth" in strip["AbsRel"]["help"]
    assert "true cameras" in strip["AUC@5"]["help"]


def test_the_point_error_is_in_per_cent_and_rounding_of_the_arithmetic_is_nothing():
    assert [tiles(evaluation(error=error))["point error"]["value"] for error in (0.00729, 1e-9)] == [
        "0.729",
        "0",
    ]


def test_the_former_size_does_not_hide_what_the_size_is_of():
    tile = tiles(evaluation(), evaluation(packed=2_000_000))["size"]
    assert (tile["note"], tile["base"], tile["trend"]) == ("was 2", "of 4 MB", "better")
