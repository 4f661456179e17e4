"""Files for other runtimes, run by the real ones: layer by layer on equal inputs, whole networks within a bound."""

from __future__ import annotations

import importlib
import json
import socket
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import quantlab as ql
from quantlab.calibration.layer_data import LayerData
from quantlab.deploy import export
from quantlab.deploy.graph import trace
from quantlab.deploy.onnx_file import export_onnx, run_onnx, write_onnx
from quantlab.deploy.openvino_ir import convert, run_openvino
from quantlab.deploy.target import difference
from quantlab.engine.build import build_layer
from quantlab.engine.settings import LayerSettings
from quantlab.errors import MissingLibraryError, RecipeError, StorageError
from quantlab.models.layers import Block

onnx = pytest.importorskip("onnx", reason="pip install 'quantlab[deploy]'")
pytest.importorskip("onnxscript", reason="pip install 'quantlab[deploy]'")

STATIC = {"weights": 8, "activations": 8, "activation_mode": "static", "activation_granularity": "tensor"}
GROUPS = {"weights": 4, "weight_granularity": "group", "group_size": 16}
WIDTH, OUT = 64, 48
LINEARS = {
    "static": STATIC,
    "static_asymmetric": {**STATIC, "activation_symmetric": False, "weight_symmetric": False},
    "static_per_tensor": {**STATIC, "weight_granularity": "tensor"},
    "hadamard": {"weights": 6, "rotation": "hadamard"},
    "cosines": {"weights": 4, "rotation": "dct"},
    "groups": {**GROUPS, "smoothing": 0.5},
    "asymmetric_groups": {**GROUPS, "weight_symmetric": False},
    "low_rank": {"weights": 4, "low_rank": 2, "rotation": "kronecker"},
    "regular": {"weights": 3, "rotation": "regular", "weight_symmetric": False},
    "block_hadamard": {"weights": 8, "rotation": "block_hadamard", "rotation_group": 16},
}
"""Activations are rounded only where no sum stands before them: a sum in another order could flip a rounding."""
KINDS = {"static": "INT8", "static_asymmetric": "UINT8", "groups": "INT4", "asymmetric_groups": "UINT4"}
EXACT = 1e-5
"""Relative, on identical codes: float32 sums in another order."""
RUN = {"onnx": run_onnx, "openvino": run_openvino}
TINY = {
    "aggregator": {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2},
    "vit": {"embed_dim": 32, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 0, 0]},
}


class Every(nn.Module):
    """One quantized layer of each kind, all on the same input ``[n, WIDTH]``."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        data = LayerData(x, x.abs().amax(dim=0), np.zeros(len(x), dtype=np.uint8))
        self.linears = nn.ModuleDict(
            {
                name: build_layer(name, nn.Linear(WIDTH, OUT), LayerSettings(**settings), seed=3, data=data)
                for name, settings in LINEARS.items()
            }
        )
        reflected = nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect")
        self.conv = build_layer("conv", reflected, LayerSettings(weights=4), seed=0)
        self.transposed = build_layer(
            "transposed", nn.ConvTranspose2d(4, 6, 2, 2), LayerSettings(weights=8), seed=0
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        picture = x.reshape(1, 4, 16, -1)
        convolved = {"conv": self.conv(picture), "transposed": self.transposed(picture)}
        return {name: layer(x) for name, layer in self.linears.items()} | convolved


class Small(nn.Module):
    """A patch embedding and a block."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.blocks = nn.ModuleList([Block(32, 2, layer_scale=None)])

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks[0](self.patches(images).flatten(2).transpose(1, 2))


class Written(NamedTuple):
    network: nn.Module
    x: Tensor
    paths: dict[str, Path]


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Written:
    torch.manual_seed(0)
    x, folder = torch.randn(16, WIDTH), tmp_path_factory.mktemp("every")
    network = Every(x).eval()
    paths = {"onnx": folder / "model.onnx", "openvino": folder / "model.xml"}
    export_onnx(network, x, paths["onnx"])
    convert(paths["onnx"], paths["openvino"])
    return Written(network, x, paths)


