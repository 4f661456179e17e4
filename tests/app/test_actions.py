"""What a person does and what the page then shows, on invented labs."""

from __future__ import annotations

import json
import threading
import time

import pytest

from quantlab.engine.recipe import Recipe
from quantlab.errors import JobCancelledError
from quantlab.jobs import Job

FC2 = "aggregator.global_blocks.1.mlp.fc2"


def shown(stream):
    """Everything a handler told the page, newest last."""
    parts = {}
    for changed in stream:
        parts.update(
            {
                name: value if name == "modules" else value["value"]
                for name, value in changed.items()
                if name != "overtaken"
            }
        )
    return parts


@pytest.fixture
def open_bench(bench):
    def build(**settings):
        built = bench(**settings)
        built.first = shown(built.actions.act("page", {"do": "ready"}))
        built.session = built.store.of("page")
        built.lab = built.session.lab
        return built

    return build


def test_opening_shows_clouds_numbers_map_and_the_worst_layer(open_bench):
    bench = open_bench()
    assert bench.first["compare"]["payload"].startswith("/quantlab/clouds/")
    assert [item["value"] != "" for item in bench.first["numbers"]["items"]] == [True] * 5 + [False]
    worst = json.loads(bench.first["map"])["worst"][0]["name"]
    assert json.loads(bench.first["layer"])["name"] == worst == bench.first["settings"]["layer"]
    assert bench.first["status"]["busy"] is False


def test_a_toggle_moves_layer_numbers_clouds_and_map_and_can_be_undone(open_bench):
    bench = open_bench()
    before = bench.lab.recipe
    layer = bench.session.view.layer
    parts = shown(bench.actions.act("page", {"do": "set", "changes": {"rotation": True}}))
    assert bench.lab.recipe.layer(layer, bench.lab.structure).rotation == "hadamard"
    assert parts["compare"]["payload"] != bench.first["compare"]["payload"]
    error = parts["numbers"]["items"][0]
    assert error["trend"] == "better"
    assert error["note"] == f"was {bench.first['numbers']['items'][0]['value']}"
    names = [trace["name"] for trace in json.loads(parts["layer"])["figure"]["data"]]
    assert {"rotated", "before"} <= set(names)
    assert parts["status"]["undo"]
    parts = shown(bench.actions.act("page", {"do": "undo"}))
    assert bench.lab.recipe == before
    assert parts["settings"]["rotation"] is False
    assert parts["status"]["redo"]


def test_a_refused_change_says_why_and_the_control_springs_back(open_bench):
    bench = open_bench()
    before = bench.lab.recipe
    parts = shown(bench.actions.act("page", {"do": "set", "changes": {"weights": 99}}))
    assert "Weights cannot be 99" in parts["status"]["message"]["problem"]
    assert parts["settings"]["weights"] == 4
    assert bench.lab.recipe == before
    shown(bench.actions.act("page", {"do": "set", "changes": {"weights": 8}}))
    assert bench.lab.recipe != before


@pytest.mark.parametrize(
    "message",
    [None, [], {}, {"do": 7}, {"do": "__init__"}, {"do": "set"}, {"do": "set", "changes": [1]},
     {"do": "select", "layer": {"a": 1}.keys}, {"do": "select"}, {"do": "color_by", "value": "x"},
     {"do": "tab", "value": None}, {"do": "model", "value": "../../etc/passwd"}, {"do": "panel"}],
)  # fmt: skip
def test_a_forged_message_changes_nothing(open_bench, message):
    bench = open_bench()
    before = (bench.lab.recipe, bench.session.view, bench.session.lab)
    shown(bench.actions.act("page", message))
    assert (bench.lab.recipe, bench.session.view, bench.session.lab) == before


def test_a_page_cannot_open_a_path_as_a_scene(open_bench):
    bench = open_bench()
    parts = shown(bench.actions.act("page", {"do": "scene", "value": "/etc"}))
    assert "not on the list" in parts["status"]["message"]["problem"]
    assert bench.session.lab is bench.lab


def test_two_pages_never_see_each_others_recipe(open_bench):
    bench = open_bench()
    shown(bench.actions.act("other", {"do": "ready"}))
    shown(bench.actions.act("other", {"do": "preset", "name": "quarot", "weights": 6, "activations": 6}))
    assert bench.store.of("other").lab.recipe.name == "quarot"
    assert bench.lab.recipe.name == "rtn"


def test_a_preset_takes_the_bits_that_were_chosen(open_bench):
    bench = open_bench()
    shown(bench.actions.act("page", {"do": "preset", "name": "quantvggt", "weights": 3, "activations": 8}))
    settings = bench.lab.recipe.layer(FC2, bench.lab.structure)
    assert (settings.weights, settings.activations, settings.rotation) == (3, 8, "hadamard")


