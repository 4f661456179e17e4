"""The figures of one layer: waterfall, relief, clip line, search. What they show can be read back from them."""

from __future__ import annotations

import numpy as np
import pytest

from quantlab import figures
from quantlab.engine.settings import LayerSettings
from quantlab.engine.views import BranchOutput, ClipCurve, LayerView, WeightView
from quantlab.figures import symlog
from quantlab.numerics.records import BIN_EDGES, Histogram

RANDOM = np.random.default_rng(11)
STEPS = ("raw", "rotated", "quantized")


def histogram(values):
    return Histogram(np.histogram(values, BIN_EDGES)[0].astype(np.int64))


def curve(*, kept=True, scales=1):
    shares = np.array([0.25, 0.5, 1.0])
    share = np.array([0.9, 0.97, 1.0]) if kept else None
    return ClipCurve(shares, np.array([0.3, 0.1, 0.2]), 0.2, share, scales)


def stepped(steps=STEPS):
    values = {step: RANDOM.normal(size=3000) * (5 if step == "raw" else 1) for step in steps}
    return {
        "settings": LayerSettings(weights=4, activations=4),
        "steps": {step: histogram(x) for step, x in values.items()},
        "grid": np.linspace(-4, 3.5, 16, dtype=np.float32),
        "clip_low": -4.0,
        "clip_high": 3.5,
        "clipped_fraction": 0.0,
        "wasted_levels": 3,
        "channel_absmax": {step: np.abs(RANDOM.normal(size=40)).astype(np.float32) for step in steps},
        "landscape": {step: RANDOM.normal(size=(20, 6)).astype(np.float32) for step in steps},
        "landscape_channels": np.arange(20) * 3,
        "landscape_tokens": np.arange(6) * 7,
        "clip": curve(),
    }


def layer(**changes):
    facts = {"name": "a.b", "quantized": True, "reason": "", "search": None, "reading": ""}
    errors = {
        "output_error": 0.1,
        "weight_error": 0.1,
        "landscape_kinds": np.array([0, 0, 2, 2, 2, 2], np.uint8),
    }
    return LayerView(**{**facts, **errors, **stepped(), **changes})


def weight(**changes):
    return WeightView(**{**stepped(), **changes})


def output():
    values = [histogram(RANDOM.normal(size=500)) for _ in range(3)]
    return BranchOutput("a", *values, 0.3, 0.1)


def every_figure(theme):
    now, before = layer(output=output()), layer(output=output())
    kinds = ["camera"] * 2 + ["patch"] * 4
    return {
        "waterfall": figures.waterfall(now, former=before, name="a", theme=theme),
        "waterfall of a weight": figures.waterfall(weight(), former=weight(), theme=theme),
        "waterfall of nothing": figures.waterfall(layer(steps={}), theme=theme),
        "histogram of a weight": figures.layer_histogram(weight(), theme=theme),
        "channels": figures.channel_maxima(now, former=before, theme=theme),
        "landscape": figures.landscape(now, ["raw", "rotated"], kinds=kinds, former=before, theme=theme),
        "landscape of a weight": figures.landscape(weight(), theme=theme),
        "surface": figures.surface(now, ["raw", "rotated"], kinds=kinds, theme=theme),
        "surface of nothing": figures.surface(layer(landscape={}), theme=theme),
        "search": figures.search_curve(
            [2.0, 1.0], [0.3, 0.5], every=([1, 2, 3], [0.5, 0.3, 0.4]), former=([1], [1]), theme=theme
        ),
    }


@pytest.mark.parametrize("name", list(every_figure(figures.LIGHT)))
@pytest.mark.parametrize("theme", [figures.LIGHT, figures.DARK], ids=["light", "dark"])
def test_plotly_accepts_every_property_of_the_figure(name, theme):
    from plotly.graph_objects import Figure

    assert Figure(every_figure(theme)[name]).to_plotly_json()["layout"]["uirevision"]


def walk(value):
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from walk(item)
    else:
        yield value


@pytest.mark.parametrize("name", list(every_figure(figures.PAGE)))
def test_a_figure_for_the_page_names_its_colours(name):
    texts = [item for item in walk(every_figure(figures.PAGE)[name]) if isinstance(item, str)]
    assert not [text for text in texts if text.startswith(("#", "rgb")) and text != "rgba(0,0,0,0)"]
    assert {text[1:] for text in texts if text.startswith("@")} <= set(figures.LIGHT.colours())


# ---- waterfall -----------------------------------------------------------------------------------------------------


def test_each_step_has_a_row_below_the_last_and_a_step_not_taken_has_none():
    figure = figures.waterfall(layer())
    assert [trace["name"] for trace in figure["data"]] == list(STEPS)
    floors = [min(trace["y"]) for trace in figure["data"]]
    assert floors == sorted(floors, reverse=True)
    assert all(max(trace["y"]) < floor + 1 for trace, floor in zip(figure["data"], floors, strict=True))
    assert not any("compensated" in trace["name"] for trace in figure["data"])


def test_the_rows_share_one_axis_and_their_shares_add_up_to_all():
    figure = figures.waterfall(layer())
    places = [trace["x"] for trace in figure["data"]]
    assert places[0] == places[1] == places[2]
    for trace in figure["data"]:
        assert sum(trace["meta"]["y"][1:-1:2]) == pytest.approx(1.0, abs=1e-2)


def test_a_compensated_branch_adds_its_output_and_says_that_it_is_one():
    figure = figures.waterfall(layer(output=output()))
    assert [trace["name"] for trace in figure["data"]][-3:] == [
        "output, exact",
        "output, rounded",
        "compensated",
    ]
    assert "output of the branch" in figure["layout"]["xaxis"]["title"]["text"]