def small_lab(**settings: object) -> ql.Lab:
    torch.manual_seed(0)
    inputs = [torch.rand(1, 3, 12, 16) for _ in range(2)]
    return ql.Lab(Small(), calibration=inputs, evaluation=inputs[:1], recipe=ql.Recipe(defaults=settings))


@pytest.mark.parametrize("runtime", RUN)
def test_every_kind_of_layer_computes_what_the_simulation_does(every: Written, runtime: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(runtime, runtime))
    found = RUN[runtime](every.paths[runtime], every.x)
    with torch.no_grad():
        expected = every.network(every.x)
    assert found.keys() == expected.keys()
    errors = {name: difference(found[name], output.numpy()) for name, output in expected.items()}
    assert not {name: error for name, error in errors.items() if error > EXACT}


def test_weights_are_stored_as_integers_of_their_bits(every: Written) -> None:
    stored = {tensor.name: tensor for tensor in onnx.load(every.paths["onnx"]).graph.initializer}
    kinds = onnx.TensorProto.DataType
    for name, kind in KINDS.items():
        codes = stored[f"network.linears.{name}.stored.codes"]
        assert kinds.Name(codes.data_type) == kind
        bits = 4 if kind.endswith("4") else 8
        assert len(codes.raw_data) == WIDTH * OUT * bits // 8
        assert np.array_equal(
            onnx.numpy_helper.to_array(codes).astype(int), every.network.linears[name].codes().T.int().numpy()
        )
    floats = [t for t in stored.values() if kinds.Name(t.data_type) == "FLOAT"]
    assert all(np.prod(tensor.dims) < WIDTH * OUT for tensor in floats if tensor.dims != [WIDTH, WIDTH])


def test_openvino_keeps_the_integers(every: Written) -> None:
    import openvino

    model = openvino.Core().read_model(every.paths["openvino"])
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    codes = {op.get_friendly_name(): op.get_element_type() for op in constants}
    for name, kind in {"static": "i8", "groups": "i4", "asymmetric_groups": "u4"}.items():
        assert codes[f"network.linears.{name}.stored.codes"].to_string().endswith(kind)


def test_files_name_nothing_of_this_machine(every: Written) -> None:
    for path in every.paths.values():
        text = path.read_bytes()
        assert b"stack_trace" not in text
        assert str(Path(ql.__file__).parent).encode() not in text


