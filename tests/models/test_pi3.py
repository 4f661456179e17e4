"""What Pi3 and Pi3X promise beyond published numbers: no view is preferred, gradients are finite, a scale scales."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from quantlab.engine.subject import subject_of
from quantlab.errors import CheckpointError, NumericError, SceneError
from quantlab.models import layers
from quantlab.models.model import Model
from quantlab.models.networks import build_model
from quantlab.models.pi3_heads import rotation_from_nine
from quantlab.models.reconstruction import Reconstruction
from quantlab.models.structure import describe
from quantlab.models.tokens import KINDS
from quantlab.models.zoo import load_model

CONFIG: dict[str, Any] = {
    "patch_size": 8,
    "encoder": {"img_size": 32, "embed_dim": 32, "depth": 1, "num_heads": 2},
    "decoder": {"embed_dim": 32, "depth": 4, "num_heads": 2},
    "heads": {"embed_dim": 48, "depth": 1, "num_heads": 2, "out_dim": 24, "camera_out_dim": 16},
}
EXTENDED = CONFIG | {
    "dense": {"widths": [32, 16, 16], "last": 8},
    "metric": {"embed_dim": 16, "depth": 2, "num_heads": 2},
}
CONFIGS = {"pi3": CONFIG, "pi3x": EXTENDED}


def make(kind: str) -> Any:
    torch.manual_seed(0)
    built = build_model(kind, CONFIGS[kind])
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith(("gamma", "_token")):
                parameter.normal_()
    return built.eval()


@pytest.fixture(params=["pi3", "pi3x"])
def network(request: pytest.FixtureRequest) -> Any:
    return make(request.param)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(1, 3, 3, 32, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8))


def run(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        outputs: dict[str, Tensor] = network(images)
    return outputs


def test_another_order_of_the_views_gives_the_same_in_that_order(network: nn.Module, images: Tensor) -> None:
    order = [2, 0, 1]
    found, expected = run(network, images[:, order]), run(network, images)
    for name in ("points", "local_points", "conf", "camera_poses"):
        torch.testing.assert_close(found[name], expected[name][:, order], rtol=1e-4, atol=1e-5)


def test_cut_views_are_blind_to_each_other(images: Tensor) -> None:
    network = make("pi3")
    joined = run(network, images)["conf"][:, :1]
    network.cross_frame = False
    alone = run(network, images)["conf"][:, :1]
    torch.testing.assert_close(alone, run(network, images[:, :1])["conf"])
    assert not torch.allclose(joined, alone, rtol=1e-3)


def test_points_are_local_points_moved_by_the_poses(network: nn.Module, images: Tensor) -> None:
    found = run(network, images)
    rotation, place = found["camera_poses"][..., :3, :3], found["camera_poses"][..., :3, 3]
    back = torch.einsum("bnji,bnhwj->bnhwi", rotation, found["points"] - place[:, :, None, None])
    torch.testing.assert_close(back, found["local_points"], rtol=1e-4, atol=1e-4)
    identity = torch.eye(3).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, identity, rtol=0, atol=1e-5)
    assert (torch.linalg.det(rotation) > 0).all()
    assert (found["local_points"][..., 2] > 0).all()


def test_gradients_are_finite_and_reach_every_parameter(network: nn.Module, images: Tensor) -> None:
    outputs = network(images)
    torch.stack([outputs[name].mean() for name in ("points", "conf", "camera_poses")]).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "nine", [torch.eye(3), torch.randn(3, 3, generator=torch.Generator().manual_seed(5))]
)
def test_the_gradient_of_the_rotation_is_that_of_finite_differences_even_at_a_rotation(nine: Tensor) -> None:
    start = nine.double().flatten().requires_grad_()
    assert torch.autograd.gradcheck(rotation_from_nine, (start,))


def test_bfloat16_rotates_in_bfloat16_and_keeps_the_heads_in_float32(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make("pi3")
    expected = run(network, images)
    network.compute_dtype = torch.bfloat16
    dtypes: set[torch.dtype] = set()
    original, rotate = layers.scaled_dot_product_attention, layers.rotate

    def turning(x: Tensor, tables: Any) -> Tensor:
        dtypes.update((x.dtype, tables.cos.dtype))
        return rotate(x, tables)

    monkeypatch.setattr(layers, "rotate", turning)
    heads: set[torch.dtype] = set()
    network.point_head.proj.register_forward_hook(lambda _m, _i, out: heads.add(out.dtype))
    found = run(network, images)
    assert layers.scaled_dot_product_attention is original
    assert (dtypes, heads) == ({torch.bfloat16}, {torch.float32})
    assert found["camera_poses"].dtype == torch.float32
    assert not torch.equal(found["conf"], expected["conf"])
    torch.testing.assert_close(found["local_points"], expected["local_points"], rtol=0.15, atol=0.1)


def test_the_metric_scale_multiplies_points_and_translations(images: Tensor) -> None:
    network = make("pi3x")
    before = run(network, images)
    with torch.no_grad():
        network.metric_head.bias += 0.5
    after = run(network, images)
    factor = float(torch.tensor(0.5).exp())
    torch.testing.assert_close(after["metric"], before["metric"] * factor)
    for name in ("points", "local_points"):
        assert before[name].shape == (1, 3, 32, 24, 3)
        torch.testing.assert_close(after[name], before[name] * factor, rtol=1e-4, atol=1e-5)
    moved, still = after["camera_poses"], before["camera_poses"]
    torch.testing.assert_close(moved[..., :3, 3], still[..., :3, 3] * factor, rtol=1e-4, atol=1e-6)
    assert torch.equal(moved[..., :3, :3], still[..., :3, :3])
    torch.testing.assert_close(after["rays"], before["rays"])
    assert (before["metric"].shape, before["conf"].shape) == ((1,), (1, 3, 32, 24, 1))


def test_the_metric_scale_does_not_depend_on_the_order_of_the_views(images: Tensor) -> None:
    network = make("pi3x")
    torch.testing.assert_close(run(network, images.flip(1))["metric"], run(network, images)["metric"])


@pytest.mark.parametrize(
    "config",
    [
        {"aggregator": {}},
        {"dense": {"last": 8}},
        {"encoder": {"img_size": 30}},
        {"decoder": {"depth": 3}},
        {"decoder": {"embed_dim": 64}},
        {"heads": {"num_heads": 5}},
        {"heads": {"out_dim": 0}},
        {"heads": []},
    ],
)
def test_a_wrong_configuration_names_its_fault(config: dict[str, object]) -> None:
    with pytest.raises(CheckpointError):
        build_model("pi3", config, device="meta")


@pytest.mark.parametrize("shape", [(2, 3, 30, 32), (2, 1, 32, 32), (0, 3, 32, 32), (3, 32, 32)])
def test_an_input_of_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SceneError, match="multiples of 8"):
        make("pi3")(torch.zeros(shape))


def test_every_layer_is_found_and_blocks_alternate_between_one_view_and_all() -> None:
    found = describe(build_model("pi3", device="meta"))
    trunk = [block.stream for block in found.blocks.values() if block.name.startswith("decoder.")]
    assert trunk == ["frame", "global"] * 18
    assert all(layer.stream for layer in found.layers.values())
    outside = {name.rpartition(".")[2] for name, layer in found.layers.items() if not layer.block}
    assert outside == {
        "proj",
        "projects",
        "linear_out",
    }  # the patch convolution and the ends of the head decoders
    branch = found.branches["decoder.7.mlp"]
    assert (branch.norm, branch.gamma, branch.kind) == ("decoder.7.norm2", "decoder.7.ls2", "mlp")
    assert found.branches["point_decoder.blocks.0.attn"].gamma == ""
    assert list(found.blocks).index("decoder.35") < list(found.blocks).index("point_decoder.blocks.0")


def test_tokens_are_registers_and_patches_and_none_is_a_camera(pictures: list[np.ndarray]) -> None:
    model = Model(make("pi3"))
    layout = model.token_layout(model.preprocess(pictures))
    assert (layout.frames, layout.rows, layout.cols) == (3, 4, 4)
    for stream, tokens in (("frame", 21), ("global", 63), ("point_decoder", 21)):
        kinds = [KINDS[code] for code in layout.kinds(stream, tokens)[:21]]
        assert kinds == ["register"] * 5 + ["patch"] * 16
    assert KINDS[layout.kinds("vit", 21)[0]] == "vit_cls"
    assert {KINDS[code] for code in layout.kinds("camera_head", 16)} == {"patch"}


def test_a_prediction_stands_in_the_frame_of_its_first_camera(pictures: list[np.ndarray]) -> None:
    model = Model(make("pi3"), name="tiny")
    tensor = model.preprocess(pictures)
    outputs = model.run(tensor)
    found = model.decode(outputs, tensor)
    assert np.array_equal(found.camera_from_world[0], np.eye(4))
    homogeneous = np.concatenate((found.points, np.ones((3, 32, 32, 1))), axis=-1)
    seen = np.einsum("sij,shwj->shwi", found.camera_from_world, homogeneous)[..., :3]
    np.testing.assert_allclose(seen, outputs["local_points"][0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.depth, outputs["local_points"][0, ..., 2])
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    relative = torch.linalg.inv(outputs["camera_poses"][0, 1]) @ outputs["camera_poses"][0, 0]
    np.testing.assert_allclose(found.camera_from_world[1], relative, atol=1e-5)
    assert found.intrinsics.shape == (3, 3, 3)
    with pytest.raises(SceneError, match="'corners'"):
        model.decode(outputs, tensor, points="corners")  # type: ignore[arg-type]


def test_a_nan_from_the_network_is_named(pictures: list[np.ndarray]) -> None:
    network = make("pi3")
    with torch.no_grad():
        network.camera_head.fc_t.bias.fill_(float("nan"))
    with pytest.raises(NumericError, match="'camera_poses'"):
        Model(network).predict(pictures)


class Upstream(nn.Module):
    """Another build of the same network, as upstream's: no class of ours at the top."""

    def __init__(self, inner: Reconstruction) -> None:
        super().__init__()
        self.encoder, self.decoder, self.register_token = inner.encoder, inner.decoder, inner.register_token
        self.whole = [inner]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = self.whole[0](images)
        return outputs


