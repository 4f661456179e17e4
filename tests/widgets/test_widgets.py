"""The widgets without a page: what they measure, show and change, on a lab that costs nothing."""

from __future__ import annotations

import asyncio
import json
import zlib
from pathlib import Path
from typing import Any

import plotly
import pytest

from quantlab import widgets
from quantlab.errors import NumericError, RecipeError
from quantlab.widgets.clouds_view import ComparePane
from quantlab.widgets.desk import Desk
from quantlab.widgets.layer_view import LayerPane
from quantlab.widgets.pane import Pane, code
from quantlab.widgets.views import MapPane

FC2 = "aggregator.global_blocks.1.mlp.fc2"
QKV = "aggregator.frame_blocks.0.attn.qkv"


def find(lab: Any, kind: type) -> Any:
    return next(view for view in Desk.of(lab)._views if type(view) is kind)


def click(view: Any, name: object) -> None:
    view.pane._received(None, {"event": {"type": "select", "name": name}}, [])


def sent(pane: Pane, monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], Any]]:
    """What goes to the page from now on."""
    messages: list[tuple[dict[str, Any], Any]] = []
    monkeypatch.setattr(pane, "send", lambda message, buffers=None: messages.append((message, buffers)))
    return messages


def test_the_bench_measures_each_thing_once_and_shows_all_of_it(lab: Any) -> None:
    widgets.bench(lab)
    assert sorted(lab.costs) == ["compare 0", "diagnose", "evaluate", "layer", "profile"]
    for view in Desk.of(lab)._views:
        assert (view.stale, view.pane.shown("error"), view.pane.shown("status")) == (False, "", "")
    assert find(lab, MapPane).pane.shown("figure")["figure"]["data"]
    assert find(lab, LayerPane).pane.shown("figure")["figure"]["data"]
    assert find(lab, ComparePane).pane._shown["clouds"][1][0][:4] == b"QLPC"


def test_the_bench_begins_with_the_layer_of_the_heaviest_tail(lab: Any) -> None:
    widgets.bench(lab)
    assert ".3." in Desk.of(lab).selected


def test_a_control_writes_the_recipe_and_histogram_clouds_and_numbers_follow(lab: Any) -> None:
    widgets.bench(lab)
    layer, compare = find(lab, LayerPane), find(lab, ComparePane)
    click(find(lab, MapPane), FC2)
    before = layer.pane.shown("words"), compare.pane.shown("numbers"), compare.pane._shown["clouds"][1]
    layer.controls._activations.value = 8
    assert lab.recipe.layer(FC2, lab.structure).activations == 8
    assert lab.recipe.layer(QKV, lab.structure).activations == 4
    after = layer.pane.shown("words"), compare.pane.shown("numbers"), compare.pane._shown["clouds"][1]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert "8 bits" in after[0]["sentences"][0]
    assert after[1][0]["label"] == "point error"
    assert any(row["note"].startswith("was ") for row in after[1])
    names = [trace["name"] for trace in layer.pane.shown("figure")["figure"]["data"]]
    assert "before" in names


def test_selecting_a_layer_asks_for_no_new_clouds(lab: Any) -> None:
    widgets.bench(lab)
    lab.costs.clear()
    click(find(lab, MapPane), FC2)
    assert "compare 0" not in lab.costs
    assert find(lab, LayerPane).pane.shown("title")["full"] == FC2
    assert find(lab, MapPane).pane.shown("rows")["selected"] == FC2


@pytest.mark.parametrize("name", ["no.such.layer", None, ["x"], "<img>"])
def test_what_is_no_layer_is_not_selected(lab: Any, name: object) -> None:
    widgets.map(lab)
    before = Desk.of(lab).selected
    click(find(lab, MapPane), name)
    assert Desk.of(lab).selected == before


def test_undo_and_redo_show_the_controls_of_their_recipe(lab: Any) -> None:
    widgets.bench(lab)
    views = Desk.of(lab)._views
    bar, layer = views[0].bar, find(lab, LayerPane)
    assert (bar._undo.disabled, bar._redo.disabled) == (True, True)
    layer.controls._rotation.value = True
    assert lab.recipe.layer(layer.name, lab.structure).rotation == "hadamard"
    bar._undo.click()
    assert (layer.controls._rotation.value, bar._redo.disabled) == (False, False)
    bar._redo.click()
    assert layer.controls._rotation.value is True


