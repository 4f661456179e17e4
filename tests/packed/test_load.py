"""load_model on an exported folder, and Lab.export: what the lab shows is what runs, without the lab."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import quantlab as ql
from quantlab.engine.export import cloud_difference, largest_difference
from quantlab.errors import CheckpointError, DeviceError, RecipeError, StorageError
from quantlab.jobs import Job
from quantlab.kernels.attention import ATTENTIONS
from quantlab.kernels.reference import Simulated
from quantlab.kernels.stored import Widened
from quantlab.kernels.table import KERNELS
from quantlab.packed.load import PackedModel
from quantlab.packed.read import read_packed

RECIPE = ql.Recipe.preset("quarot", weights=4, activations=8, scope="all")


@pytest.fixture(scope="module")
def scene() -> Any:
    return ql.rooms(1, views=2, size=16, seed=0)


@pytest.fixture(scope="module")
def lab(model, scene) -> ql.Lab:
    return ql.Lab(model, calibration=scene, evaluation=scene, recipe=RECIPE)


@pytest.fixture(scope="module")
def exported(lab, tmp_path_factory) -> Any:
    return lab.export(tmp_path_factory.mktemp("export") / "out", rest="float32")


@pytest.fixture(scope="module")
def linears(lab, tmp_path_factory) -> Path:
    """The folder of a network that is quantized in part; what is kept is stored in 16 bits."""
    folder = tmp_path_factory.mktemp("linears") / "out"
    before, lab.recipe = lab.recipe, ql.Recipe.preset("rtn", weights=8, activations=8)
    try:
        lab.export(folder, drift=False)
    finally:
        lab.recipe = before
    return folder


def test_the_record_of_an_export_counts_what_is_on_the_disk(exported, model):
    assert exported.bytes == sum(path.stat().st_size for path in exported.folder.iterdir())
    assert exported.full_bytes == 2 * exported.half_bytes
    assert exported.full_bytes == 4 * sum(p.numel() for p in model.network.parameters())
    assert exported.layers > 0 == exported.kept
    assert exported.drift.stored == 0
    assert json.loads(json.dumps(exported.to_dict()))["drift"]["scene"] == exported.drift.scene


def test_the_reference_kernel_predicts_what_the_lab_shows(exported, lab, scene):
    packed = ql.load_model(exported.folder, kernel="reference")
    assert isinstance(packed, PackedModel)
    assert set(packed.execution.kernels) == {"reference"}
    wanted, found = lab.quantized().prediction, packed.predict(scene[0].images)
    assert np.array_equal(found.points, wanted.points)
    assert np.array_equal(found.camera_from_world, wanted.camera_from_world)


def test_the_drift_of_an_export_is_that_of_what_load_model_runs_here(exported, lab, scene):
    packed, drift = ql.load_model(exported.folder), exported.drift
    shown, found = lab.quantized().prediction, packed.predict(scene[0].images)
    assert drift.kernels == packed.execution.kernels
    assert drift.point_error == cloud_difference(shown, found)
    full = lab.reference().prediction
    assert (drift.simulated, drift.executed) == (cloud_difference(full, shown), cloud_difference(full, found))
    assert drift.simulated > 0
    assert "as executed here" in replace(drift, outputs=0.1).told()
    assert "exactly as simulated" in replace(drift, outputs=0.0).told()
    assert "off what is simulated" in replace(drift, outputs=0.1, simulated=None).told()


def test_integer_kernels_stay_near_the_simulation(exported, lab, scene):
    if why := KERNELS["native"].absent(torch.device("cpu")):
        pytest.skip(why)
    packed = ql.load_model(exported.folder, kernel="native")
    wanted, found = lab.quantized().prediction, packed.predict(scene[0].images)
    size = np.abs(wanted.points).max()
    assert np.abs(found.points - wanted.points).max() < 0.1 * size  # a code may flip, and flips spread
    assert sum(packed.execution.kernels.values()) == len(packed.execution.layers)


def test_the_core_of_its_attention_can_be_named(exported):
    packed = ql.load_model(exported.folder, kernel="reference", attention="torch")
    assert packed.execution.attention == "torch"
    with pytest.raises(RecipeError, match=r"unknown attention.*of: auto, "):
        ql.load_model(exported.folder, kernel="reference", attention="telepathy")
    with pytest.raises(RecipeError, match="packed"):
        ql.load_model("mini", attention="torch")


def test_a_packed_model_says_where_it_comes_from(exported, model, lab):
    packed = ql.load_model(exported.folder, kernel="reference")
    assert ql.Recipe.from_dict(packed.recipe) == lab.recipe == ql.Recipe.load(exported.folder / "recipe.yaml")
    assert packed.provenance["model"]["sha256"] == model.sha256
    assert packed.provenance["drift"]["stored"] == 0
    assert packed.sha256 != model.sha256
    assert packed.config == model.config
    assert "reference" in repr(packed)


def test_what_the_recipe_leaves_alone_may_be_stored_in_sixteen_bits_and_the_drift_says_so(lab, tmp_path):
    recipe = ql.Recipe.preset("rtn", weights=8, activations=16)
    before, lab.recipe = lab.recipe, recipe
    try:
        small, exact = (lab.export(tmp_path / rest, rest=rest) for rest in ("bfloat16", "float32"))
    finally:
        lab.recipe = before
    assert small.bytes < exact.bytes
    assert small.kept == exact.kept > 0
    assert 0 == exact.drift.stored < small.drift.stored < 0.1


def test_kept_weights_follow_the_network_into_bfloat16(linears, scene):
    exact, low = (
        ql.load_model(linears, kernel="reference", compute=compute) for compute in ("float32", "bfloat16")
    )
    read = {
        module.dtype
        for name, module in low.network.named_modules()
        if isinstance(module, Widened) and name.partition(".")[0] not in low.network.kept_in_float32
    }
    assert read == {torch.bfloat16}
    wanted, found = (model.predict(scene[0].images).points for model in (exact, low))
    assert 0 < np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


def test_pages_of_the_file_are_shared_and_not_copied(exported):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not tell what is mapped")
    network = read_packed(exported.folder).network
    layers = [module for module in network.modules() if isinstance(module, Simulated)]
    lines = [line.split() for line in maps.read_text().splitlines() if str(exported.folder) in line]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    mapped = [any(low <= layer.packed.data_ptr() < high for low, high in ranges) for layer in layers]
    assert mapped
    assert all(mapped)


def test_a_named_kernel_or_attention_that_is_not_here_is_an_error_and_no_other_runs_in_its_place(
    exported, monkeypatch
):
    monkeypatch.setattr(type(KERNELS["native"]), "absent", lambda *_: "there is no compiler")
    with pytest.raises(DeviceError, match=r"no compiler.*reference"):
        ql.load_model(exported.folder, kernel="native")
    monkeypatch.setattr(type(ATTENTIONS["native"]), "absent", lambda _: "there is no compiler")
    with pytest.raises(DeviceError, match=r"no compiler.*torch"):
        ql.load_model(exported.folder, kernel="reference", attention="native")


@pytest.mark.parametrize("wrong", [{"kernel": "warp"}, {"compute": "int1"}])
def test_unknown_kernels_are_refused(wrong, exported):
    with pytest.raises(RecipeError):
        ql.load_model(exported.folder, **wrong)
    with pytest.raises(RecipeError, match="packed"):
        ql.load_model("mini", **wrong)


@pytest.mark.parametrize("kernel", ["auto", "reference"])
def test_a_quantized_model_is_no_start_for_a_lab_which_says_what_scores_it(kernel, linears, scene):
    with pytest.raises(CheckpointError, match=r"already.*quantlab\.evaluate"):
        ql.Lab(ql.load_model(linears, kernel=kernel), evaluation=scene)


@pytest.mark.parametrize("take", [lambda model: model, lambda model: model.network])
def test_torch_save_is_refused_with_the_folder_as_the_file_to_copy(take, linears, tmp_path):
    packed = ql.load_model(linears, kernel="reference")
    with pytest.raises(CheckpointError, match="copy"):
        torch.save(take(packed), tmp_path / "model.pt")
    assert packed.network.state_dict()


def test_an_export_that_cannot_be_is_refused_before_any_work(lab, exported, tmp_path):
    job = Job()
    for folder, more, error in (
        (exported.folder, {}, StorageError),
        (tmp_path / "a" / "b", {}, StorageError),
        (tmp_path / "out", {"rest": "int8"}, RecipeError),
    ):
        with pytest.raises(error):
            lab.export(folder, job=job, **more)
    assert job.fraction == 0
    assert not list(tmp_path.iterdir())


def test_a_bare_network_is_exported_and_needs_one_of_its_kind_to_come_back(bench, tmp_path):
    lab = ql.Lab(bench.network, calibration=bench.inputs, evaluation=bench.inputs, recipe=RECIPE)
    drift = lab.export(tmp_path / "out", rest="float32").drift
    assert drift.stored == 0
    assert drift.simulated == largest_difference(lab.reference().outputs, lab.quantized().outputs)
    with pytest.raises(CheckpointError, match="cannot build"):
        ql.load_model(tmp_path / "out")
    back = read_packed(tmp_path / "out", network=bench.network).network
    with torch.no_grad():
        assert torch.equal(back(bench.inputs[0]), lab.quantized().outputs["output"])


FRESH = """
import json, sys
import numpy as np
import quantlab as ql
model = ql.load_model(sys.argv[1], kernel="reference")
pictures = [np.full((16, 16, 3), shade, dtype=np.uint8) for shade in (40, 200)]
finite = bool(np.isfinite(model.predict(pictures).points).all())
print(json.dumps({"finite": finite, "modules": sorted(name for name in sys.modules if name.startswith("quantlab."))}))
"""


def test_a_fresh_process_runs_a_checkpoint_without_what_made_it(exported):
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(exported.folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    told = json.loads(done.stdout)
    assert told["finite"]
    assert not [
        name for name in told["modules"] if name.split(".")[1] in ("calibration", "engine", "lab", "scenes")
    ]
