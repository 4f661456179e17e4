"""The table of layers without a page: what it shows, changes and refuses, and that 400 layers are quick."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from quantlab import widgets
from quantlab.engine.recipe import Recipe
from quantlab.models.structure import BranchInfo, LayerInfo
from quantlab.widgets.desk import Desk
from quantlab.widgets.layer_view import LayerPane
from quantlab.widgets.rows import EDITABLE, changed, columns, layer_rows
from quantlab.widgets.table_view import TableView
from quantlab.widgets.views import MapPane

FC2 = "aggregator.global_blocks.1.mlp.fc2"
FC1 = FC2.replace("fc2", "fc1")
HEAD = "camera_head.fc1"
KEYS = [column["key"] for column in columns()]


def find(lab: Any, kind: type) -> Any:
    return next(view for view in Desk.of(lab)._views if type(view) is kind)


def send(view: Any, **event: Any) -> None:
    view.pane._received(None, {"event": event}, [])


def cell(lab: Any, name: str, key: str) -> Any:
    rows = find(lab, TableView).pane.shown("table")["rows"]
    return next(row for row in rows if row["name"] == name)["values"][KEYS.index(key)]


def set_cell(lab: Any, setting: str, value: Any, *names: str) -> None:
    send(find(lab, TableView), type="set", setting=setting, value=value, names=list(names))


def test_every_layer_has_a_row_with_its_settings_tails_and_tre(lab: Any) -> None:
    widgets.table(lab)
    rows = find(lab, TableView).pane.shown("table")["rows"]
    assert [row["name"] for row in rows] == list(lab.structure.layers)
    assert (cell(lab, FC2, "weights"), cell(lab, FC2, "rotation"), cell(lab, FC2, "keep")) == (
        4,
        "none",
        False,
    )
    assert cell(lab, FC2, "tre") == [pytest.approx(0.02 / 4), "0.00500"]
    assert cell(lab, FC2, "kurtosis")[0] == lab.profile().layers[FC2].all.kurtosis


def test_every_column_that_can_be_changed_has_the_help_of_its_setting() -> None:
    from quantlab.engine.settings import FIELDS

    for column in columns():
        assert column["help"]
        if column["kind"] in ("choice", "switch"):
            assert column["help"] == FIELDS[column["key"]].metadata["help"]
    assert {column["key"] for column in columns() if column["kind"] in ("choice", "switch")} == set(EDITABLE)


@pytest.mark.parametrize(
    ("setting", "value", "held"),
    [("weights", 8, 8), ("rotation", "hadamard", "hadamard"), ("smoothing", 0.7, 0.7), ("keep", True, True)],
)
def test_a_changed_cell_is_one_step_of_the_recipe_and_all_widgets_follow(
    lab: Any, setting: str, value: Any, held: Any
) -> None:
    widgets.table(lab)
    widgets.layer(lab, FC2)
    before = lab.recipe
    set_cell(lab, setting, value, FC2)
    assert getattr(lab.recipe.layer(FC2, lab.structure), setting) == held
    assert cell(lab, FC2, setting) == held
    controls = find(lab, LayerPane).controls
    assert getattr(controls, f"_{setting}").value in (held, True)
    lab.undo()
    assert lab.recipe == before
    assert cell(lab, FC2, setting) != held


def test_smoothing_is_turned_off_by_its_word(lab: Any) -> None:
    widgets.table(lab)
    set_cell(lab, "smoothing", 0.5, FC2)
    set_cell(lab, "smoothing", "off", FC2)
    assert lab.recipe.layer(FC2, lab.structure).smoothing is None


def test_a_change_for_all_layers_shown_is_a_single_step(lab: Any) -> None:
    widgets.table(lab)
    before = lab.recipe
    set_cell(lab, "activations", 8, FC1, FC2)
    assert [lab.recipe.layer(name, lab.structure).activations for name in (FC1, FC2)] == [8, 8]
    lab.undo()
    assert lab.recipe == before


def test_compensation_is_that_of_the_branch_and_a_head_has_none(lab: Any) -> None:
    widgets.table(lab)
    set_cell(lab, "compensation", "auto", FC2)
    assert (cell(lab, FC1, "compensation"), cell(lab, FC2, "compensation")) == ("auto", "auto")
    assert cell(lab, HEAD, "compensation") is None


def test_bits_of_a_kept_layer_bring_it_back(lab: Any) -> None:
    widgets.table(lab)
    set_cell(lab, "keep", True, FC2)
    assert (cell(lab, FC2, "weights"), cell(lab, FC2, "tre")) == (16, [None, "not rounded"])
    set_cell(lab, "weights", 4, FC2)
    assert (cell(lab, FC2, "weights"), cell(lab, FC2, "keep")) == (4, False)


@pytest.mark.parametrize(
    ("setting", "value", "names"),
    [
        ("weights", 9, [FC2]),
        ("weights", [4], [FC2]),
        ("rotation", "<img>", [FC2]),
        ("seed", 3, [FC2]),
        (None, 3, [FC2]),
        ("weights", 4, []),
        ("weights", 4, "*"),
        ("weights", 4, ["no.such.layer", None, ["x"]]),
        ("compensation", "on", [HEAD]),
    ],
)
def test_what_cannot_be_is_refused_told_and_changes_nothing(
    lab: Any, setting: Any, value: Any, names: Any
) -> None:
    widgets.table(lab)
    view, before = find(lab, TableView), lab.recipe
    turn = view.pane.shown("table")["turn"]
    send(view, type="set", setting=setting, value=value, names=names)
    assert lab.recipe == before
    assert view.pane.shown("error")
    assert view.pane.shown("table")["turn"] > turn  # so that the page draws what holds
    set_cell(lab, "weights", 8, FC2)
    assert view.pane.shown("error") == ""


def test_selection_goes_both_ways_and_measures_no_clouds(lab: Any) -> None:
    widgets.map(lab)
    widgets.table(lab)
    table, network = find(lab, TableView), find(lab, MapPane)
    send(network, type="select", name=FC2)
    assert table.pane.shown("selected") == FC2
    send(table, type="select", name=FC1)
    assert network.pane.shown("rows")["selected"] == FC1


def test_selecting_sends_the_rows_no_second_time(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    widgets.table(lab)
    pane = find(lab, TableView).pane
    shown: list[str] = []
    monkeypatch.setattr(pane, "show", lambda slot, data, buffers=(): shown.append(slot))
    send(find(lab, TableView), type="select", name=FC1)
    assert "selected" in shown
    assert "table" not in shown


def test_where_a_forward_is_slow_settings_show_at_once_and_numbers_say_not_measured(slow_lab: Any) -> None:
    widgets.table(slow_lab)
    assert cell(slow_lab, FC2, "tre") == [None, "not measured"]
    assert cell(slow_lab, FC2, "kurtosis") == [None, "not measured"]
    set_cell(slow_lab, "weights", 8, FC2)
    assert cell(slow_lab, FC2, "weights") == 8
    assert slow_lab.costs == []
    desk = Desk.of(slow_lab)
    desk.run()
    desk._thread.join(20)
    assert cell(slow_lab, FC2, "tre")[0] is not None
    slow_lab.set(FC2, weights=6)
    assert cell(slow_lab, FC2, "tre") == [None, "not measured"]  # that number was of another recipe


def test_four_hundred_layers_are_listed_and_changed_together_within_a_second() -> None:
    layers, branches = {}, {}
    for index in range(100):
        block = f"aggregator.global_blocks.{index}"
        for kind, part in (
            ("qkv", "attn.qkv"),
            ("proj", "attn.proj"),
            ("fc1", "mlp.fc1"),
            ("fc2", "mlp.fc2"),
        ):
            name = f"{block}.{part}"
            layers[name] = LayerInfo(name, kind, "global", block, index, 8, 8, 72, "linear")
        for kind in ("attn", "mlp"):
            inside = tuple(name for name in layers if name.startswith(f"{block}.{kind}."))
            branches[f"{block}.{kind}"] = BranchInfo(f"{block}.{kind}", block, kind, "", "", inside)
    blocks = {layer.block: SimpleNamespace(name=layer.block) for layer in layers.values()}
    structure: Any = SimpleNamespace(layers=layers, branches=branches, blocks=blocks)
    recipe = Recipe.preset("rtn")
    started = time.process_time()
    event = {"setting": "weights", "value": 6, "names": list(layers)}
    after = changed(recipe, structure, event)
    rows = layer_rows(SimpleNamespace(recipe=after, structure=structure), None, None)  # type: ignore[arg-type]
    seconds = time.process_time() - started
    assert [row["values"][KEYS.index("weights")] for row in rows] == [6] * 400
    assert seconds < 1
