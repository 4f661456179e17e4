"""What the page says while it waits, when work was stopped and where there is nothing to draw, on invented labs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from quantlab.engine.settings import FIELDS
from quantlab.errors import JobCancelledError


def told(stream):
    """The last that was said of every part of the page."""
    parts = {}
    for changed in stream:
        parts.update(changed)
    return {name: value["value"] for name, value in parts.items() if name != "overtaken"}


@pytest.fixture
def opened(bench):
    """A bench whose page has opened its lab."""

    def build():
        built = bench()
        told(built.actions.act("page", {"do": "ready"}))
        built.session = built.store.of("page")
        built.lab = built.session.lab
        return built

    return build


def test_work_stopped_after_the_numbers_can_still_be_run(opened):
    bench = opened()
    bench.lab.fails, bench.lab.error = "diagnose", JobCancelledError("stopped")
    parts = told(bench.actions.act("page", {"do": "set", "changes": {"rotation": True}}))
    assert parts["numbers"]["stale"] is False
    assert parts["compare"]["stale"] is False
    assert "Run" in parts["status"]["message"]["remedy"]
    assert parts["status"]["run"]
    bench.lab.fails = ""
    assert told(bench.actions.act("page", {"do": "run"}))["status"]["run"] is False


def test_a_lab_stopped_before_it_opened_is_opened_by_run(bench):
    bench = bench()
    stopped = bench.workshop.first_lab
    bench.workshop.first_lab = lambda job: (job.cancel(), job.check())
    parts = told(bench.actions.act("page", {"do": "ready"}))
    assert parts["status"]["message"]["problem"] == "Stopped"
    assert parts["status"]["run"]
    bench.workshop.first_lab = stopped
    assert told(bench.actions.act("page", {"do": "run"}))["compare"]["payload"]


def test_numbers_and_clouds_fade_only_until_the_new_ones_are_there(opened):
    bench = opened()
    seen = []
    for parts in bench.actions.act("page", {"do": "set", "changes": {"rotation": True}}):
        seen += [parts["status"]["value"]["aging"]] if "status" in parts else []
    assert seen[0] is True
    assert seen[-1] is False


def test_another_model_takes_the_former_clouds_away_until_its_own_are_there(opened):
    bench = opened()
    clouds = [
        parts["compare"]["value"]
        for parts in bench.actions.act("page", {"do": "model", "value": "mini-outliers"})
        if "compare" in parts
    ]
    assert clouds[0]["payload"] == ""
    assert "Reconstructing" in clouds[0]["message"]
    assert clouds[-1]["payload"]


def test_a_layer_without_samples_is_drawn_from_its_profile_and_else_says_so(opened, capsys):
    bench = opened()
    bench.lab.sampled = False
    told(bench.actions.act("page", {"do": "select", "layer": "depth_head.projects.0"}))
    for panel in ("histogram", "channels", "landscape", "search"):
        parts = json.loads(told(bench.actions.act("page", {"do": "panel", "value": panel}))["layer"])
        drawn = panel in ("histogram", "channels")
        assert (parts["figure"] is not None, bool(parts["message"])) == (drawn, not drawn)
        assert "Measuring" not in parts["message"]
        assert parts["reading"]
    assert "Traceback" not in capsys.readouterr().err


def test_what_went_wrong_first_is_not_hidden_by_a_view_that_fails_then(opened, monkeypatch):
    bench = opened()
    monkeypatch.setattr("quantlab.figures.outlier_map", lambda *_args, **_settings: 1 / 0)
    parts = told(bench.actions.act("page", {"do": "scene", "value": "/etc"}))
    assert "not on the list" in parts["status"]["message"]["problem"]


def test_a_row_of_the_table_opens_its_layer_and_a_forged_one_opens_nothing(opened):
    from quantlab.app import table

    bench = opened()
    row = table.rows(bench.session)[5]
    parts = told(bench.actions.open_row("page", row))
    assert parts["settings"]["layer"] == list(bench.lab.structure.layers)[5]
    for forged in (None, [], [1, []], [True, "no such layer"], {"1": 2}):
        assert told(bench.actions.open_row("page", forged)) == {}


def test_a_stopped_recipe_that_learns_does_not_promise_the_time_of_a_forward(opened):
    bench = opened()
    bench.lab.estimate = lambda: SimpleNamespace(seconds=0.5, blocks=3, measured=True, diagnosis=0.06)
    bench.lab.fails, bench.lab.error = "compare", JobCancelledError("stopped")
    plain = told(bench.actions.act("page", {"do": "method", "name": "quarot"}))["status"]["text"]
    learned = told(bench.actions.act("page", {"do": "method", "name": "quantvggt"}))["status"]["text"]
    assert plain == "changes wait · about 560 ms"
    assert learned == "changes wait · calibration and about 560 ms"


def test_a_method_says_in_words_what_it_is_calibrated_on_and_what_its_settings_do(opened):
    bench = opened()
    shown = told(bench.actions.act("page", {"do": "tab", "value": "methods"}))["methods"]["methods"]
    cards = {card["id"]: card for card in shown}
    assert cards["quantvggt"]["scenes"] == "16 scenes of the pool, NFDS"
    assert cards["quarot"]["scenes"] == ""
    assert ["group_size", "auto", FIELDS["group_size"].metadata["help"]] in cards["qvggt"]["settings"]


def test_the_settings_row_names_the_rotation_and_what_is_learned(opened):
    bench = opened()
    parts = told(bench.actions.act("page", {"do": "method", "name": "fgq"}))
    assert parts["settings"]["summary"] == "W4 A4, kronecker, smoothing 0.5, GPTQ, learned"