def test_smoothing_takes_its_strength_from_the_slider(lab: Any) -> None:
    widgets.layer(lab, FC2)
    controls = find(lab, LayerPane).controls
    assert controls._alpha.disabled
    controls._smoothing.value = True
    assert lab.recipe.layer(FC2, lab.structure).smoothing == 0.5
    controls._alpha.value = 0.7
    assert lab.recipe.layer(FC2, lab.structure).smoothing == 0.7
    controls._smoothing.value = False
    assert lab.recipe.layer(FC2, lab.structure).smoothing is None


@pytest.mark.parametrize(
    ("apply_to", "inside", "outside"),
    [
        ("layer", FC2, FC2.replace(".1.", ".2.")),
        ("kind", FC2.replace(".1.", ".2."), FC2.replace("fc2", "fc1")),
        ("block", FC2.replace("fc2", "fc1"), FC2.replace(".1.", ".2.")),
        ("all", QKV, ""),
    ],
)
def test_a_change_holds_for_what_it_is_applied_to(lab: Any, apply_to: str, inside: str, outside: str) -> None:
    widgets.layer(lab, FC2)
    controls = find(lab, LayerPane).controls
    controls._apply_to.value = apply_to
    controls._weights.value = 6
    assert lab.recipe.layer(FC2, lab.structure).weights == 6
    assert lab.recipe.layer(inside, lab.structure).weights == 6
    if outside:
        assert lab.recipe.layer(outside, lab.structure).weights == 4


def test_compensation_is_written_for_the_branch(lab: Any) -> None:
    widgets.layer(lab, FC2)
    find(lab, LayerPane).controls._compensation.value = "on"
    assert lab.recipe.branch("aggregator.global_blocks.1.mlp").compensation == "on"
    assert lab.recipe.branch("aggregator.global_blocks.1.attn").compensation == "off"


def test_a_preset_with_its_bits_replaces_the_recipe(lab: Any) -> None:
    widgets.bench(lab)
    bar = Desk.of(lab)._views[0].bar
    bar._preset.value = "quarot"
    bar._bits.value = 6
    assert (lab.recipe.name, lab.recipe.layer(FC2, lab.structure).weights) == ("quarot", 6)
    assert find(lab, LayerPane).controls._rotation.value is True


def test_widgets_in_several_cells_stay_in_step(lab: Any) -> None:
    widgets.map(lab)
    widgets.layer(lab)
    widgets.layer(lab, QKV)
    following, fixed = [view for view in Desk.of(lab)._views if type(view) is LayerPane]
    click(find(lab, MapPane), FC2)
    assert (following.name, fixed.name) == (FC2, QKV)
    lab.set("*", weights=8)
    assert fixed.controls._weights.value == following.controls._weights.value == 8


def test_many_changes_in_one_cell_are_followed_once_after_it(lab: Any) -> None:
    widgets.compare(lab)
    lab.costs.clear()

    async def cell() -> None:
        for bits in (3, 5, 6, 8):
            lab.set("*", weights=bits)
        assert lab.costs == []
        await asyncio.sleep(0)

    asyncio.run(cell())
    assert lab.costs == ["compare 0", "evaluate"]


def test_a_failed_measurement_is_told_where_it_failed_and_the_rest_goes_on(
    lab: Any, nan: NumericError
) -> None:
    widgets.bench(lab)
    clouds = find(lab, ComparePane).pane._shown["clouds"]
    lab.trouble = nan  # raised by the first that measures: the layer
    lab.set(FC2, activations=8)
    assert find(lab, LayerPane).pane.shown("error") == "a NaN <b>here</b> (fc2). Look at the layer."
    assert find(lab, ComparePane).pane._shown["clouds"] != clouds
    assert find(lab, ComparePane).pane.shown("error") == ""
    lab.undo()
    assert find(lab, LayerPane).pane.shown("error") == ""


def test_a_cloud_that_collapsed_is_said_in_its_place_and_the_numbers_come(
    lab: Any, nan: NumericError
) -> None:
    lab.trouble = nan
    widgets.compare(lab)
    view = find(lab, ComparePane)
    assert view.pane.shown("clouds")["message"] == str(nan)
    assert view.pane.shown("numbers")
    assert view.pane.shown("error") == ""


def test_a_bug_in_one_view_never_blanks_the_others(lab: Any) -> None:
    widgets.bench(lab)
    lab.trouble = ZeroDivisionError("oh")
    lab.set(FC2, weights=8)
    assert "ZeroDivisionError: oh" in find(lab, LayerPane).pane.shown("error")
    assert find(lab, MapPane).pane.shown("error") == ""