def test_stop_ends_the_work_within_two_seconds_and_keeps_what_was_there(open_bench):
    bench = open_bench()
    bench.lab.seconds = 30
    done = []
    begun = time.monotonic()
    change = {"do": "set", "changes": {"rotation": True}}
    worker = threading.Thread(target=lambda: done.append(shown(bench.actions.act("page", change))))
    worker.start()
    while bench.session.job is None and time.monotonic() - begun < 5:
        time.sleep(0.01)
    shown(bench.actions.act("page", {"do": "stop"}))
    worker.join(2)
    assert not worker.is_alive()
    assert done[0]["status"]["message"]["problem"] == "Stopped"
    assert done[0]["status"]["run"], "what was stopped can be run"
    assert bench.session.results.former.evaluation is not None
    bench.lab.seconds = 0
    parts = shown(bench.actions.act("page", {"do": "run"}))
    assert parts["numbers"]["stale"] is False


def test_a_newer_edit_overtakes_the_one_that_still_runs(open_bench):
    bench = open_bench()
    bench.lab.seconds = 5
    first = bench.actions.act("page", {"do": "set", "changes": {"rotation": True}})
    next(first)
    worker = threading.Thread(target=lambda: [None for _ in first])
    worker.start()
    time.sleep(0.3)
    bench.lab.seconds = 0
    parts = shown(bench.actions.act("page", {"do": "set", "changes": {"weights": 8}}))
    worker.join(3)
    assert not worker.is_alive()
    assert parts["settings"]["weights"] == 8
    assert parts["settings"]["rotation"] is True
    assert bench.session.results.evaluation is not None
    assert bench.session.message == {}


def test_a_slow_model_queues_edits_and_runs_them_when_asked(bench):
    bench = bench(interactive=False)
    shown(bench.actions.act("page", {"do": "ready"}))
    session = bench.store.of("page")
    calls = len(session.lab.calls)
    for bits in (8, 6):
        parts = shown(bench.actions.act("page", {"do": "set", "changes": {"weights": bits}}))
    assert session.lab.calls[calls:] == []
    assert parts["status"]["run"]
    assert parts["numbers"]["stale"]
    parts = shown(bench.actions.act("page", {"do": "run"}))
    assert "evaluate" in session.lab.calls[calls:]
    assert parts["numbers"]["stale"] is False


def test_a_large_model_opens_without_running_anything_and_its_settings_can_be_changed(bench, monkeypatch):
    monkeypatch.setattr("quantlab.app.workshop.MOST_PARAMETERS", 10)
    bench = bench(interactive=False)
    parts = shown(bench.actions.act("page", {"do": "ready"}))
    lab = bench.store.of("page").lab
    assert lab.calls == []
    assert parts["status"]["run"]
    assert "not known" in parts["status"]["text"]
    assert parts["settings"]["layer"] in lab.structure.layers
    shown(bench.actions.act("page", {"do": "set", "changes": {"rotation": True}}))
    assert lab.calls == []
    parts = shown(bench.actions.act("page", {"do": "run"}))
    assert lab.calls[-1] == "layer", "what cannot be stopped on the way comes last"
    assert parts["compare"]["payload"]


def test_a_model_that_cannot_be_loaded_leaves_the_one_that_is_open(open_bench):
    bench = open_bench()
    parts = shown(bench.actions.act("page", {"do": "model", "value": "vggt-1b"}))
    assert "Not in the cache" in parts["status"]["message"]["problem"]
    assert parts["head"]["model"] == "mini", "the choice springs back"
    assert bench.session.lab is bench.lab


def test_a_model_that_is_stopped_while_its_lab_is_made_leaves_the_name_of_the_one_that_is_open(open_bench):
    bench, job = open_bench(), Job()
    job.cancel()
    with pytest.raises(JobCancelledError):
        bench.actions._opening.model(bench.session, lambda _parts: None, job, "pi3-mini")
    assert (bench.session.model, bench.session.lab) == ("mini", bench.lab)


def test_stop_does_not_wait_for_a_download_and_nobody_else_does(open_bench):
    bench = open_bench()
    bench.workshop.stuck = threading.Event()
    done = []
    change = {"do": "model", "value": "mini-outliers"}
    worker = threading.Thread(target=lambda: done.append(shown(bench.actions.act("page", change))))
    worker.start()
    assert bench.workshop.waiting.wait(20)
    shown(bench.actions.act("other", {"do": "ready"}))
    assert bench.store.of("other").results.evaluation is not None
    shown(bench.actions.act("page", {"do": "stop"}))
    worker.join(3)
    assert not worker.is_alive()
    assert done[0]["status"]["message"]["problem"] == "Stopped"
    bench.workshop.stuck.set()
    assert bench.session.lab is bench.lab


def test_a_view_that_raises_blanks_no_other(open_bench, monkeypatch, capsys):
    bench = open_bench()

    def broken(*_args, **_settings):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("quantlab.figures.outlier_map", broken)
    parts = shown(bench.actions.act("page", {"do": "set", "changes": {"rotation": True}}))
    assert parts["numbers"]["items"][0]["value"]
    assert parts["compare"]["payload"]
    assert "map view could not be drawn" in parts["status"]["message"]["problem"]
    assert "planted" in capsys.readouterr().err


