"""Where exports go, and the nearest recipe that a file holds: nothing of another's is lost, nothing more is changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import quantlab as ql
from quantlab.deploy import changes, differs, export, fitted, require_free, snippet, stands
from quantlab.deploy.refusals import require_plan
from quantlab.engine.plan import plan
from quantlab.errors import JobCancelledError, StorageError
from quantlab.jobs import Job
from quantlab.models.structure import describe

STATIC = {"weights": 8, "activations": 8, "activation_mode": "static", "activation_granularity": "tensor"}
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}


def small_lab() -> ql.Lab:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4))
    inputs = [torch.rand(3, 8) for _ in range(2)]
    return ql.Lab(network, calibration=inputs, evaluation=inputs[:1], recipe=ql.Recipe(defaults=STATIC))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> Callable[[str, Path], Path]:
    """``earlier(target, folder)``: an export that was made once, copied to a folder."""
    made: dict[str, Path] = {}

    def copied(target: str, folder: Path) -> Path:
        for library in ("onnx", "onnxscript", RUNTIMES[target]):
            pytest.importorskip(library, reason="pip install 'quantlab[deploy]'")
        if target not in made:
            made[target] = tmp_path_factory.mktemp(target) / "out"
            export(small_lab(), target, made[target])
        return Path(shutil.copytree(made[target], folder))

    return copied


@pytest.mark.parametrize(("target", "file"), [("onnx", ""), ("openvino", ""), ("onnx", "model.onnx")])
def test_an_earlier_export_gives_way_only_where_that_is_asked_for(target, file, earlier, tmp_path) -> None:
    folder = earlier(target, tmp_path / "out")
    lab, path, before = small_lab(), folder / file, content(folder)
    assert stands(target, path)
    with pytest.raises(StorageError, match="exists" if file else "not empty") as caught:
        export(lab, target, path)
    assert "overwrite=True" in caught.value.remedy
    assert content(folder) == before
    lab.set("*", weights=4)
    made = export(lab, target, path, overwrite=True)
    after = content(folder)
    assert (
        after.keys()
        == before.keys()
        == {file.name for file in made.paths} | ({"recipe.yaml"} if file else set())
    )
    assert after != before
    assert list(tmp_path.iterdir()) == [folder], "nothing is left behind"


@pytest.mark.parametrize("target", RUNTIMES)
def test_the_recipe_lies_beside_the_file_and_the_two_lines_told_run_it(target, earlier, tmp_path) -> None:
    folder = earlier(target, tmp_path / "out")
    lab, [file] = small_lab(), folder.glob("model.[ox]*l") if target == "openvino" else folder.glob("*.onnx")
    assert ql.Recipe.load(folder / "recipe.yaml") == lab.recipe
    inside = {"images": lab.evaluation[0].numpy()}
    exec(snippet(target, file), inside)
    wanted = lab.quantized(0).outputs
    [found] = inside["outputs"] if target == "onnx" else inside["outputs"].values()
    [output] = wanted.values()
    assert abs(found - output.numpy()).max() < 1e-2 * output.abs().max()


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("quantlab.json", "onnx", "holds a packed export, not ONNX"),
        ("model.onnx", "openvino", "holds an ONNX export, not OpenVINO"),
        ("notes.txt", "onnx", "no such export"),
    ],
)
def test_a_folder_that_overwrite_spares_is_refused_by_what_it_holds(name, target, words, tmp_path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(StorageError, match=words) as caught:
        require_free(target, tmp_path, overwrite=True)
    assert "overwrite" not in caught.value.remedy


@pytest.mark.parametrize("found", [{"notes.txt": b"mine"}, {"model.onnx": b"another's"}])
def test_what_is_no_earlier_export_is_never_replaced(found, tmp_path) -> None:
    pytest.importorskip("onnxscript", reason="pip install 'quantlab[deploy]'")
    for name, text in found.items():
        (tmp_path / name).write_bytes(text)
    assert not stands("onnx", tmp_path)
    with pytest.raises(StorageError, match=r"not empty|holds"):
        export(small_lab(), "onnx", tmp_path, overwrite=True)
    assert content(tmp_path) == found


def test_a_note_beside_an_earlier_export_is_not_lost(earlier, tmp_path) -> None:
    folder = earlier("onnx", tmp_path / "out")
    (folder / "notes.txt").write_text("mine")
    before = content(folder)
    with pytest.raises(StorageError, match="not empty"):
        export(small_lab(), "onnx", folder, overwrite=True)
    assert content(folder) == before


@pytest.mark.parametrize(
    ("target", "file", "beside"), [("openvino", "a.xml", "a.bin"), ("onnx", "a.onnx", "a.bin")]
)
def test_a_file_beside_the_export_that_is_not_its_own_is_neither_overwritten_nor_counted(
    target, file, beside, tmp_path
) -> None:
    for library in ("onnx", "onnxscript", RUNTIMES[target]):
        pytest.importorskip(library, reason="pip install 'quantlab[deploy]'")
    (tmp_path / beside).write_bytes(b"mine")
    if target == "onnx":
        assert export(small_lab(), target, tmp_path / file).paths == (tmp_path / file,)
    else:
        with pytest.raises(StorageError, match="exists"):
            export(small_lab(), target, tmp_path / file, overwrite=True)
    assert (tmp_path / beside).read_bytes() == b"mine"


@pytest.mark.parametrize("file", ["", "model.onnx"])
def test_an_export_that_is_stopped_leaves_the_former_one(file, earlier, tmp_path) -> None:
    folder = earlier("onnx", tmp_path / "out")
    before = content(folder)

    def stop(job: Job) -> None:
        if job.progress.text.startswith("run "):
            raise JobCancelledError("stopped")

    with pytest.raises(JobCancelledError):
        export(small_lab(), "onnx", folder / file, overwrite=True, job=Job(stop))
    assert content(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


RECIPES = {
    "static": ql.Recipe(defaults=STATIC),
    "round to nearest": ql.Recipe.preset("rtn", weights=4, activations=4),
    "two scales": ql.Recipe.preset("taptq", weights=8, activations=8),
    "weights alone": ql.Recipe.preset("rtn", weights=4, activations=16),
    "keys and values": ql.Recipe.preset("rtn", weights=8, activations=8).set("*", kv_bits=4),
    "some inputs": ql.Recipe.preset("rtn", weights=4, activations=6).set("*.fc2", activations=16),
    "out of scope": ql.Recipe.preset("rtn").set("aggregator.patch_embed.*", weights=8, activations=4),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_nearest_recipe_is_held_and_changes_neither_weights_nor_what_is_rounded(name) -> None:
    structure, recipe = describe(ql.load_model("mini").network), RECIPES[name]
    nearest = fitted(recipe, structure)
    require_plan(plan(structure, nearest), structure, "ONNX")
    before, after = recipe.layers(structure), nearest.layers(structure)
    for layer, settings in before.items():
        other = after[layer]
        assert (other.weights, other.keep) == (settings.weights, settings.keep)
        assert (other.activations == 16) == (settings.activations == 16)
    assert not changes(nearest, structure)
    assert fitted(nearest, structure) == nearest
    assert (nearest == recipe) == (not changes(recipe, structure)) == (not differs(recipe, structure))


def test_what_the_nearest_recipe_changes_is_told_in_bits() -> None:
    structure = describe(ql.load_model("mini").network)
    assert differs(RECIPES["round to nearest"], structure) == "W4 A8 static; the recipe asks A4 dynamic"
    assert differs(RECIPES["two scales"], structure).startswith("W8 A8 static; the recipe asks ")