def test_a_refused_change_leaves_recipe_and_controls_as_they_were(lab: Any) -> None:
    widgets.layer(lab, "camera_head.fc1")
    view, before = find(lab, LayerPane), lab.recipe
    view.controls._compensation.value = "on"
    assert view.pane.shown("error").startswith("compensation belongs to attention and MLP branches")
    assert view.controls._compensation.value == "off"
    assert lab.recipe == before


def test_an_interrupt_reaches_the_cell_and_the_next_change_works(lab: Any) -> None:
    widgets.compare(lab)
    lab.trouble = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        lab.set("*", weights=8)
    assert "interrupted" in find(lab, ComparePane).pane.shown("status")
    lab.set("*", weights=6)
    assert find(lab, ComparePane).pane.shown("status") == ""


def test_where_a_forward_is_slow_nothing_starts_before_run(slow_lab: Any) -> None:
    widgets.bench(slow_lab)
    desk = Desk.of(slow_lab)
    assert slow_lab.costs == []
    assert find(slow_lab, ComparePane).pane.shown("status") == "waiting: press Run (about 61 s)"
    slow_lab.set(FC2, weights=8)
    assert slow_lab.costs == []
    desk.run()
    desk._thread.join(20)
    assert "compare 0" in slow_lab.costs
    assert find(slow_lab, ComparePane).pane.shown("status") == ""


def test_stop_ends_the_work_and_keeps_what_was_shown(slow_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    widgets.compare(slow_lab)
    desk, pane = Desk.of(slow_lab), find(slow_lab, ComparePane).pane
    clouds = pane._shown["clouds"]
    monkeypatch.setattr(slow_lab, "_error", lambda: desk.stop() or 0.1)
    desk.run()
    desk._thread.join(20)
    assert "stopped" in pane.shown("status")
    assert pane.shown("numbers") is None
    assert clouds[0]["message"]


def test_a_closed_widget_is_measured_no_more(lab: Any) -> None:
    widget = widgets.compare(lab)
    widget.close()
    lab.costs.clear()
    lab.set("*", weights=8)
    assert lab.costs == []


def test_nothing_that_a_notebook_saves_is_large(lab: Any) -> None:
    widgets.bench(lab)
    for view in Desk.of(lab)._views:
        state = json.dumps(view.pane.get_state(), default=str)
        assert len(state) < 20_000
        assert "plotly.js v" not in state


def test_a_page_that_asks_gets_the_plotly_of_the_package(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    widgets.map(lab)
    pane = find(lab, MapPane).pane
    messages = sent(pane, monkeypatch)
    pane._received(pane, {"ask": "code", "name": "plotly"}, [])
    (message, buffers), *_ = messages
    assert message["key"] == pane.needs["plotly"] == code("plotly").key
    installed = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    assert zlib.decompress(buffers[0]) == installed.read_bytes()


@pytest.mark.parametrize(
    "message", [None, [], "code", {}, {"ask": "code", "name": "../../secret"}, {"ask": 3}, {"event": 1}]
)
def test_a_message_that_makes_no_sense_is_ignored(
    lab: Any, monkeypatch: pytest.MonkeyPatch, message: object
) -> None:
    widgets.map(lab)
    pane = find(lab, MapPane).pane
    messages = sent(pane, monkeypatch)
    pane._received(pane, message, [])
    assert messages == []


def test_nothing_is_sent_before_a_page_asks_and_everything_after(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    widgets.compare(lab)
    pane = find(lab, ComparePane).pane
    messages = sent(pane, monkeypatch)
    lab.set("*", weights=8)
    assert messages == []
    pane._received(pane, {"ask": "content"}, [])
    assert {message.get("show") for message, _ in messages} >= {"clouds", "numbers"}
    assert set(messages[0][0]["palettes"]) == {"light", "dark"}


def test_an_unknown_layer_is_refused_with_the_nearest_name(lab: Any) -> None:
    with pytest.raises(RecipeError, match=r"Did you mean 'aggregator.global_blocks.1.mlp.fc2'"):
        widgets.layer(lab, "aggregator.global_block.1.mlp.fc2")


def test_an_unknown_colour_of_the_map_is_refused_with_the_known_ones(lab: Any) -> None:
    with pytest.raises(RecipeError, match="kurtosis"):
        widgets.map(lab, color_by="beauty")
