"""A Model predicts, decodes and says what it is; planted outliers change tails and not the function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from quantlab.errors import CheckpointError, DeviceError, NumericError
from quantlab.models import hub
from quantlab.models.model import Model
from quantlab.models.networks import build_model
from quantlab.models.outliers import plant_outliers
from quantlab.models.vggt import VGGT
from quantlab.models.zoo import load_model

MINI = Path(__file__).parents[2] / "assets" / "mini.safetensors"
CONFIG: dict[str, Any] = {
    "aggregator": {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2},
    "vit": {"embed_dim": 48, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 16, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}


def network() -> VGGT:
    torch.manual_seed(0)
    built = build_model("vggt", CONFIG)
    assert isinstance(built, VGGT)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith(("gamma", "_token", "norm1.bias", "norm2.bias")):
                parameter.normal_()
    return built


@pytest.fixture
def model() -> Model:
    return Model(network(), name="small")


@pytest.fixture
def pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8))


def test_a_prediction_has_the_promised_shapes_and_kinds(model: Model, pictures: list[np.ndarray]) -> None:
    found = model.predict(pictures)
    assert (found.images.shape, found.images.dtype) == ((3, 32, 32, 3), np.uint8)
    assert (found.points.shape, found.points.dtype) == ((3, 32, 32, 3), np.float32)
    assert (found.depth.shape, found.confidence.shape) == ((3, 32, 32), (3, 32, 32))
    assert (found.camera_from_world.shape, found.camera_from_world.dtype) == ((3, 4, 4), np.float64)
    assert (found.intrinsics.shape, found.intrinsics.dtype) == ((3, 3, 3), np.float32)


def test_points_seen_from_their_camera_lie_at_their_depth(model: Model, pictures: list[np.ndarray]) -> None:
    found = model.predict(pictures)
    homogeneous = np.concatenate((found.points, np.ones((3, 32, 32, 1))), axis=-1)
    seen = np.einsum("sij,shwj->shwi", found.camera_from_world, homogeneous)
    np.testing.assert_allclose(seen[..., 2], found.depth, rtol=1e-3, atol=1e-3)


def test_head_points_are_the_point_heads(model: Model, pictures: list[np.ndarray]) -> None:
    tensor = model.preprocess(pictures)
    outputs = model.run(tensor)
    found = model.decode(outputs, tensor, points="head")
    assert np.array_equal(found.points, outputs["world_points"][0].numpy())
    assert np.array_equal(found.confidence, outputs["world_points_conf"][0].numpy())


def test_a_nan_from_the_network_is_named(model: Model, pictures: list[np.ndarray]) -> None:
    with torch.no_grad():
        model.network.aggregator.camera_token.fill_(float("nan"))
    with pytest.raises(NumericError, match="'pose_enc'"):
        model.predict(pictures)


def test_a_saved_model_loads_by_path_and_predicts_the_same(
    model: Model, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "small.safetensors"
    save_file(model.network.state_dict(), path, metadata={"config": json.dumps(model.config)})
    loaded = load_model(path)
    assert np.array_equal(loaded.predict(pictures).points, model.predict(pictures).points)
    assert loaded.config == model.config
    assert len(loaded.sha256) == 64
    assert not loaded.planted


def test_bfloat16_predicts_nearly_the_same(model: Model, pictures: list[np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_file(model.network.state_dict(), path, metadata={"config": json.dumps(model.config)})
    reduced = load_model(path, dtype="bfloat16")
    assert reduced.dtype == "bfloat16"
    found, expected = reduced.predict(pictures).depth, model.predict(pictures).depth
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found, expected, rtol=0.2, atol=0.1)


def test_planting_outliers_keeps_the_function_to_the_bit_and_grows_the_tails() -> None:
    plain, planted = network().eval(), network().eval()
    plant_outliers(planted)
    images = torch.rand(1, 3, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, found = plain(images), planted(images)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
        layer = "aggregator.global_blocks.1.mlp.fc1"
        assert kurtosis(planted, layer, images) > 3 * kurtosis(plain, layer, images)
        layer = "aggregator.frame_blocks.1.attn.proj"
        assert kurtosis(planted, layer, images) > 3 * kurtosis(plain, layer, images)


def kurtosis(net: VGGT, layer: str, images: Tensor) -> float:
    seen: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    net(images)
    handle.remove()
    x = seen[0].double().flatten() - seen[0].double().mean()
    return float((x**4).mean() / (x**2).mean() ** 2)


def test_planting_is_deterministic() -> None:
    first, second = network(), network()
    plant_outliers(first)
    plant_outliers(second)
    assert Model(first).sha256 == Model(second).sha256 != Model(network()).sha256


def test_names_and_devices_that_do_not_exist_are_refused() -> None:
    with pytest.raises(CheckpointError, match="'mini'"):
        load_model("mni")
    with pytest.raises(DeviceError, match="abacus"):
        load_model("mini", device="abacus")
    with pytest.raises(DeviceError, match="float8"):
        load_model("mini", dtype="float8")


def test_offline_the_error_says_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def offline(*_args: object, **_options: object) -> str:
        raise OSError("network unreachable")

    monkeypatch.setenv("QUANTLAB_MODELS", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(CheckpointError, match="cannot be downloaded") as caught:
        load_model("vggt-1b")
    assert str(tmp_path / "vggt-1b.safetensors") in caught.value.remedy
    (tmp_path / "vggt-1b.pt").touch()
    assert hub.hub_file("vggt-1b") == tmp_path / "vggt-1b.pt"


def test_the_layout_counts_frames_rows_and_columns(model: Model, pictures: list[np.ndarray]) -> None:
    layout = model.token_layout(model.preprocess(pictures))
    assert (layout.frames, layout.rows, layout.cols) == (3, 4, 4)
    assert len(layout.kinds("frame", 21)) == 21
    assert layout.kinds("frame", 21)[0] == 0


@pytest.mark.skipif(not MINI.exists(), reason="assets/mini.safetensors is not there")
def test_mini_and_mini_with_outliers_compute_the_same_but_not_with_the_same_tails() -> None:
    plain, planted = load_model("mini"), load_model("mini-outliers")
    assert (plain.planted, planted.planted) == (False, True)
    assert {p.dtype for p in plain.network.parameters()} == {torch.float32}
    size = plain.config["aggregator"]["img_size"]
    images = torch.rand(1, 2, 3, size, size, generator=torch.Generator().manual_seed(3))
    expected, found = plain.run(images), planted.run(images)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        layer = "aggregator.global_blocks.1.mlp.fc1"
        assert kurtosis(planted.network, layer, images) > 2 * kurtosis(plain.network, layer, images)