def test_the_former_state_is_a_ghost_on_the_row_of_its_step():
    figure = figures.waterfall(layer(), former=layer())
    rows = {trace["name"]: trace for trace in figure["data"]}
    assert {name for name in rows if name.endswith("before")} == {"rotated before", "quantized before"}
    assert min(rows["quantized before"]["y"]) == min(rows["quantized"]["y"])
    assert rows["quantized before"]["line"]["color"] == figures.LIGHT.ghost


# ---- clip line -----------------------------------------------------------------------------------------------------


def test_the_clip_line_goes_over_the_curve_and_knows_where_it_is_and_where_it_is_best():
    slider = figures.clip_slider(layer(), 0.5)
    assert slider["error"] == [0.3, 0.1, 0.2]
    assert (slider["now"], slider["best"], slider["measured"]) == (2, 1, 0.2)
    assert slider["high"] == pytest.approx(symlog.to_axis([0.875, 1.75, 3.5], 0.5), rel=1e-3)
    assert slider["low"] == pytest.approx(symlog.to_axis([-1.0, -2.0, -4.0], 0.5), rel=1e-3)
    assert figures.clip_slider(layer(clip=None), 0.5) is None


@pytest.mark.parametrize(
    ("view", "how"),
    [
        (layer(clip=curve(kept=False, scales=9)), "words"),
        (
            layer(settings=LayerSettings(activations=4, activation_granularity="tensor")),
            "percentile",
        ),
        (weight(clip=curve(kept=False, scales=9)), "search"),
        (weight(settings=LayerSettings(weights=4, weight_granularity="tensor")), "percentile"),
    ],
    ids=["token", "tensor", "channels", "whole weight"],
)
def test_the_clip_line_offers_only_what_the_settings_can_do(view, how):
    setting = figures.clip_slider(view, 1.0)["setting"]
    assert setting["how"] == how
    assert bool(setting["changes"]) == (how != "words")
    assert setting["words"].strip()


def test_the_changes_offered_are_settings_that_are_accepted():
    for view in (layer(settings=LayerSettings(activations=4, activation_granularity="tensor")), weight()):
        changes = figures.clip_slider(view, 1.0)["setting"]["changes"]
        known = {name: getattr(view.settings, name) for name in LayerSettings.__dataclass_fields__}
        assert LayerSettings(**{**known, **changes}).range_search == changes["range_search"]


# ---- landscape and search ------------------------------------------------------------------------------------------


def test_relief_and_flat_show_the_same_values():
    view = layer()
    relief, flat = figures.surface(view), figures.landscape(view)
    assert np.allclose(relief["data"][0]["z"], np.abs(view.landscape["raw"]).T, rtol=1e-2)
    assert relief["data"][0]["surfacecolor"] == flat["data"][0]["z"]


def test_surfaces_of_two_steps_stand_apart_and_token_kinds_are_marked_on_both():
    figure = figures.surface(layer(), ["raw", "rotated"], kinds=["camera"] * 2 + ["patch"] * 4)
    first, second = (trace for trace in figure["data"] if trace["type"] == "surface")
    assert max(first["y"]) < min(second["y"])
    edges = [trace for trace in figure["data"] if trace["type"] == "scatter3d"]
    assert [edge["line"]["color"] for edge in edges] == [figures.LIGHT.camera, figures.LIGHT.patch] * 2
    assert [edge["showlegend"] for edge in edges] == [True, True, False, False]


def test_a_landscape_says_what_a_value_was_only_where_it_changed():
    now, before = layer(), layer()
    heat = figures.landscape(now, "raw", former=before)["data"][0]
    assert heat["text"][0][0].startswith(" (was ")
    assert figures.landscape(now, "raw", former=now)["data"][0]["text"] is None


def test_the_points_of_a_search_are_numbered_in_the_order_of_the_visits_on_the_whole_curve():
    scales, losses = [3.0, 1.0, 2.0], [0.5, 0.4, 0.1]
    every = ([0.5, 1.0, 2.0, 3.0], [0.7, 0.4, 0.1, 0.5])
    figure = figures.search_curve(scales, losses, every=every)
    whole, tried, chosen = figure["data"]
    assert (whole["x"], whole["y"]) == every
    assert (tried["x"], tried["text"]) == (scales, ["1", "2", "3"])
    assert chosen["x"] == [2.0]
    assert "the 3rd tried" in chosen["name"]


def test_numbers_of_points_that_stand_too_close_are_left_out():
    close = figures.search_curve([1.0, 2.0, 2.001], [0.3, 0.2, 0.1])["data"][0]
    assert close["text"] == ["1", "2", ""]


# ---- a large network -----------------------------------------------------------------------------------------------


def test_the_map_of_a_released_network_has_a_cell_and_a_labelled_row_for_every_layer():
    from quantlab.models.networks import build_model
    from quantlab.models.structure import describe

    layers = describe(build_model("vggt", device="meta")).layers
    figure = figures.outlier_map(layers.values(), dict.fromkeys(layers, 0.1))
    names = [name for line in figure["data"][0]["customdata"] for name in line if name]
    assert sorted(names) == sorted(layers)
    assert len(layers) > 400
    labels = figure["layout"]["yaxis"]["ticktext"]
    for stream in ("ViT", "frame", "global"):
        assert {f"{stream} · {kind}" for kind in ("qkv", "proj", "fc1", "fc2")} <= set(labels)
