"""Sessions come back with their history, say what changed, and no file can do more than be refused."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import quantlab as ql
from quantlab.engine import session_file
from quantlab.engine.session_file import from_text, read_session, to_text
from quantlab.engine.session_notes import describe, note_scene
from quantlab.engine.session_open import SessionWarning
from quantlab.errors import CheckpointError, QuantLabError, RecipeError, SceneError, StorageError
from quantlab.models.fingerprint import file_digest, fingerprint, network_digest


@pytest.fixture(scope="module")
def model() -> Any:
    return ql.load_model("mini")


@pytest.fixture
def lab(model: Any) -> ql.Lab:
    made = ql.Lab(model)
    made.set("*.global_blocks.1.mlp.fc2", weights=8)
    made.recipe = ql.Recipe.preset("quarot", weights=4, activations=4)
    made.set("*.frame_blocks.0", keep=True)
    made.undo()
    made.view = {"layer": "aggregator.global_blocks.1.mlp.fc2", "confidence": 0.5, "frusta": True}
    return made


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    paths = [folder / f"räume {index}.png" for index in range(2)]
    for picture, path in zip(ql.rooms(1, views=2, seed=5)[0].images, paths, strict=True):
        Image.fromarray(picture).save(path)
    return paths


def open_quietly(*arguments: Any, **named: Any) -> ql.Lab:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ql.load_session(*arguments, **named)


def same_pictures(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.images, other.images, strict=True))


def test_a_session_comes_back_with_history_undo_redo_and_what_was_looked_at(lab, tmp_path) -> None:
    back = open_quietly(lab.save(tmp_path / "x.quantlab.json"))
    assert (back.name, back.seed, back.view) == ("mini", 0, lab.view)
    assert (back.history, back.recipe) == (lab.history, lab.recipe)
    assert back.can_redo
    assert same_pictures(back.evaluation[0], lab.evaluation[0])
    assert back.evaluation[0].name == "demo"
    back.redo()
    lab.redo()
    assert back.recipe == lab.recipe == lab.history[-1]
    while back.can_undo:
        back.undo()
    assert back.recipe == lab.history[0]


def test_saving_again_what_was_opened_writes_the_same_text(lab, tmp_path) -> None:
    first = lab.save(tmp_path / "a.json").read_text()
    assert open_quietly(tmp_path / "a.json").save(tmp_path / "b.json").read_text() == first


def test_a_session_is_small_holds_no_weights_and_no_pictures(lab, tmp_path) -> None:
    assert lab.save(tmp_path / "a.json").stat().st_size < 20_000


def test_rooms_come_back_as_they_were_and_one_scene_used_twice_is_one_object(model, tmp_path) -> None:
    rooms = ql.rooms(3, views=2, size=48, split="calibration", degenerate=0.9, seed=4)
    lab = ql.Lab(model, calibration=rooms, evaluation=[rooms[1]], seed=7)
    back = open_quietly(lab.save(tmp_path / "a.json"), model)
    assert back.seed == 7
    assert all(map(same_pictures, back.calibration, rooms))
    assert [scene.name for scene in back.calibration] == [scene.name for scene in rooms]
    assert back.evaluation[0] is back.calibration[1]


def test_pictures_are_found_again_where_they_were_or_beside_the_session(model, pictures, tmp_path) -> None:
    lab = ql.Lab(model, evaluation=[ql.load_scene(pictures[0].parent)])
    path = lab.save(tmp_path / "a.json")
    assert same_pictures(open_quietly(path, model).evaluation[0], lab.evaluation[0])
    elsewhere = tmp_path / "elsewhere"
    pictures[0].parent.rename(elsewhere)
    path = path.rename(elsewhere / "a.json")
    back = open_quietly(path, model)
    assert same_pictures(back.evaluation[0], lab.evaluation[0])
    assert back.evaluation[0].name == "photos"


def test_missing_pictures_are_named_and_others_can_be_given(model, pictures, tmp_path) -> None:
    lab = ql.Lab(model, evaluation=[ql.load_scene(pictures)])
    path = lab.save(tmp_path / "a.json")
    pictures[1].unlink()
    with pytest.raises(SceneError, match=r"räume 1\.png") as caught:
        ql.load_session(path, model)
    assert "scenes=" in caught.value.remedy
    with pytest.warns(SessionWarning, match="not those of the session"):
        back = ql.load_session(path, model, scenes="demo")
    assert back.evaluation[0].name == "demo"


def test_a_picture_that_was_edited_is_said_and_the_unchanged_copy_is_preferred(
    model, pictures, tmp_path
) -> None:
    lab = ql.Lab(model, evaluation=[ql.load_scene(pictures)])
    path, whole = lab.save(tmp_path / "a.json"), pictures[0].read_bytes()
    Image.new("RGB", (96, 96), "red").save(pictures[0])
    with pytest.warns(SessionWarning, match=r"räume 0\.png is not the file it was"):
        ql.load_session(path, model)
    (tmp_path / pictures[0].name).write_bytes(whole)
    assert same_pictures(open_quietly(path, model).evaluation[0], lab.evaluation[0])


def test_a_copy_of_a_scene_with_fewer_pictures_is_not_taken_for_its_files(pictures) -> None:
    scene = ql.load_scene(pictures)
    assert note_scene(scene).files
    assert note_scene(replace(scene, images=scene.images[:1])).digest
    assert note_scene(replace(ql.load_scene("demo"), images=scene.images, truth=None)).digest


def test_other_weights_under_the_same_name_are_said(lab, tmp_path) -> None:
    path = lab.save(tmp_path / "a.json")
    with pytest.warns(SessionWarning, match="weights of mini"):
        back = ql.load_session(path, "mini-outliers")
    assert back.history == lab.history


def test_a_checkpoint_file_is_found_beside_the_session_and_named_when_it_is_gone(lab, tmp_path) -> None:
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes(Path(lab.model.path).read_bytes())
    path = ql.Lab(ql.load_model(weights)).save(tmp_path / "a.json")
    assert open_quietly(path).name == "mine.safetensors"
    moved = tmp_path / "moved"
    moved.mkdir()
    weights.rename(moved / weights.name)
    assert open_quietly(path.rename(moved / "a.json")).name == "mine.safetensors"
    (moved / weights.name).unlink()
    with pytest.raises(CheckpointError, match=r"mine\.safetensors") as caught:
        ql.load_session(moved / "a.json")
    assert fingerprint(lab.model)[:12] in caught.value.remedy


def test_a_bare_module_and_its_inputs_are_asked_for_and_recognised(tmp_path) -> None:
    torch.manual_seed(0)
    network, inputs = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)), [torch.randn(5, 8)]
    lab = ql.Lab(network, calibration=inputs)
    lab.set("0", weights=8)
    path = lab.save(tmp_path / "a.json")
    with pytest.raises(CheckpointError, match="a program made it"):
        ql.load_session(path)
    with pytest.raises(SceneError, match="program made the scene"):
        ql.load_session(path, network)
    assert open_quietly(path, network, scenes=inputs).history == lab.history
    with pytest.warns(SessionWarning, match="not those of the session"):
        ql.load_session(path, network, scenes=[inputs[0] + 1])


def test_a_history_that_does_not_fit_the_model_given_is_refused(lab, tmp_path) -> None:
    lab.set("*", weight_granularity="group", group_size=96)
    path = lab.save(tmp_path / "a.json")
    with pytest.raises(RecipeError), pytest.warns(SessionWarning):
        ql.load_session(path, nn.Sequential(nn.Linear(7, 5)), scenes=[torch.randn(2, 7)])


def test_undo_stops_before_a_recipe_of_a_strangers_history_that_cannot_be_carried_out(lab) -> None:
    impossible = lab.recipe.set("*", weight_granularity="group", group_size=80)
    lab.resume([lab.history[0], impossible, lab.recipe], 2)
    now = lab.recipe
    with pytest.raises(RecipeError):
        lab.undo()
    assert lab.recipe == now
    for recipes, position in (([], 0), ([now], 1), ([now], -1), ([impossible], 0), (["rtn"], 0)):
        with pytest.raises(RecipeError):
            lab.resume(recipes, position)
    assert lab.history[1:] == (impossible, now)


def test_a_history_longer_than_a_lab_keeps_is_cut_at_its_beginning(lab) -> None:
    recipes = [replace(ql.Recipe(), seed=seed) for seed in range(210)]
    lab.resume(recipes, 209)
    assert len(lab.history) == 200
    assert lab.recipe.seed == 209


# -- files of strangers -----------------------------------------------------------------------------------------------


def plain(lab: ql.Lab) -> dict[str, Any]:
    return json.loads(to_text(describe(lab)))


FAULTS: dict[str, dict[str, Any]] = {
    "newer": {"format": 2},
    "no format": {"format": "1"},
    "format true": {"format": True},
    "another kind": {"quantlab": "profile"},
    "unknown entry": {"run": "rm -rf"},
    "no recipe": {"recipes": []},
    "too many recipes": {"recipes": [{"format": 1}] * 201},
    "a recipe that is none": {"recipes": [{"format": 1, "scope": "everything"}]},
    "position beyond": {"position": 4},
    "position true": {"position": True},
    "position negative": {"position": -1},
    "no scene": {"evaluation": []},
    "scene of two kinds": {"evaluation": [{"name": "x", "digest": "0", "files": []}]},
    "room of a million views": {"evaluation": [{"name": "x", "room": {"views": 10**6}}]},
    "room that fills the memory": {
        "evaluation": [
            {
                "name": "x",
                "room": {
                    "index": 0,
                    "views": 100,
                    "seed": 0,
                    "height": 4096,
                    "width": 4096,
                    "split": "held-out",
                    "degenerate": 0,
                },
            }
        ]
    },
    "path that is a number": {
        "evaluation": [{"name": "x", "files": [{"path": 1, "bytes": 1, "sha256": ""}]}]
    },
    "half a character": {"model": {"name": "\ud800", "path": "", "fingerprint": "", "dtype": "float32"}},
    "endless name": {"version": "x" * 10**5},
    "view of lists": {"view": {"layer": ["x"]}},
    "half a character as a name": {"view": {"\ud800": 1}},
    "view that is none": {"view": [1]},
    "seed beyond": {"seed": 10**30},
    "model that is none": {"model": None},
}


@pytest.mark.bad_input
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_entry_is_refused_with_its_place_and_a_remedy(lab, tmp_path, fault: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**plain(lab), **FAULTS[fault]}))
    with pytest.raises((StorageError, RecipeError)) as caught:
        ql.load_session(path)
    assert str(path) in caught.value.place or caught.value.place == "scope"
    assert caught.value.remedy
    assert ("newer QuantLab" in str(caught.value)) == (fault == "newer")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'{"quantlab": "session", "quantlab": "session"}',
        b'{"format": NaN}',
        b'{"format": 1e400}',
        b"\xff\xfe{}",
        b"\x80\x04\x95.",
        b"<html>",
    ],
)
def test_what_is_no_session_is_refused_with_its_path(content: bytes, tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(StorageError) as caught:
        ql.load_session(path)
    assert str(path) in caught.value.place
    assert caught.value.remedy


@pytest.mark.bad_input
def test_absent_unreadable_and_too_large_files_are_refused(tmp_path, monkeypatch) -> None:
    for path in (tmp_path / "absent.json", tmp_path, tmp_path / "nul\0", tmp_path / ("x" * 300)):
        with pytest.raises(StorageError, match="cannot read"):
            read_session(path)
    monkeypatch.setattr(session_file, "MAX_BYTES", 1 << 20)
    (tmp_path / "large.json").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(StorageError, match="larger than"):
        read_session(tmp_path / "large.json")


@pytest.mark.bad_input
def test_a_history_too_large_to_be_read_back_is_not_written(lab, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(session_file, "MAX_BYTES", 100)
    with pytest.raises(StorageError, match="more than can be read back"):
        lab.save(tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.bad_input
def test_a_session_that_names_a_device_or_a_folder_reads_neither(lab, tmp_path) -> None:
    for place in ("/dev/zero", str(tmp_path), "../../../../etc", "nul\0", "x" * 4000, ""):
        files = [{"path": place, "bytes": 0, "sha256": ""}]
        (tmp_path / "a.json").write_text(
            json.dumps({**plain(lab), "evaluation": [{"name": "x", "files": files}]})
        )
        with pytest.raises(SceneError, match="not here"):
            ql.load_session(tmp_path / "a.json", lab.model)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=5,
)
NAMES = ("model", "evaluation", "calibration", "seed", "view", "position", "recipes", "version", "format")


@pytest.mark.bad_input
@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(NAMES), value=JSON)
def test_whatever_stands_in_an_entry_is_read_or_refused(name: str, value: Any) -> None:
    good = {
        "quantlab": "session",
        "format": 1,
        "version": "0",
        "seed": 0,
        "view": {},
        "position": 0,
        "model": {"name": "mini", "path": "", "fingerprint": "", "dtype": "float32"},
        "evaluation": [{"name": "x", "digest": "0"}],
        "calibration": None,
        "recipes": [ql.Recipe().to_dict()],
    }
    assert from_text(json.dumps(good)).recipes == (ql.Recipe(),)
    try:
        read = from_text(json.dumps({**good, name: value}))
    except QuantLabError:
        return
    assert from_text(to_text(read)) == read


# -- what tells weights apart -----------------------------------------------------------------------------------------


def test_digests_tell_weights_apart_and_follow_the_file(tmp_path) -> None:
    import hashlib

    path = tmp_path / "w"
    path.write_bytes(b"one")
    assert file_digest(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert file_digest(path) == hashlib.sha256(b"three").hexdigest()
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    assert network_digest(first) != network_digest(second)
    second.load_state_dict(first.state_dict())
    assert network_digest(first) == network_digest(second)
    counted = nn.BatchNorm1d(
        3
    ).bfloat16()  # holds a number without dimensions, and what numpy has no type for
    before = network_digest(counted)
    counted.num_batches_tracked += 1
    assert network_digest(counted) != before


# -- profiles ---------------------------------------------------------------------------------------------------------


def test_a_profile_taken_elsewhere_spares_measuring_it(lab, model, tmp_path, monkeypatch) -> None:
    path = lab.save_profile(tmp_path / "p.npz")
    other = ql.Lab(model)
    monkeypatch.setattr(ql.Lab, "_survey", lambda *_: pytest.fail("it was measured again"))
    assert other.load_profile(path) is other.profile()
    assert list(other.profile().layers) == list(lab.profile().layers)
    assert other.layer(next(iter(other.structure.layers))).name


@pytest.mark.bad_input
def test_a_profile_of_other_weights_or_of_another_network_is_refused(lab, tmp_path) -> None:
    path = lab.save_profile(tmp_path / "p.npz")
    planted = ql.Lab(ql.load_model("mini-outliers"))
    with pytest.raises(StorageError, match="other weights") as caught:
        planted.load_profile(path)
    assert "other_weights=True" in caught.value.remedy
    assert planted._profile is None
    assert planted.load_profile(path, other_weights=True).layers
    bare = ql.Lab(nn.Sequential(nn.Linear(4, 4)), calibration=[torch.randn(3, 4)])
    with pytest.raises(StorageError, match="another network"):
        bare.load_profile(path, other_weights=True)
    narrow = ql.Lab(nn.Sequential(nn.Linear(6, 4)), calibration=[torch.randn(3, 6)])
    with pytest.raises(StorageError, match="width of 0"):
        narrow.load_profile(bare.save_profile(tmp_path / "q.npz"), other_weights=True)
