"""What is chosen in one front end pastes into the other: YAML, Python and links, there and back."""

from __future__ import annotations

from typing import Any

import pytest

import quantlab as ql
from quantlab import widgets
from quantlab.engine.recipe import Recipe
from quantlab.views.link import open_link
from quantlab.widgets.desk import Desk
from quantlab.widgets.exchange import incoming, outgoing
from quantlab.widgets.views import BarView

FC2 = "aggregator.global_blocks.1.mlp.fc2"


def bar(lab: Any) -> Any:
    return next(view for view in Desk.of(lab)._views if type(view) is BarView)


def paste(lab: Any, text: object) -> None:
    bar(lab).pane._received(None, {"event": {"type": "recipe", "text": text}}, [])


def changed(lab: Any) -> Any:
    lab.recipe = (
        Recipe.preset("quarot", weights=4, activations=6).set(FC2, keep=True).set("*.qkv", smoothing=0.3)
    )
    return lab


def test_the_copied_python_builds_the_same_recipe_in_a_cell(lab: Any) -> None:
    cell: dict[str, Any] = {}
    exec(outgoing(changed(lab))["python"], cell)
    assert cell["recipe"] == lab.recipe
    assert cell["ql"] is ql


def test_the_copied_yaml_and_the_link_are_the_same_recipe(lab: Any) -> None:
    text = outgoing(changed(lab))
    assert incoming(text["yaml"]) == incoming(text["link"]) == lab.recipe
    assert open_link(text["link"]).model == "mini"


def test_a_model_that_the_app_does_not_list_has_no_link(lab: Any) -> None:
    lab.name = "my network"
    assert outgoing(lab)["link"] == ""


@pytest.mark.parametrize("kind", ["yaml", "link"])
def test_a_pasted_recipe_is_one_step_that_can_be_undone(lab: Any, kind: str) -> None:
    widgets.bench(lab)
    before = lab.recipe
    text = outgoing(changed(lab))[kind]
    wanted = lab.recipe
    lab.recipe = before
    paste(lab, text)
    assert lab.recipe == wanted
    assert bar(lab).pane.shown("recipe")["yaml"] == wanted.to_yaml()
    lab.undo()
    assert lab.recipe == before


@pytest.mark.parametrize("text", ["<img onerror=x>", "[" * 100_000, "format: 99", "http://x/?s=AAAA", ""])
def test_text_that_is_no_recipe_is_refused_told_and_changes_nothing(lab: Any, text: str) -> None:
    widgets.bench(lab)
    before = lab.recipe
    paste(lab, text)
    assert lab.recipe == before
    assert bar(lab).pane.shown("error")


@pytest.mark.parametrize("text", [None, 3, ["x"]])
def test_a_message_without_text_is_ignored(lab: Any, text: object) -> None:
    widgets.bench(lab)
    paste(lab, text)
    assert bar(lab).pane.shown("error") == ""


def test_presets_are_offered_by_the_names_of_their_papers(lab: Any) -> None:
    widgets.bench(lab)
    labels = [label for label, _name in bar(lab).bar._preset.options]
    assert {"Round to nearest", "SmoothQuant", "QuaRot"} <= set(labels)
    bar(lab).bar._preset.value = "quarot"
    assert bar(lab).bar._preset.tooltip


def test_every_control_has_a_help_text(lab: Any) -> None:
    widgets.bench(lab)
    for view in Desk.of(lab)._views:
        for control in controls(view.widget):
            assert control.tooltip, control.description


def controls(widget: Any) -> list[Any]:
    """All controls below a box."""
    inside = [control for child in getattr(widget, "children", ()) for control in controls(child)]
    return inside + ([widget] if getattr(widget, "description", None) else [])
