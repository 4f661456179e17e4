"""Laws of the figures: what they show can be read back from them, and they stay free of torch."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from quantlab import figures
from quantlab.calibration.picked import Picked
from quantlab.engine.settings import LayerSettings
from quantlab.engine.views import LayerView
from quantlab.figures import readable, symlog
from quantlab.figures.pool_map import SHAPES
from quantlab.numerics.records import BIN_EDGES, Histogram

RANDOM = np.random.default_rng(5)


def histogram(values):
    return Histogram(np.histogram(values, BIN_EDGES)[0].astype(np.int64))


def layer(name, kind="fc1", stream="frame", index=0):
    return SimpleNamespace(name=name, kind=kind, stream=stream, index=index)


def luminance(colour):
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def view(steps=("raw", "rotated", "quantized"), **changes):
    values = {step: RANDOM.normal(size=3000) for step in steps}
    record = {
        "name": "a.b",
        "settings": LayerSettings(weights=4, activations=4),
        "quantized": True,
        "reason": "",
        "steps": {step: histogram(x) for step, x in values.items()},
        "grid": np.linspace(-2, 2, 15, dtype=np.float32),
        "clip_low": -2.0,
        "clip_high": 2.0,
        "clipped_fraction": 0.045,
        "wasted_levels": 3,
        "channel_absmax": {step: np.abs(RANDOM.normal(size=40)).astype(np.float32) for step in steps},
        "landscape": {step: RANDOM.normal(size=(20, 6)).astype(np.float32) for step in steps},
        "landscape_kinds": np.full(6, 2, np.uint8),
        "search": None,
        "output_error": 0.1,
        "weight_error": 0.1,
        "reading": "",
    }
    return LayerView(**{**record, **changes})


def profile_layer():
    channels = np.arange(1, 5, dtype=np.float32)
    stats = {
        kind: SimpleNamespace(max=3.0, histogram=histogram(RANDOM.normal(size=500)))
        for kind in ("all", "camera", "patch")
    }
    return SimpleNamespace(name="a.b", tokens=stats, all=stats["all"], channel_max=channels)


def pool(size=12, *, dropped=None, far=()):
    positions = np.stack([np.arange(size), np.arange(size) % 3], axis=1) / 10
    positions[list(far)] += 1000.0
    cluster = np.arange(size) % 3
    cluster[list(dropped or {})] = -1
    return Picked(
        method="nfds",
        names=tuple(f"<b>scene {index}" for index in range(size)),
        picked=np.array([index for index in (1, 4) if index < size], dtype=np.int64),
        dropped=dropped or {},
        cluster=cluster,
        scores=np.linspace(1, 2, size),
        score="noise",
        positions=positions,
        space="likeness",
        explained=0.77,
        frames=np.full(size, 4),
        tokens=np.full(size, 276),
    )


def every_figure(theme):
    layers = [layer("frame.0.qkv", "qkv"), layer("frame.0.fc1"), layer("head.conv", "conv", "depth_head", -1)]
    errors = np.abs(RANDOM.normal(size=(2, 5, 5))).astype(np.float32)
    return {
        "map": figures.outlier_map(layers, {"frame.0.fc1": 0.02}, selected="frame.0.fc1", theme=theme),
        "no samples": figures.layer_histogram(view(()), theme=theme),
        "empty map": figures.outlier_map([], {}, theme=theme),
        "histogram": figures.layer_histogram(view(), former=histogram(RANDOM.normal(size=50)), theme=theme),
        "tokens": figures.token_histogram(profile_layer(), theme=theme),
        "channels": figures.channel_maxima(view(), theme=theme),
        "landscape": figures.landscape(view(), ["raw", "rotated"], kinds=["camera"] * 6, theme=theme),
        "landscape without kinds": figures.landscape(view(), theme=theme),
        "search": figures.search_curve([2.0, 1.0, 3.0], [0.3, 0.5, float("nan")], theme=theme),
        "errors": figures.error_histogram(errors, former=2 * errors, scale=4.0, theme=theme),
        "pool": figures.pool_map(pool(dropped={0: "too loud"}), theme=theme),
        "pool of one": figures.pool_map(pool(1), theme=theme),
    }


@pytest.mark.parametrize("name", list(every_figure(figures.LIGHT)))
@pytest.mark.parametrize("theme", [figures.LIGHT, figures.DARK], ids=["light", "dark"])
def test_plotly_accepts_every_property_of_the_figure(name, theme):
    from plotly.graph_objects import Figure

    assert Figure(every_figure(theme)[name]).to_plotly_json()["layout"]["uirevision"]


def walk(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)
    else:
        yield value


@pytest.mark.parametrize("name", list(every_figure(figures.PAGE)))
def test_a_figure_for_the_page_names_its_colours_so_that_a_theme_change_asks_no_server(name):
    texts = [item for item in walk(every_figure(figures.PAGE)[name]) if isinstance(item, str)]
    literal = [
        text for text in texts if text.startswith("#") or (text.startswith("rgb") and text != "rgba(0,0,0,0)")
    ]
    assert not literal
    assert {text[1:] for text in texts if text.startswith("@")} <= set(figures.LIGHT.colours())


def test_drawing_loads_neither_torch_nor_plotly():
    code = "import sys, quantlab.figures; print(sorted({'torch', 'plotly', 'gradio'} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"


def test_no_plot_offers_to_send_itself_away():
    assert figures.CONFIG["showSendToCloud"] is False


# ---- the map -------------------------------------------------------------------------------------------------------


def cells(figure):
    return [name for line in figure["data"][0]["customdata"] for name in line if name]


def test_every_layer_has_exactly_one_cell_which_a_click_can_name():
    layers = [
        layer(f"{s}.{i}.{k}", k, s, i) for s in ("frame", "global") for i in range(3) for k in ("qkv", "fc2")
    ]
    layers += [layer(f"head.{i}", "conv", "depth_head", -1) for i in range(5)]
    assert sorted(cells(figures.outlier_map(layers, {}))) == sorted(item.name for item in layers)


def test_layers_of_one_kind_in_one_block_all_get_a_cell():
    layers = [layer(f"b.{i}.{n}", "qkv", "", i) for i in range(2) for n in ("q", "k", "v")]
    layers += [layer(f"b.{i}.{k}", k, "", i) for i in range(2) for k in ("proj", "fc1", "fc2")]
    assert sorted(cells(figures.outlier_map(layers, {}))) == sorted(item.name for item in layers)


def test_streams_that_are_not_asked_for_are_not_drawn():
    layers = [layer("a", stream="frame"), layer("b", stream="vit")]
    assert cells(figures.outlier_map(layers, {}, streams=["vit"])) == ["b"]


def test_a_larger_value_never_gets_a_smaller_colour_and_a_missing_one_gets_none():
    layers = [layer(f"f.{i}", index=i) for i in range(4)]
    figure = figures.outlier_map(layers, {"f.0": 1e-6, "f.1": 0.01, "f.2": 0.5})
    row = next(line for line in figure["data"][0]["z"] if any(z is not None for z in line))
    assert row[0] < row[1] < row[2]
    assert row[3] is None


def test_a_layer_named_like_markup_stays_text():
    figure = figures.outlier_map([layer("<img src=x onerror=alert(1)>")], {}, notes={})
    hover = [text for line in figure["data"][0]["text"] for text in line if text]
    assert hover
    assert "<img" not in hover[0]


def test_only_the_selected_cell_is_outlined():
    layers = [layer(f"f.{i}", index=i) for i in range(3)]
    values = dict.fromkeys(["f.0", "f.1", "f.2"], 0.1)
    outlined = figures.outlier_map(layers, values, selected="f.1")["layout"]["shapes"]
    assert {(shape["x0"] + shape["x1"]) / 2 for shape in outlined} == {1.0}


@pytest.mark.parametrize("theme", [figures.LIGHT, figures.DARK], ids=["light", "dark"])
def test_the_stroke_of_a_layer_without_a_number_stands_out_from_the_page_and_from_the_smallest_value(theme):
    for other in (theme.page, theme.missing, theme.severity0):
        dim, bright = sorted([luminance(theme.hatch), luminance(other)])
        assert (bright + 0.05) / (dim + 0.05) >= 1.5


def test_a_layer_without_a_number_is_struck_through_can_be_clicked_and_says_why():
    layers = [layer(f"f.{i}", index=i) for i in range(3)]
    figure = figures.outlier_map(layers, {"f.0": 0.1}, untouched=["f.2"])
    _, pale, strokes = figure["data"]
    shown = [
        cell
        for cells, z in zip(pale["customdata"], pale["z"], strict=True)
        for cell, at in zip(cells, z, strict=True)
        if at == 0
    ]
    assert shown == ["f.1", "f.2"]
    assert len(strokes["x"]) == 3 * len(shown)
    hover = dict(zip(pale["customdata"][0], pale["text"][0], strict=True))
    assert "not measured" in hover["f.1"]
    assert "full precision" in hover["f.2"]
    assert "not measured" not in hover["f.2"]


def test_the_scale_begins_near_the_smallest_values_and_ends_at_the_largest():
    layers = [layer(f"f.{i}", index=i) for i in range(40)]
    values = {f"f.{i}": value for i, value in enumerate(np.geomspace(0.003, 0.1234, 40))}
    figure = figures.outlier_map(layers, values)
    assert 10 ** figure["data"][0]["zmin"] == pytest.approx(0.0036, rel=0.1)
    assert figure["data"][0]["colorbar"]["ticktext"][-1] == "0.123"


def test_times_use_the_whole_scale_though_they_are_alike_and_equal_ones_make_no_contrast():
    layers = [layer("a"), layer("b", index=1)]
    ends = {}
    for least in (0.02, 0.04):
        heat = figures.outlier_map(layers, {"a": least, "b": 0.04}, color_by="time")["data"][0]
        ends[least] = 10 ** heat["zmin"], 10 ** heat["zmax"]
    assert ends[0.02] == pytest.approx((0.021, 0.04))
    assert ends[0.04][1] >= 1.5 * ends[0.04][0]


def test_a_share_is_told_in_per_cent_on_the_scale_as_in_the_list():
    figure = figures.outlier_map([layer("a"), layer("b", index=1)], {"a": 0.02, "b": 0.51}, color_by="blame")
    assert figure["data"][0]["colorbar"]["ticktext"][-1] == "51 %"


def test_block_numbers_are_those_of_blocks_and_heads_have_none():
    heads = [layer(f"head.{i}", "conv", "depth_head", -1) for i in range(30)]
    alone = figures.outlier_map(heads, {})["layout"]
    assert alone["xaxis"]["tickvals"] == []
    trunk = [layer(f"f.{i}", index=i) for i in range(3)]
    axis = figures.outlier_map([*trunk, *heads], {})["layout"]["xaxis"]
    assert axis["tickvals"] == [0, 1, 2]
    assert axis["title"]["text"] == "block"


def test_the_label_of_a_head_stands_in_the_middle_of_its_rows():
    heads = [layer(f"head.{i}", "conv", "depth_head", -1) for i in range(36)]
    axis = figures.outlier_map(heads, {})["layout"]["yaxis"]
    assert (axis["tickvals"], axis["ticktext"]) == ([1.0], ["depth head"])


# ---- the histogram -------------------------------------------------------------------------------------------------


def test_the_shares_of_a_curve_add_up_to_one():
    figure = figures.layer_histogram(view(("raw", "quantized")))
    curve = next(trace for trace in figure["data"] if trace["name"] == "raw")
    shares = np.array(curve["y"][1:-1:2])
    assert shares.sum() == pytest.approx(1, abs=0.02)


def test_grid_lines_stand_where_the_levels_are():
    record = view(("raw", "quantized"))
    grid = figures.layer_histogram(record)["data"][0]
    linear = symlog.linear_width(record.steps["raw"].edges, record.steps["raw"].counts)
    places = np.array([x for x in grid["x"] if x is not None][::2])
    assert np.sinh(places) * linear == pytest.approx(record.grid, abs=2e-3)


def test_what_lies_beyond_the_clip_lines_is_shaded_and_its_share_written():
    figure = figures.layer_histogram(view())
    kinds = [shape["type"] for shape in figure["layout"]["shapes"]]
    assert kinds.count("line") == 2
    assert kinds.count("rect") == 2
    assert "4.5 % clipped" in figure["layout"]["annotations"][0]["text"]


def test_where_nothing_is_clipped_nothing_is_shaded():
    figure = figures.layer_histogram(view(clipped_fraction=0.0))
    assert [shape["type"] for shape in figure["layout"]["shapes"]] == ["line", "line"]
    assert "nothing clipped" in figure["layout"]["annotations"][0]["text"]


def test_the_values_that_are_rounded_are_shown_with_the_grid_that_is_theirs():
    figure = figures.layer_histogram(view(("raw", "rotated", "smoothed", "quantized")))
    shown = {trace["name"]: trace.get("visible", True) for trace in figure["data"]}
    assert [shown[step] for step in ("raw", "rotated", "smoothed", "quantized")] == [
        True,
        "legendonly",
        True,
        True,
    ]


def test_the_shade_ends_with_the_values_that_are_rounded_not_with_those_that_came_in():
    record = view(("raw", "rotated", "quantized"))
    wide = {**record.steps, "raw": histogram(np.linspace(-90, 90, 500))}
    object.__setattr__(record, "steps", wide)
    linear = symlog.linear_width(wide["raw"].edges, wide["raw"].counts)
    shaded = [
        shape for shape in figures.layer_histogram(record)["layout"]["shapes"] if shape["type"] == "rect"
    ]
    reach = np.sinh([abs(shape["x1"]) for shape in shaded]) * linear
    assert len(shaded) == 2
    assert (reach < 6).all()


def test_the_axis_reaches_over_the_whole_grid_and_is_labelled_there():
    record = view(
        ("raw", "quantized"),
        grid=np.linspace(-400, 400, 15, dtype=np.float32),
        clip_low=-400.0,
        clip_high=400.0,
    )
    figure = figures.layer_histogram(record)
    stated = [float(text.replace("−", "-")) for text in figure["layout"]["xaxis"]["ticktext"]]
    assert (min(stated), max(stated)) == (-100.0, 100.0)
    assert "symlog" in figure["layout"]["xaxis"]["title"]["text"]
    assert "widest token" in figure["data"][0]["name"]


def test_a_layer_without_samples_is_drawn_from_its_profile_or_says_so():
    nothing = view((), grid=None, clip_low=None, clip_high=None)
    for draw in (figures.layer_histogram, figures.channel_maxima):
        bare = draw(nothing, name="a.b")
        assert bare["data"] == []
        assert "not measured" in bare["layout"]["annotations"][0]["text"]
        assert [trace["name"].split(" ")[0] for trace in draw(nothing, profile=profile_layer())["data"]] == [
            "raw"
        ]
    assert figures.landscape(nothing, [])["data"] == []


# ---- channels, tokens, search --------------------------------------------------------------------------------------


def test_a_landscape_names_the_channels_and_tokens_of_the_layer_and_their_values():
    record = view(
        ("raw",), landscape_channels=np.arange(20) * 37, landscape_tokens=np.array([3, 9, 11, 20, 21, 900])
    )
    kinds = ["camera", *["register"] * 2, *["patch"] * 3]
    figure = figures.landscape(record, kinds=kinds)
    heat = figure["data"][0]
    assert heat["x"][2] == "74"
    assert heat["y"][-1] == "900 (patch)"
    assert heat["customdata"][5][2] == pytest.approx(abs(float(record.landscape["raw"][2, 5])), rel=5e-3)
    assert set(figure["layout"]["xaxis"]["tickvals"]) <= set(heat["x"])
    bands = [(shape["y0"], shape["y1"], shape["fillcolor"]) for shape in figure["layout"]["shapes"]]
    theme = figures.LIGHT
    assert bands == [(-0.5, 0.5, theme.camera), (0.5, 2.5, theme.register), (2.5, 5.5, theme.patch)]


def test_zeros_do_not_stretch_the_axis_of_the_rest():
    values = np.concatenate([np.zeros(900), RANDOM.uniform(1, 2, 100)])
    assert 1 < symlog.linear_width(BIN_EDGES, histogram(values).counts) < 2


@pytest.mark.parametrize(("low", "high"), [(1.3, 4.0), (0.2, 30.0), (1e-5, 70.0), (2.0, 2.0)])
def test_logarithmic_ticks_fall_within_the_data_or_next_to_it(low, high):
    ticks = symlog.log_ticks(low, high)
    if "tickvals" not in ticks:
        assert np.log10(high / low) >= 1
        return
    assert sum(low / 2.6 <= value <= high * 2.6 for value in ticks["tickvals"]) >= 2
    assert [float(text.replace("−", "-")) for text in ticks["ticktext"]] == pytest.approx(ticks["tickvals"])


def test_losses_are_drawn_on_a_logarithmic_axis_unless_one_is_zero():
    assert figures.search_curve([1.0, 2.0], [0.1, 0.5])["layout"]["yaxis"]["type"] == "log"
    assert "type" not in figures.search_curve([1.0, 2.0], [0.0, 0.5])["layout"]["yaxis"]


def test_a_layer_that_is_not_rounded_shows_its_values_and_no_grid():
    figure = figures.layer_histogram(view(("raw",), grid=None, clip_low=None, clip_high=None))
    assert [trace["name"] for trace in figure["data"]] == ["raw"]
    assert figure["layout"]["shapes"] == []


def test_a_layer_of_nothing_but_zeros_is_drawn():
    zeros = histogram(np.zeros(10))
    record = view(("raw",), grid=None, clip_low=None, clip_high=None)
    object.__setattr__(record, "steps", {"raw": zeros})
    places = figures.layer_histogram(record)["data"][0]["x"]
    assert np.isfinite(places).all()
    assert np.ptp(places) > 0


def test_token_kinds_are_drawn_apart_each_with_its_own_colour():
    figure = figures.token_histogram(profile_layer(), theme=figures.LIGHT)
    colours = [trace["line"]["color"] for trace in figure["data"]]
    assert colours == [figures.LIGHT.camera, figures.LIGHT.patch]


@pytest.mark.parametrize("linear", [1e-3, 1.0, 40.0])
def test_ticks_say_the_values_they_stand_at(linear):
    ticks = symlog.ticks(-250.0, 90.0, linear)
    stated = [float(text.replace("−", "-")) for text in ticks["ticktext"]]
    assert np.sinh(ticks["tickvals"]) * linear == pytest.approx(stated, rel=2e-3, abs=1e-9)
    assert stated == sorted(stated)


def test_ticks_keep_apart():
    ticks = symlog.ticks(-1e6, 1e6, 1e-6)
    places = np.array(ticks["tickvals"])
    assert np.diff(places).min() >= 0.08 * np.ptp(symlog.to_axis([-1e6, 1e6], 1e-6))


# ---- numbers and lists ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.0123456, -4.0, 123456.0, 1e-7, 3.14159e8, 99.96])
def test_a_short_number_is_within_half_a_per_cent(value):
    assert float(readable.short(value).replace("−", "-")) == pytest.approx(value, rel=5e-3)


def test_what_is_no_number_says_so():
    assert [readable.short(x) for x in (None, float("nan"), float("inf"))] == ["–", "NaN", "infinite"]


def test_the_worst_layers_come_largest_first_and_harmless_ones_not_at_all():
    assert figures.worst({"a": 0.1, "b": 0.3, "c": 0.0, "d": 0.2}, 3) == [("b", 0.3), ("d", 0.2), ("a", 0.1)]


def test_severities_leave_out_what_is_not_finite_and_what_was_never_rounded():
    diagnosis = SimpleNamespace(layers={"a": 0.1, "b": float("nan"), "left alone": 0.0})
    assert figures.severities("tre", None, diagnosis) == {"a": 0.1}
    assert figures.severities("kurtosis", None, None) == {}


# ---- the pool


def by_name(figure):
    return {trace.get("name", ""): trace for trace in figure["data"] if trace.get("name")}


def test_the_map_of_a_pool_rings_what_was_picked_and_crosses_what_was_left_out_with_the_reason():
    figure = figures.pool_map(pool(dropped={0: "too <loud>", 5: "too dark"}))
    traces = by_name(figure)
    assert traces["2 picked"]["customdata"] == [1, 4]
    left_out = traces["2 left out"]
    assert left_out["customdata"] == [0, 5]
    assert "too &lt;loud&gt;" in left_out["text"][0]
    assert "&lt;b&gt;scene 0" in left_out["text"][0]
    assert all("4 frames, 276 tokens" in text for text in left_out["text"])
    groups = [trace for trace in figure["data"] if not trace.get("name")]
    assert sorted(index for trace in groups for index in trace["customdata"]) == [
        1,
        2,
        3,
        4,
        6,
        7,
        8,
        9,
        10,
        11,
    ]
    assert len({trace["marker"]["symbol"] for trace in groups}) == len(groups) == 3


def test_groups_differ_in_shape_and_colour_as_long_as_there_are_enough_of_both():
    theme = figures.LIGHT
    looks = {(SHAPES[group % len(SHAPES)], theme.cluster(group)) for group in range(72)}
    assert len(looks) == 72


@pytest.mark.parametrize("theme", [figures.LIGHT, figures.DARK], ids=["light", "dark"])
def test_every_group_stands_out_from_the_page(theme):
    for index in range(8):
        dim, bright = sorted([luminance(theme.cluster(index)), luminance(theme.page)])
        assert (bright + 0.05) / (dim + 0.05) >= 3


def test_a_scene_far_away_stands_at_the_edge_and_says_so_and_does_not_press_the_others_together():
    near, far = figures.pool_map(pool(12)), figures.pool_map(pool(12, far=(3, 7), dropped={3: "x", 7: "y"}))
    for side in ("xaxis", "yaxis"):
        low, high = far["layout"][side]["range"]
        assert high - low < 2 * (near["layout"][side]["range"][1] - near["layout"][side]["range"][0])
    left_out = by_name(far)["2 left out"]
    (low, high), (bottom, top) = far["layout"]["xaxis"]["range"], far["layout"]["yaxis"]["range"]
    assert all(low <= x <= high for x in left_out["x"])
    assert all(bottom <= y <= top for y in left_out["y"])
    assert all("beyond the edge" in text for text in left_out["text"])
    assert len(set(zip(left_out["x"], left_out["y"], strict=True))) == 2
    assert "2 beyond the edge" in far["layout"]["xaxis"]["title"]["text"]
    assert "beyond" not in near["layout"]["xaxis"]["title"]["text"]
