"""Files, links and memories that come from a page, on invented labs: opened, told apart, or refused with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantlab.app import export, memory
from quantlab.app.exporting import smaller
from quantlab.calibration.profile_file import save_profile
from quantlab.deploy.onnx_file import PRODUCER
from quantlab.deploy.refusals import require_plan
from quantlab.deploy.target import Deployed
from quantlab.engine.plan import plan
from quantlab.engine.recipe import Recipe
from quantlab.engine.session_file import from_text, to_text
from quantlab.engine.session_record import FileNote, ModelNote, SceneNote, SessionRecord
from quantlab.errors import QuantLabError, RecipeError, StorageError
from quantlab.scenes.origin import Drawn
from quantlab.views.link import link_of, open_link, pack, unpack

RTN, QUAROT = (Recipe.preset(name, weights=4, activations=4) for name in ("rtn", "quarot"))
FC2 = "aggregator.global_blocks.1.mlp.fc2"


def shown(stream):
    """Everything a handler told the page, newest last."""
    parts = {}
    for changed in stream:
        parts |= {
            name: value["value"] for name, value in changed.items() if name not in ("modules", "overtaken")
        }
    return parts


@pytest.fixture
def open_bench(bench):
    def build(message=None, **settings):
        built = bench(**settings)
        built.first = shown(built.actions.act("page", {"do": "ready", **(message or {})}))
        built.session = built.store.of("page")
        built.lab = built.session.lab
        return built

    return build


def record(**changes):
    scene = SceneNote("room 2", drawn=Drawn(0, 2, 1002, 24, 24, "held-out"))
    return replace(
        SessionRecord(ModelNote("mini"), (scene,), (RTN, QUAROT, RTN.set(FC2, weights=8)), 1), **changes
    )


# -- what a tab remembers ---------------------------------------------------------------------------------------------


def test_after_a_restart_the_memory_of_a_tab_brings_scene_history_and_undo_back(open_bench):
    before = open_bench()
    shown(before.actions.act("page", {"do": "preset", "name": "quarot", "weights": 4, "activations": 4}))
    shown(before.actions.act("page", {"do": "select", "layer": FC2}))
    shown(before.actions.act("page", {"do": "set", "changes": {"keep": True}}))
    told = shown(before.actions.act("page", {"do": "undo"}))
    after = open_bench({"memory": told["memory"]["text"]})
    assert after.lab.records == before.lab.records
    assert after.lab.can_redo
    assert after.session.view.layer == FC2
    assert after.first["status"]["undo"] is True
    assert after.session.message.get("problem", "").startswith("Its scene is not here"), (
        "it was no drawn room"
    )


def test_every_change_is_remembered_even_where_nothing_is_measured_before_run(open_bench):
    bench = open_bench(interactive=False)
    told = shown(
        bench.actions.act("page", {"do": "preset", "name": "quarot", "weights": 4, "activations": 4})
    )
    kept = from_text(unpack(told["memory"]["text"], place="memory"))
    assert (kept.recipes, kept.position) == bench.lab.records


def test_a_page_that_comes_back_to_its_lab_does_not_open_its_memory(open_bench):
    bench = open_bench()
    bench.store.leave("page")
    text = pack(to_text(record()))
    shown(bench.actions.act("again", {"do": "ready", "handle": bench.session.handle, "memory": text}))
    assert bench.store.of("again").lab is bench.lab
    assert len(bench.lab.history) == 1


def test_a_very_long_history_keeps_its_latest_recipes(open_bench, monkeypatch):
    bench = open_bench()
    recipes = [RTN.set(FC2, weights=2 + index % 7) for index in range(60)]
    bench.lab.resume(recipes, 50)
    monkeypatch.setattr(memory, "LONGEST", len(memory.memory_panel(bench.session)["text"]) - 1)
    kept = from_text(unpack(memory.memory_panel(bench.session)["text"], place="memory"))
    assert len(kept.recipes) == memory.LATEST
    assert kept.recipes[kept.position] == bench.lab.recipe


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["AAAA", pack("{}"), pack("[" * 5000), "ä", "A" * 3_000_000])
@pytest.mark.parametrize("kind", ["memory", "link"])
def test_junk_is_said_and_the_first_lab_opens(open_bench, kind, text):
    bench = open_bench({kind: text})
    assert bench.lab.recipe.name == "rtn"
    assert bench.session.message["problem"]
    assert bench.first["status"]["message"] == bench.session.message


# -- links ------------------------------------------------------------------------------------------------------------


def test_a_link_opens_model_scene_recipe_and_layer(open_bench):
    bench = open_bench({"link": link_of("mini-outliers", "room 3", QUAROT, FC2)})
    assert (bench.session.model, bench.session.scene) == ("mini-outliers", "room 3")
    assert bench.lab.history == [QUAROT]
    assert bench.session.view.layer == FC2
    assert bench.session.message == {}


def test_a_link_opens_in_a_page_that_has_a_lab_too(open_bench):
    bench = open_bench()
    bench.store.leave("page")
    link = link_of("mini", "", QUAROT)
    told = shown(bench.actions.act("again", {"do": "ready", "handle": bench.session.handle, "link": link}))
    session = bench.store.of("again")
    assert session is bench.session
    assert session.lab.recipe == QUAROT
    assert session.lab.evaluation[0] is bench.lab.evaluation[0], "the scene stays"
    assert told["head"]["model"] == "mini"


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("link", "said"),
    [
        (link_of("/etc/passwd", "demo", RTN), "not on the list"),
        (link_of("pi3", "demo", RTN), "not on this machine yet"),
        (link_of("mini", "/etc", RTN), "is not here"),
    ],
)
def test_a_link_names_no_path_and_fetches_nothing(open_bench, link, said, monkeypatch):
    monkeypatch.setattr("quantlab.models.hub.local_file", lambda _: None)
    bench = open_bench({"link": link})
    assert bench.lab is not None
    assert bench.session.scene == "demo"
    assert said in bench.session.message["problem"]


@pytest.mark.bad_input
def test_a_recipe_that_this_model_cannot_carry_out_leaves_the_first_lab_and_says_why(open_bench, monkeypatch):
    def refuse(_lab, _recipes, _position):
        raise RecipeError("96 does not divide 64", remedy="Choose another group size.")

    monkeypatch.setattr(type(open_bench().lab), "resume", refuse)
    bench = open_bench({"link": link_of("mini", "demo", QUAROT)})
    assert bench.lab.recipe.name == "rtn"
    assert bench.first["status"]["message"]["problem"] == "96 does not divide 64"
    assert bench.first["status"]["busy"] is False


def test_the_panel_offers_a_link_to_what_is_open_without_the_path_of_a_model(open_bench):
    bench = open_bench()
    bench.session.model = "/data/secret/mine.safetensors"
    told = shown(bench.actions.act("page", {"do": "tab", "value": "recipe"}))["recipe"]
    linked = open_link(told["link"])
    assert (linked.model, linked.scene, linked.recipe) == ("mine.safetensors", "", bench.lab.recipe)


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_are_told_apart_by_what_is_inside(tmp_path, open_bench):
    (tmp_path / "a.json").write_text(to_text(record()))
    (tmp_path / "b.json").write_text(QUAROT.to_json())
    (tmp_path / "c.yaml").write_text(QUAROT.to_yaml())
    profile = open_bench().session.results.profile
    save_profile(profile, tmp_path / "d.npz")
    assert export.read_any(str(tmp_path / "a.json")) == record()
    assert export.read_any(str(tmp_path / "b.json")) == export.read_any(str(tmp_path / "c.yaml")) == QUAROT
    assert list(export.read_any(str(tmp_path / "d.npz")).layers) == list(profile.layers)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.npz", "a.exe", "a"])
def test_what_is_none_of_them_is_refused_by_its_name_and_changes_nothing(tmp_path, open_bench, name):
    (tmp_path / name).write_bytes(b"\x00PK[")
    with pytest.raises(QuantLabError) as caught:
        export.read_any(str(tmp_path / name))
    assert name in caught.value.place
    assert caught.value.remedy
    bench = open_bench()
    shown(bench.actions.load("page", str(tmp_path / name)))
    assert bench.session.lab is bench.lab
    assert bench.session.message["problem"]


def test_a_session_file_brings_its_scene_and_history(tmp_path, open_bench):
    (tmp_path / "a.json").write_text(to_text(record()))
    bench = open_bench()
    shown(bench.actions.load("page", str(tmp_path / "a.json")))
    lab = bench.session.lab
    assert lab.records == (record().recipes, 1)
    assert bench.session.scene == "room 2"
    assert lab.evaluation[0].images[0].shape == (24, 24, 3)


@pytest.mark.bad_input
def test_a_session_makes_the_app_read_only_what_was_uploaded_and_is_unchanged(
    tmp_path, open_bench, monkeypatch
):
    from PIL import Image

    from quantlab.models.fingerprint import file_digest

    uploads, elsewhere = tmp_path / "gradio", tmp_path / "private"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(uploads))
    bench = open_bench()
    for folder in (uploads, elsewhere):
        folder.mkdir()
        path = folder / "photo.png"
        Image.fromarray(np.full((24, 24, 3), 90, np.uint8)).save(path)
        note = FileNote(str(path), path.stat().st_size, file_digest(path))
        (tmp_path / "a.json").write_text(to_text(record(evaluation=(SceneNote("mine", files=(note,)),))))
        shown(bench.actions.load("page", str(tmp_path / "a.json")))
        assert bench.session.lab.records == (record().recipes, 1), "the history comes either way"
        if folder == uploads:
            assert bench.session.scene == "mine"
        else:
            assert "upload photo.png" in bench.session.message["problem"]
    assert not bench.workshop.holds(replace(note, path=str(uploads / "photo.png"), sha256="0" * 64))
    assert not bench.workshop.holds(replace(note, path=str(uploads / ".." / "private" / "photo.png")))
    assert not bench.workshop.holds(replace(note, path="nul\0"))


def test_undo_reaches_back_beyond_a_change_of_the_scene(open_bench):
    bench = open_bench()
    shown(bench.actions.act("page", {"do": "preset", "name": "quarot", "weights": 4, "activations": 4}))
    shown(bench.actions.act("page", {"do": "scene", "value": "room 1"}))
    assert bench.session.scene == "room 1"
    assert bench.session.lab.recipe.name == "quarot"
    shown(bench.actions.act("page", {"do": "undo"}))
    assert bench.session.lab.recipe.name == "rtn"


def test_a_session_taken_away_opens_again_as_it_is(tmp_path, open_bench, monkeypatch):
    monkeypatch.setattr("quantlab.engine.session_notes.fingerprint", lambda _: "f" * 64)
    bench = open_bench()
    shown(bench.actions.act("page", {"do": "preset", "name": "quarot", "weights": 4, "activations": 4}))
    told = shown(bench.actions.act("page", {"do": "take_session"}))["recipe"]["download"]
    assert told["name"] == "mini-demo-quarot-W4A4.quantlab.json"
    handle, name = told["address"].split("/")[-2:]
    data = bench.store.named(handle).file(name).data
    kept = from_text(data.decode())
    assert (kept.recipes, kept.position) == bench.lab.records
    assert kept.view["layer"] == bench.session.view.layer
    assert json.loads(data)["model"]["fingerprint"] == "f" * 64
    assert bench.store.named("guess") is None


def test_a_profile_brought_in_is_shown_at_once_and_one_that_is_refused_leaves_the_former(open_bench):
    bench = open_bench(interactive=False)
    other = open_bench().session.results.profile
    told = shown(export.take_over(bench.session, other))
    assert bench.session.results.profile is other
    assert "map" in told

    def refuse(_profile):
        raise StorageError("the profile is of another network", remedy="Open it with its model.")

    bench.lab.use_profile = refuse
    with pytest.raises(StorageError):
        export.take_over(bench.session, replace(other)).__next__()
    assert bench.session.results.profile is other


def test_a_report_waits_for_what_runs_and_says_what_went_wrong(open_bench, monkeypatch):
    bench = open_bench()
    monkeypatch.setattr("quantlab.report.page.render", lambda _lab, **_: b"<!doctype html>")
    told = shown(bench.actions.act("page", {"do": "take_report"}))["recipe"]["download"]
    assert Path(told["name"]).suffix == ".html"

    def fail(_lab, **_settings):
        raise StorageError("the viewer is missing", remedy="Install again.")

    monkeypatch.setattr("quantlab.report.page.render", fail)
    told = shown(bench.actions.act("page", {"do": "take_report"}))
    assert "download" not in told.get("recipe", {})
    assert told["status"]["message"]["problem"] == "The viewer is missing"


# -- the model in a folder ---------------------------------------------------------------------------------------------


def test_the_model_is_written_under_its_name_and_the_page_says_how_to_run_it(
    open_bench, monkeypatch, tmp_path
):
    monkeypatch.setenv("QUANTLAB_EXPORTS", str(tmp_path / "out"))
    bench = open_bench()
    bench.session.show(tab="recipe")
    parts = shown(bench.actions.act("page", {"do": "export", "target": "packed", "name": "first try"}))
    told = parts["recipe"]["exported"]
    lines = ["import quantlab as ql", f'model = ql.load_model("{tmp_path / "out" / "first-try"}")']
    assert told["code"].splitlines() == lines
    assert told["about"].startswith("1 MB, 7× smaller than float32")
    assert (tmp_path / "out" / "first-try").is_dir()
    assert parts["recipe"]["export_name"] == "mini-rtn-W4A4"
    assert (told["name"], parts["recipe"]["exports"]) == ("first-try", str(tmp_path / "out"))


def test_where_exports_go_is_absolute_without_a_variable_too(open_bench, monkeypatch, tmp_path):
    monkeypatch.delenv("QUANTLAB_EXPORTS", raising=False)
    monkeypatch.chdir(tmp_path)
    bench = open_bench()
    bench.session.show(tab="recipe")
    told = shown(bench.actions.act("page", {"do": "export", "target": "packed", "name": "x"}))["recipe"]
    assert str(tmp_path / "exports" / "x") in told["exported"]["code"]
    assert told["exports"] == str(tmp_path / "exports")


@pytest.fixture
def deployed(monkeypatch, tmp_path):
    """What a runtime's export was asked for; nothing is written but its folder."""
    monkeypatch.setenv("QUANTLAB_EXPORTS", str(tmp_path / "out"))
    asked = []

    def export(lab, target, folder, *, recipe, overwrite, job):
        require_plan(plan(lab.structure, recipe), lab.structure, target)
        folder.mkdir(exist_ok=overwrite)
        path = folder / "model.onnx"
        path.write_bytes(PRODUCER.encode())
        asked.append((target, recipe, overwrite))
        return Deployed((path,), 10, 40, (1, 2, 3), {"depth": 0.002}, {"depth": 0.03}, {})

    monkeypatch.setattr("quantlab.deploy.export", export)
    return asked