def test_a_lab_that_fails_is_said_and_the_next_edit_works(open_bench, capsys):
    bench = open_bench()
    bench.lab.fails = "evaluate"
    parts = shown(bench.actions.act("page", {"do": "set", "changes": {"rotation": True}}))
    assert "failed" in parts["status"]["message"]["problem"]
    assert parts["status"]["busy"] is False
    assert "planted" in capsys.readouterr().err
    bench.lab.fails = ""
    parts = shown(bench.actions.act("page", {"do": "run"}))
    assert parts["numbers"]["stale"] is False


def test_a_reload_finds_the_lab_and_its_recipe(open_bench):
    bench = open_bench()
    shown(bench.actions.act("page", {"do": "preset", "name": "quarot", "weights": 4, "activations": 4}))
    bench.actions.leave("page")
    parts = shown(bench.actions.act("again", {"do": "ready", "handle": bench.session.handle}))
    assert parts["status"]["preset"] == "quarot"
    assert parts["numbers"]["items"][0]["value"]


def test_a_reload_while_work_runs_follows_it_to_its_end(open_bench):
    bench = open_bench()
    bench.lab.seconds = 1.0
    running = bench.actions.act("page", {"do": "set", "changes": {"rotation": True}})
    next(running)
    next(running)
    running.close()
    bench.actions.leave("page")
    parts = shown(bench.actions.act("again", {"do": "ready", "handle": bench.session.handle}))
    assert parts["status"]["busy"] is False
    assert parts["settings"]["rotation"] is True
    assert bench.session.results.evaluation is not None


def test_a_recipe_typed_wrong_leaves_the_one_that_holds(open_bench):
    bench = open_bench()
    before = bench.lab.recipe
    parts = shown(bench.actions.act("page", {"do": "recipe", "text": "format: 7"}))
    assert parts["status"]["message"]["problem"]
    assert bench.lab.recipe == before
    text = Recipe.preset("quarot").to_yaml()
    shown(bench.actions.act("page", {"do": "recipe", "text": text}))
    assert bench.lab.recipe.name == "quarot"


def test_the_table_applies_what_was_typed_and_remembers_what_was_picked(open_bench):
    from quantlab.app import table

    bench = open_bench()
    shown(bench.actions.act("page", {"do": "tab", "value": "modules"}))
    rows = table.rows(bench.session)
    rows[3][2], rows[5][4], rows[6][0] = "8", True, True
    names = list(bench.lab.structure.layers)
    shown(bench.actions.edit_table("page", rows))
    settings = bench.lab.recipe.layers(bench.lab.structure)
    assert settings[names[3]].weights == 8
    assert settings[names[5]].rotation == "hadamard"
    assert settings[names[4]].weights == 4
    assert bench.session.view.picked == {names[6]}


def test_a_table_cell_out_of_bounds_is_refused_whole(open_bench):
    from quantlab.app import table

    bench = open_bench()
    before = bench.lab.recipe
    shown(bench.actions.act("page", {"do": "tab", "value": "modules"}))
    rows = table.rows(bench.session)
    rows[0][2], rows[1][3] = 8, 77
    parts = shown(bench.actions.edit_table("page", rows))
    assert bench.lab.recipe == before
    assert "77" in parts["status"]["message"]["problem"]
    assert parts["modules"][0][2] == 4


def test_a_page_that_heard_nothing_is_told_all_that_holds(open_bench):
    bench = open_bench()
    again = shown(bench.actions.act("page", {"do": "sync"}))
    assert again["status"]["busy"] is False
    assert again["head"]["handle"] == bench.session.handle
    assert {"map", "layer", "settings", "numbers", "compare"} <= set(again)


def test_a_tab_chosen_before_the_page_said_hello_is_no_error(bench):
    assert list(bench().actions.act("page", {"do": "tab", "value": "bench"})) == []


def test_a_model_of_the_same_layers_goes_on_with_the_recipes_and_undo(open_bench):
    bench = open_bench()
    shown(bench.actions.act("page", {"do": "set", "changes": {"rotation": True}}))
    recipe = bench.lab.recipe
    parts = shown(bench.actions.act("page", {"do": "model", "value": "mini-outliers"}))
    assert parts["head"]["model"] == "mini-outliers"
    assert parts["status"]["undo"]
    assert bench.session.lab is not bench.lab
    assert bench.session.lab.recipe == recipe


def test_coming_back_to_a_model_of_other_layers_finds_its_recipes(open_bench):
    bench = open_bench()
    shown(bench.actions.act("page", {"do": "set", "changes": {"rotation": True}}))
    recipe = bench.lab.recipe
    parts = shown(bench.actions.act("page", {"do": "model", "value": "pi3-mini"}))
    assert not parts["status"]["undo"], "rules name layers, which are others here"
    parts = shown(bench.actions.act("page", {"do": "model", "value": "mini"}))
    assert bench.session.lab.recipe == recipe
    assert parts["status"]["undo"]