@pytest.mark.parametrize("target", RUN)
def test_a_lab_is_exported_loaded_back_and_compared(target: str, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip({"onnx": "onnxruntime"}.get(target, target))

    def refuse(*_: object) -> None:
        raise AssertionError("something wants to leave this machine")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    lab = small_lab(**STATIC, rotation="hadamard")
    made = export(lab, target, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(p.name for p in made.paths)
    assert made.bytes == sum(path.stat().st_size for path in made.paths)
    assert made.shape == (1, 3, 12, 16)
    assert 0 <= made.max_error <= 2 * max(made.rounding.values())
    assert set(made.versions) > {"onnx", "onnxscript"}
    recipe = json.dumps(lab.recipe.to_dict())
    if target == "onnx":
        notes = {entry.key: entry.value for entry in onnx.load(made.paths[0]).metadata_props}
        assert notes["recipe"] == recipe


def test_a_vggt_runs_in_both_as_close_to_the_simulation_as_roundings_allow(tmp_path: Path) -> None:
    """Two frames and two heads: as many heads as tokens, which OpenVINO confuses unless the trace helps it."""
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    network = ql.build_model("vggt", {name: sizes for name, sizes in TINY.items() if name != "dpt"})
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("gamma", "_token", "cls_token", "register_tokens")):
                parameter.normal_()
    inputs = [torch.rand(1, 2, 3, 16, 24) for _ in range(2)]
    recipe = ql.Recipe(scope="all", defaults={**STATIC, "activation_symmetric": False})
    check_both(ql.Lab(network, calibration=inputs, evaluation=inputs[:1], recipe=recipe), tmp_path)


@pytest.mark.slow
def test_mini_runs_in_both_and_is_smaller(tmp_path: Path) -> None:
    scene = ql.load_scene("demo")
    model = ql.load_model("mini")
    lab = ql.Lab(model, calibration=[scene], evaluation=[scene], recipe=ql.Recipe(defaults=STATIC))
    made = check_both(lab, tmp_path)
    quantized = lab.calibrated().structure.layers
    codes = sum(quantized[name].in_features * quantized[name].out_features for name in lab.plan().quantized)
    graph = 2_000_000  # at most, with the scales
    assert made.bytes < made.full_bytes - 3 * codes + graph


def check_both(lab: ql.Lab, folder: Path) -> object:
    """Two networks whose roundings all fell differently were sqrt(2) times as far apart as from full precision."""
    made = export(lab, "onnx", folder)
    convert(made.paths[0], folder / "model.xml")
    run = lab.quantized(0)
    other = run_openvino(folder / "model.xml", run.value)
    for name, output in run.outputs.items():
        bound = max(EXACT, 2 * made.rounding[name])
        assert made.errors[name] <= bound, name
        assert difference(other[name], output.numpy()) <= bound, name
    return made


REFUSED = {
    "scales that are taken from each input": {"weights": 8, "activations": 8},
    "other than 8 bits": {**STATIC, "activations": 4},
    "two scales": {**STATIC, "twin": True},
    "keys and values": {"weights": 8, "kv_bits": 4},
}


@pytest.mark.parametrize("problem", REFUSED)
def test_what_a_target_cannot_hold_is_refused_before_any_work(
    problem: str, tmp_path: Path, monkeypatch
) -> None:
    network = ql.build_model("vggt", TINY)
    value = torch.rand(1, 2, 3, 16, 16)
    recipe = ql.Recipe(scope="all", defaults=REFUSED[problem])
    lab = ql.Lab(network, calibration=[value], evaluation=[value], recipe=recipe)
    monkeypatch.setattr(lab, "quantized", lambda *_, **__: pytest.fail("work was begun"))
    with pytest.raises(RecipeError, match=problem) as caught:
        export(lab, "onnx", tmp_path)
    assert "aggregator" in caught.value.place
    assert caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_a_quantized_network_is_refused_by_its_modules_too(tmp_path: Path) -> None:
    value = torch.rand(1, 3, 12, 16)
    network = ql.quantize(Small(), ql.Recipe.preset("rtn", weights=8, activations=8))
    with pytest.raises(RecipeError, match="taken from each input"):
        export_onnx(network, value, tmp_path / "model.onnx")
    network.compute_dtype = torch.bfloat16
    with pytest.raises(RecipeError, match="float32"):
        export_onnx(network, value, tmp_path / "model.onnx")


def test_a_folder_that_is_a_file_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageError, match="something else stands") as caught:
        export(small_lab(**STATIC), "onnx", tmp_path / "taken", overwrite=True)
    assert "nothing else" in caught.value.remedy


def test_a_missing_library_is_named_with_the_line_that_installs_it(tmp_path: Path, monkeypatch) -> None:
    whole = importlib.import_module

    def without(name: str, *rest: str | None):
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return whole(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingLibraryError, match=r"pip install 'quantlab\[deploy\]'"):
        export(small_lab(**STATIC), "onnx", tmp_path)


def test_large_weights_lie_in_a_second_file(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("quantlab.deploy.onnx_file.LARGEST", 100)
    layer, x = nn.Sequential(nn.Linear(32, 64)).eval(), torch.randn(3, 32)
    write_onnx(trace(layer, x), tmp_path / "model.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    with torch.no_grad():
        assert difference(run_onnx(tmp_path / "model.onnx", x)["output"], layer(x).numpy()) < EXACT