def written(bench, **message):
    """The export row of the page after a press of one of its buttons."""
    parts = shown(bench.actions.act("page", {"do": "export", "name": "x", **message}))
    return parts["recipe"]["exported"] if "recipe" in parts else None, parts["status"]["message"]


@pytest.mark.parametrize(
    ("count", "told"),
    [(10, "4× smaller than float32"), (40, "as large as float32"), (50, "1.2× larger than float32")],
)
def test_a_file_larger_than_float32_is_not_called_smaller(count, told):
    assert smaller(count, 40) == told


def test_where_the_recipe_is_not_held_static_activations_are_offered_and_taken_for_the_file_only(
    open_bench, deployed
):
    bench = open_bench()
    bench.session.show(tab="recipe")
    offer = shown(bench.actions.act("page", {"do": "tab", "value": "recipe"}))["recipe"]["static"]
    assert offer["label"] == "static activations"
    assert "8-bit" in offer["words"]
    before = bench.lab.recipe
    told, message = written(bench, target="onnx", static=True)
    assert message == {}
    assert "W4 A8 static; the recipe asks A4 dynamic" in told["about"]
    assert told["code"].startswith("import onnxruntime\n")
    assert repr(told["path"]) in told["code"]
    assert "off full precision by 3 %, off the simulation by 0.2 %, takes inputs of 1×2×3" in told["about"]
    [(_, recipe, _)] = deployed
    assert all(item.static for item in recipe.layers(bench.lab.structure).values() if item.quantized)
    assert bench.lab.recipe == before
    shown(bench.actions.act("page", {"do": "recipe", "text": recipe.to_yaml()}))
    panel = shown(bench.actions.act("page", {"do": "tab", "value": "recipe"}))["recipe"]
    assert panel["static"] is None, "nothing is offered where nothing has to change"


