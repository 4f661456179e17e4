"""A region drawn in the widget: its suspects, how they stream in, what a click on one does, and what goes wrong."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quantlab import widgets
from quantlab.errors import NumericError
from quantlab.widgets.clouds_view import ComparePane
from quantlab.widgets.desk import Desk
from quantlab.widgets.layer_view import LayerPane

FRAMES, SIDE = 2, 24  # as the lab's comparison has them
WORST = "aggregator.frame_blocks.3.attn.qkv"


def view(lab: Any) -> Any:
    return next(view for view in Desk.of(lab)._views if type(view) is ComparePane)


def send(lab: Any, **event: Any) -> None:
    view(lab).pane._received(None, {"event": event}, [])


def draw(lab: Any, pixels: int = 30, **other: Any) -> None:
    region = np.zeros(FRAMES * SIDE * SIDE, dtype=bool)
    region[:pixels] = True
    mask = base64.b64encode(np.packbits(region, bitorder="little")).decode()
    send(lab, **{"type": "region", "frames": FRAMES, "height": SIDE, "width": SIDE, "mask": mask, **other})


def suspects(lab: Any) -> dict[str, Any]:
    return dict(view(lab).pane.shown("suspects"))


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def asked(lab: Any, pixels: int = 30) -> dict[str, Any]:
    """The list for a region, when it is complete."""
    draw(lab, pixels)
    until(lambda: bool(suspects(lab)["title"]) and not suspects(lab)["busy"])
    until(lambda: view(lab).pane.shown("status") == "")
    return suspects(lab)


def row(lab: Any, name: str) -> dict[str, Any]:
    return dict(next(row for row in suspects(lab)["rows"] if row["name"] == name))


def test_a_region_lists_its_suspects_the_worst_first_in_parts_of_the_damage(lab: Any) -> None:
    widgets.compare(lab)
    assert suspects(lab)["title"] == ""
    shown = asked(lab)
    assert "2 % error in 30 pixels" in shown["title"]
    assert shown["rows"][0]["name"] == WORST
    assert shown["rows"][0]["value"] == "25 %"  # 0.005 of 0.02
    assert "the estimate was 20 %" in shown["rows"][0]["help"]
    assert "5 %" in shown["text"]  # the luck of rounding


def test_estimates_are_shown_at_once_and_values_stream_in(lab: Any) -> None:
    widgets.compare(lab)
    lab.pause.clear()
    draw(lab)
    until(lambda: bool(suspects(lab)["title"]))
    assert suspects(lab)["rows"][0]["value"] == "≈ 20 %"
    assert suspects(lab)["busy"]
    lab.pause.set()
    until(lambda: not suspects(lab)["busy"])
    assert all(entry["known"] for entry in suspects(lab)["rows"])


@pytest.mark.parametrize(("action", "setting", "held"), [("restore", "keep", True), ("bits", "weights", 8)])
def test_a_click_on_a_suspect_is_one_step_of_the_recipe(
    lab: Any, action: str, setting: str, held: Any
) -> None:
    widgets.bench(lab)
    asked(lab)
    before = lab.recipe
    send(lab, type=action, name=WORST)
    assert getattr(lab.recipe.layer(WORST, lab.structure), setting) == held
    done = {entry["id"]: entry["done"] for entry in row(lab, WORST)["actions"]}
    assert done[action]
    assert "before your last change" in suspects(lab)["title"]
    lab.undo()
    assert lab.recipe == before
    assert "before your last change" not in suspects(lab)["title"]


def test_a_click_on_the_name_of_a_suspect_opens_it(lab: Any) -> None:
    widgets.bench(lab)
    asked(lab)
    send(lab, type="select", name=WORST)
    layer = next(view for view in Desk.of(lab)._views if type(view) is LayerPane)
    assert layer.name == WORST


def test_a_region_wiped_away_has_no_suspects(lab: Any) -> None:
    widgets.compare(lab)
    asked(lab)
    draw(lab, mask="")
    assert suspects(lab)["title"] == ""


def test_the_next_region_ends_the_work_on_the_former_one(lab: Any) -> None:
    widgets.compare(lab)
    lab.pause.clear()
    draw(lab, 30)
    until(lambda: bool(suspects(lab)["title"]))
    draw(lab, 50)
    lab.pause.set()
    until(lambda: "50 pixels" in suspects(lab)["title"] and not suspects(lab)["busy"])
    assert lab.costs.count("blame 30") == 1


@pytest.mark.parametrize("how", ["stop", "edit"])
def test_stop_or_a_change_ends_the_work_and_keeps_what_was_found(lab: Any, how: str) -> None:
    widgets.compare(lab)
    lab.pause.clear()
    draw(lab)
    until(lambda: bool(suspects(lab)["title"]))
    if how == "stop":
        send(lab, type="stop")
    else:
        Desk.of(lab).edit(lambda: lab.set(WORST, weights=8))
    lab.pause.set()
    until(lambda: not suspects(lab)["busy"])
    assert suspects(lab)["rows"][0]["value"].startswith("≈")


@pytest.mark.parametrize(
    "other",
    [{"mask": "!!"}, {"mask": "AAAA"}, {"frames": 10**9}, {"height": "24"}, {"width": None}, {"mask": ["x"]}],
)
def test_a_region_that_makes_no_sense_is_refused_and_told(lab: Any, other: dict[str, Any]) -> None:
    widgets.compare(lab)
    draw(lab, **other)
    until(lambda: bool(view(lab).pane.shown("error")))
    assert suspects(lab)["title"] == ""
    assert not any(cost.startswith("blame") for cost in lab.costs)
    asked(lab)  # and the next one works
    assert view(lab).pane.shown("error") == ""


def test_a_failed_search_for_suspects_is_told_and_the_clouds_stay(lab: Any) -> None:
    widgets.compare(lab)
    clouds = view(lab).pane._shown["clouds"]
    lab.blame = lambda *_args, **_more: (_ for _ in ()).throw(NumericError("a NaN", place="fc2"))
    draw(lab)
    until(lambda: bool(view(lab).pane.shown("error")))
    assert view(lab).pane.shown("error").startswith("a NaN (fc2)")
    assert view(lab).pane._shown["clouds"] is clouds


@pytest.mark.parametrize("name", ["no.such.layer", None, ["x"], {}])
def test_no_layer_is_restored_that_does_not_exist(lab: Any, name: Any) -> None:
    widgets.compare(lab)
    before = lab.recipe
    send(lab, type="restore", name=name)
    assert lab.recipe == before
