"""What VGGT promises beyond its numbers: it trains, frames can be cut apart, chunks change nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from quantlab.errors import CheckpointError, SceneError
from quantlab.models import layers
from quantlab.models.vggt import VGGT
from quantlab.models.zoo import build_model

CONFIG = {
    "aggregator": {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "vit": {"embed_dim": 32, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 16, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]},
}


@pytest.fixture
def network() -> VGGT:
    torch.manual_seed(0)
    built = build_model("vggt", CONFIG)
    assert isinstance(built, VGGT)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith(("gamma", "_token")):
                parameter.normal_()
    return built.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(1, 3, 3, 32, 24, generator=torch.Generator().manual_seed(1))


def run(network: VGGT, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        outputs: dict[str, Tensor] = network(images)
    return outputs


def test_gradients_reach_every_parameter_even_after_inference_mode(network: VGGT, images: Tensor) -> None:
    with torch.inference_mode():
        network(images)
    outputs = network(images)
    sum(outputs[name].mean() for name in ("pose_enc", "depth", "depth_conf", "world_points")).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None]
    assert silent == ["aggregator.patch_embed.mask_token"]


def test_cut_frames_leave_the_aggregator_blind_to_each_other(network: VGGT, images: Tensor) -> None:
    changed = images.clone()
    changed[:, 2] = 1 - changed[:, 2]
    joined = run(network, images)["depth"][:, :2], run(network, changed)["depth"][:, :2]
    network.aggregator.cross_frame = False
    alone = run(network, images)["depth"][:, :2], run(network, changed)["depth"][:, :2]
    assert not torch.allclose(*joined, rtol=1e-4)
    torch.testing.assert_close(*alone)


def test_one_frame_gives_the_same_with_and_without_cross_frame_attention(
    network: VGGT, images: Tensor
) -> None:
    expected = run(network, images[:, :1])["depth"]
    network.aggregator.cross_frame = False
    torch.testing.assert_close(run(network, images[:, :1])["depth"], expected)


def test_the_chunk_size_of_the_dense_heads_changes_nothing(
    network: VGGT, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(network, images)
    assert network.depth_head is not None
    network.depth_head.frames_per_chunk = 2
    torch.testing.assert_close(run(network, images)["depth"], expected["depth"])
    chunks: list[int] = []
    network.depth_head.norm.register_forward_hook(lambda _m, args, _out: chunks.append(len(args[0])))
    monkeypatch.setattr("quantlab.models.dpt.PIXELS_PER_CHUNK", images[0, 0, 0].numel())
    torch.testing.assert_close(run(network, images)["depth"], expected["depth"])
    assert set(chunks) == {1}  # large pictures, one at a time


def test_bfloat16_keeps_residual_stream_and_heads_in_float32_and_stays_near(
    network: VGGT, images: Tensor
) -> None:
    expected = run(network, images)
    network.compute_dtype = torch.bfloat16
    seen: dict[str, torch.dtype] = {}
    watched = {
        "linear": network.aggregator.frame_blocks[0].attn.qkv,
        "norm": network.aggregator.frame_blocks[0].norm1,
        "residual": network.aggregator.global_blocks[1],
        "head": network.depth_head.projects[0],  # type: ignore[union-attr]
    }
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, key=key: seen.update({key: out.dtype}))
        for key, module in watched.items()
    ]
    found = run(network, images)
    for hook in hooks:
        hook.remove()
    assert seen == {
        "linear": torch.bfloat16,
        "norm": torch.float32,
        "residual": torch.float32,
        "head": torch.float32,
    }
    assert not torch.equal(found["depth"], expected["depth"])
    torch.testing.assert_close(found["depth"], expected["depth"], rtol=0.1, atol=0.05)


def test_another_attention_can_be_put_in(
    network: VGGT, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(network, images)["depth"]

    def by_hand(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        return weights @ value

    monkeypatch.setattr(layers, "scaled_dot_product_attention", by_hand)
    torch.testing.assert_close(run(network, images)["depth"], expected, rtol=1e-4, atol=1e-5)


def test_absent_sections_mean_absent_heads(images: Tensor) -> None:
    bare = build_model("vggt", {key: CONFIG[key] for key in ("aggregator", "vit")})
    assert set(bare(images)) == {"images"}


@pytest.mark.parametrize(
    "config",
    [
        {"aggregator": {"image_size": 32}},
        {"agregator": {}},
        {"aggregator": {"img_size": 30}},
        {"aggregator": {"depth": True}},
        {"dpt": {"out_channels": [1, 2]}},
        {"aggregator": []},
        {"vit": {"embed_dim": 64}},
        {"camera_head": {"num_heads": 0}},
        {"camera_head": {"num_heads": 3}},
        {"camera_head": {"trunk_depth": 257}},
        [],
    ],
)
def test_a_wrong_configuration_names_its_fault(config: Any) -> None:
    with pytest.raises(CheckpointError):
        build_model("vggt", config, device="meta")


def test_an_unknown_network_names_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match="vggt"):
        build_model("vgtt")


@pytest.mark.parametrize("shape", [(2, 3, 30, 32), (2, 1, 32, 32), (0, 3, 32, 32), (3, 32, 32)])
def test_an_input_of_a_wrong_shape_is_refused(network: VGGT, shape: tuple[int, ...]) -> None:
    with pytest.raises(SceneError, match="multiples of 8"):
        network(torch.zeros(shape))