def test_a_refusal_says_what_to_press_and_takes_the_place_of_an_earlier_success(open_bench, deployed):
    bench = open_bench()
    bench.session.show(tab="recipe")
    assert written(bench, target="packed")[0]["code"]
    told, message = written(bench, target="onnx", static=False)
    assert told == {}
    assert "cannot hold" in message["problem"]
    assert "Tick the box" in message["remedy"]
    assert deployed == []


@pytest.mark.parametrize("target", ["packed", "onnx"])
def test_an_earlier_export_is_asked_about_and_goes_only_with_a_yes(target, open_bench, deployed, tmp_path):
    bench = open_bench()
    bench.session.show(tab="recipe")
    written(bench, target=target, static=True)
    [folder] = (tmp_path / "out").iterdir()
    bench.session.message = {"problem": "an old one"}
    calls = bench.lab.calls.count("export") + len(deployed)
    told, message = written(bench, target=target, static=True)
    assert (told["path"], told["target"], message) == (str(folder), target, {})
    assert bench.lab.calls.count("export") + len(deployed) == calls, "nothing is written before"
    told, _ = written(bench, target=target, static=True, overwrite=True)
    assert "target" not in told
    assert bench.lab.calls.count("export") + len(deployed) == calls + 1
    assert list((tmp_path / "out").iterdir()) == [folder]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../../evil", "Give a name, not a path: exports go to {out}"),
        ("/tmp/x/out", "Give a name, not a path: exports go to {out}"),
        ("C:\\evil", "Give a name, not a path: exports go to {out}"),
        ("n" * 81, "The name is too long: it has 81 characters, at most 80 fit"),
    ],
)
def test_a_path_and_a_name_that_is_too_long_are_refused_in_words_not_changed(
    open_bench, deployed, tmp_path, name, said
):
    bench = open_bench()
    bench.session.show(tab="recipe")
    for target in ("packed", "onnx"):
        told, message = written(bench, target=target, name=name, static=True)
        assert told == {}
        assert message["problem"] == said.format(out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["..", "", "a\0b", 7])
def test_no_name_leaves_the_folder_of_exports(open_bench, deployed, tmp_path, name):
    bench = open_bench()
    for target in ("packed", "onnx"):
        shown(bench.actions.act("page", {"do": "export", "target": target, "name": name, "static": True}))
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert [path.parent for path in folders].count(tmp_path / "out") == 2, "one for each target"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_target_that_is_none_does_nothing_and_a_refusal_is_said(open_bench, monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTLAB_EXPORTS", str(tmp_path / "out"))
    bench = open_bench(
        fails="export", error=StorageError("something stands there", remedy="Choose another name.")
    )
    assert shown(bench.actions.act("page", {"do": "export", "target": "rm -rf", "name": "x"})) == {}
    parts = shown(bench.actions.act("page", {"do": "export", "target": "packed", "name": "x"}))
    assert parts["status"]["message"]["problem"] == "Something stands there"
    assert bench.session.exported == {}
