"""A quantization that is killed goes on behind its last finished stage, and ends as one that was never stopped."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import quantlab as ql
from quantlab.engine.calibrate import Calibration
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.engine.stages_folder import Finished, Identity, StageFolder, digest_of
from quantlab.errors import CheckpointError, QuantLabError, StorageError
from quantlab.models.safetensors_file import read_header
from quantlab.models.structure import describe

CONFIG = {
    "aggregator": {"img_size": 28, "patch_size": 14, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "vit": {"embed_dim": 32, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}
RECIPE = Recipe(
    scope="linears",
    defaults={"weights": 4, "activations": 8, "smoothing": 0.5, "rounding": "gptq", "inputs": "quantized"},
)
KILLED_AFTER = 3


def tiny() -> nn.Module:
    torch.manual_seed(0)
    network = ql.build_model("vggt", CONFIG).eval()
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def scenes() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 2, 3, 28, 28, generator=generator) for _ in range(2)]


def identity(**other: object) -> Identity:
    given = {
        "quantlab": "1",
        "model": "tiny",
        "dtype": "float32",
        "recipe": RECIPE.to_dict(),
        "scenes": "two",
    }
    return Identity(**{**given, **other})


def quantized(path: Path, told=None) -> Quantizer:
    network = tiny()
    quantizer = Quantizer(network, describe(network), Calibration(scenes()))
    quantizer.apply(RECIPE, store=StageFolder(path, identity(), RECIPE, told))
    return quantizer


def killed(path: Path) -> None:
    """Runs in a process of its own, which does not survive."""
    import os

    finished: list[Finished] = []

    def told(stage: Finished) -> None:
        finished.append(stage)
        if len(finished) == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)

    quantized(path, told)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[Path, Quantizer]:
    path = tmp_path_factory.mktemp("whole") / "out"
    return path, quantized(path)


def outputs(network: nn.Module) -> dict[str, Tensor]:
    with torch.no_grad():
        return network(scenes()[0])


def test_a_run_killed_between_blocks_is_resumed_and_equals_one_that_was_not(uninterrupted, tmp_path):
    whole, expected = uninterrupted
    script = f"""
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("folder_test", {__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.killed(Path({str(tmp_path / "out")!r}))
"""
    died = subprocess.run([sys.executable, "-c", script], timeout=120, check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    there = sorted(file.name for file in (tmp_path / "out" / "stages").iterdir())
    assert len(there) == KILLED_AFTER
    stages: list[Finished] = []
    resumed = quantized(tmp_path / "out", stages.append)
    assert [stage.known for stage in stages] == [True] * KILLED_AFTER + [False] * (len(stages) - KILLED_AFTER)
    ours, theirs = outputs(resumed.network), outputs(expected.network)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for file in (whole / "stages").iterdir():
        assert (tmp_path / "out" / "stages" / file.name).read_bytes() == file.read_bytes()


def test_a_store_changes_nothing_about_the_result(uninterrupted):
    network = tiny()
    plain = Quantizer(network, describe(network), Calibration(scenes()))
    plain.apply(RECIPE)
    ours, theirs = outputs(plain.network), outputs(uninterrupted[1].network)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_camera_head_is_one_stage_and_heads_of_convolutions_are_not_walked(uninterrupted):
    names = {file.name.removesuffix(".safetensors") for file in (uninterrupted[0] / "stages").iterdir()}
    assert "camera_head" in names
    assert not any(name.startswith("camera_head.") for name in names)
    assert {
        "aggregator.frame_blocks.1",
        "aggregator.global_blocks.1",
        "aggregator.patch_embed.blocks.0",
    } <= names


def test_recipes_that_look_at_no_data_run_no_scene(tmp_path):
    network, recipe = tiny(), Recipe.preset("rtn")

    def predict(network: nn.Module, given: Tensor) -> None:
        raise AssertionError("a scene was run")

    quantizer = Quantizer(network, describe(network), Calibration(scenes(), predict))
    folder = StageFolder(tmp_path / "out", identity(recipe=recipe.to_dict()), recipe)
    quantizer.apply(recipe, store=folder)
    assert len(folder.finished) == 4
    assert folder.finish({}, {}) == folder.bytes > 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["finished"]["stages"].keys() == {stage.stage for stage in folder.finished}
    assert Recipe.load(tmp_path / "out" / "recipe.yaml") == recipe


@pytest.mark.parametrize("other", ["quantlab", "model", "dtype", "recipe", "scenes"])
def test_a_folder_of_another_quantization_is_refused_by_what_differs(other, tmp_path):
    StageFolder(tmp_path / "out", identity(), RECIPE)
    changed = {"name": "other"} if other == "recipe" else "other"
    with pytest.raises(StorageError, match=other):
        StageFolder(tmp_path / "out", identity(**{other: changed}), RECIPE)
    StageFolder(tmp_path / "out", identity(), RECIPE)


@pytest.mark.parametrize("what", ["foreign file", "broken manifest", "list manifest", "file", "no parent"])
def test_a_place_that_is_no_working_folder_is_refused_and_left_alone(what, tmp_path):
    path = tmp_path / "out"
    if what == "file":
        path.write_text("mine")
    elif what == "no parent":
        path = tmp_path / "missing" / "out"
    else:
        path.mkdir()
        name = "notes.txt" if what == "foreign file" else "manifest.json"
        (path / name).write_text("[]" if what == "list manifest" else "mine")
    before = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else None
    with pytest.raises(StorageError):
        StageFolder(path, identity(), RECIPE)
    if before == ["notes.txt"]:
        assert sorted(entry.name for entry in path.iterdir()) == before


def test_a_stage_whose_file_was_damaged_is_refused_by_name(uninterrupted, tmp_path):
    quantized(tmp_path / "out")
    file = tmp_path / "out" / "stages" / "camera_head.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(QuantLabError, match="camera_head"):
        quantized(tmp_path / "out")


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, "another width", "no format"])
def test_a_stage_whose_text_and_tensors_do_not_fit_is_refused_by_name(uninterrupted, tmp_path, text):
    file = Path(shutil.copytree(uninterrupted[0], tmp_path / "out")) / "stages" / "camera_head.safetensors"
    tensors, said = load_file(file), read_header(file).metadata["quantlab"]
    if text == "another width":
        name = next(name for name in tensors if name.endswith("divisor"))
        tensors[name], text = tensors[name][:-1].clone(), said
    elif text == "no format":
        text = said.replace('"value": "QuantSpec"', '"value": "Settings"')
    save_file(tensors, file, {"quantlab": text})
    with pytest.raises(CheckpointError, match="camera_head"):
        quantized(tmp_path / "out")


def test_a_stage_of_other_layers_is_refused(tmp_path):
    folder = StageFolder(tmp_path / "out", identity(), RECIPE)
    folder.save("blocks.0", {})
    with pytest.raises(CheckpointError, match="other layers"):
        folder.load("blocks.0", {"blocks.0.fc1": nn.Linear(2, 2)})


def test_digests_tell_scenes_apart_by_their_values_shapes_and_order():
    first, second = scenes()
    digests = [
        digest_of(given)
        for given in (
            [first, second],
            [second, first],
            [first],
            [first, second + 1e-6],
            [first.flatten(), second],
        )
    ]
    assert len(set(digests)) == len(digests)
    assert digest_of([first.clone(), second]) == digests[0]