def test_a_bare_module_with_pi3s_outputs_is_read_like_our_own(pictures: list[np.ndarray]) -> None:
    inner = make("pi3")
    model, bare = Model(inner, name="tiny"), subject_of(Upstream(inner))
    tensor = model.preprocess(pictures)
    with torch.no_grad():
        outputs = bare.run(bare.network, tensor)
    found = bare.decode(outputs, tensor)
    assert found is not None
    assert np.array_equal(found.points, model.predict(pictures).points)
    layout = bare.layout(tensor)
    assert layout is not None
    assert layout == model.token_layout(tensor)
    assert {info.stream for info in bare.structure.blocks.values()} >= {"vit", "frame", "global"}


def save(kind: str, path: Path, *, more: dict[str, Tensor], metadata: dict[str, str]) -> None:
    save_file({**make(kind).state_dict(), **more}, path, metadata=metadata)


def test_checkpoints_are_known_by_their_names_and_conditioning_is_left_out(
    network: Reconstruction, tmp_path: Path, pictures: list[np.ndarray]
) -> None:
    kind, path = network.kind, tmp_path / "tiny.safetensors"
    conditioning = {"depth_emb": torch.zeros(1), "pose_inject_blk.0.norm1.weight": torch.zeros(3)}
    metadata = {"config": json.dumps(CONFIGS[kind])}
    save(kind, path, more=conditioning if kind == "pi3x" else {}, metadata=metadata)
    loaded = load_model(path)
    assert loaded.family == kind
    assert loaded.config["encoder"]["patch_size"] == 8
    assert np.array_equal(loaded.predict(pictures).points, Model(network).predict(pictures).points)
    assert load_model(path, dtype="bfloat16").dtype == "bfloat16"


@pytest.mark.parametrize(("kind", "name"), [("pi3", "depth_emb"), ("pi3x", "depth_head.weight")])
def test_other_unknown_names_are_an_error(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save(kind, path, more={name: torch.zeros(1)}, metadata={"config": json.dumps(CONFIGS[kind])})
    with pytest.raises(CheckpointError, match=name):
        load_model(path)
