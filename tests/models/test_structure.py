"""What describe finds in networks it has never heard of, and in VGGT."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quantlab.models.networks import build_model
from quantlab.models.structure import KINDS, TokenLayout, describe, observed_order
from quantlab.models.tokens import VIT_SPECIALS

KEYS = Path(__file__).parent.parent / "golden" / "vggt_1b_keys.txt.gz"


class Residual(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.self_attn = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.norm_mlp = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.self_attn(y, y, y)[0]
        out: Tensor = x + self.ffn(self.norm_mlp(x))
        return out


class SmallViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.ModuleList(Residual(8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(x.mean(1))
        return out


def test_a_plain_mlp_has_layers_and_no_blocks() -> None:
    found = describe(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    assert list(found.layers) == ["0", "2"]
    assert (found.layers["0"].in_features, found.layers["0"].parameters) == (4, 40)
    assert not found.blocks
    assert not found.branches


def test_a_bare_layer_is_a_network_too() -> None:
    assert list(describe(nn.Linear(2, 2)).layers) == [""]


def test_a_small_vit_has_blocks_and_branches() -> None:
    found = describe(SmallViT())
    assert list(found.blocks) == ["blocks.0", "blocks.1"]
    branch = found.branches["blocks.1.ffn"]
    assert (branch.kind, branch.norm, branch.gamma) == ("mlp", "blocks.1.norm_mlp", "")
    assert branch.layers == ("blocks.1.ffn.0", "blocks.1.ffn.2")
    assert [found.layers[name].kind for name in branch.layers] == ["fc1", "fc2"]
    assert found.layers["patches"].in_features == 48
    assert found.layers["patches"].block == ""


def test_entries_of_a_plain_list_are_blocks_because_nothing_calls_the_list() -> None:
    class Lists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2))
            self.named = nn.ModuleDict({"left": nn.Sequential(nn.Linear(4, 4)), "right": nn.Linear(4, 4)})

    found = describe(Lists())
    assert list(found.blocks) == ["steps.0", "steps.1", "named.left"]
    assert [block.index for block in found.blocks.values()] == [0, 1, -1]
    assert found.layers["steps.1.0"].block == "steps.1"
    assert found.layers["named.right"].block == ""


def test_the_inside_of_torch_attention_is_not_offered() -> None:
    assert not [name for name in describe(SmallViT()).layers if "out_proj" in name]


def test_the_observed_order_puts_the_head_last() -> None:
    network = SmallViT()
    order = observed_order(network, lambda: network(torch.zeros(1, 3, 8, 8)))
    layers = list(describe(network, order=order).layers)
    assert layers[0] == "patches"
    assert layers[-1] == "head"
    assert not network.head._forward_pre_hooks


@pytest.fixture(scope="module")
def released() -> nn.Module:
    return build_model("vggt", device="meta")


def test_names_and_shapes_at_released_size_equal_the_published_checkpoint_both_ways(
    released: nn.Module,
) -> None:
    published = dict(line.split() for line in gzip.decompress(KEYS.read_bytes()).decode().splitlines())
    built = {name: "x".join(map(str, tensor.shape)) for name, tensor in released.state_dict().items()}
    assert built == published


def test_every_layer_of_vggt_but_the_patch_convolution_sits_in_exactly_one_block(released: nn.Module) -> None:
    found = describe(released)
    counted = Counter(layer for block in found.blocks.values() for layer in block.layers)
    assert set(counted.values()) == {1}
    assert set(found.layers) - set(counted) == {"aggregator.patch_embed.patch_embed.proj"}
    assert all(layer.stream for layer in found.layers.values())


def test_frame_and_global_blocks_of_vggt_alternate_and_have_two_branches_each(released: nn.Module) -> None:
    found = describe(released)
    trunk = [name for name, block in found.blocks.items() if block.stream in ("frame", "global")]
    assert trunk[:3] == [
        "aggregator.frame_blocks.0",
        "aggregator.global_blocks.0",
        "aggregator.frame_blocks.1",
    ]
    branch = found.branches["aggregator.global_blocks.5.mlp"]
    assert (branch.norm, branch.gamma) == (
        "aggregator.global_blocks.5.norm2",
        "aggregator.global_blocks.5.ls2",
    )
    assert [found.layers[name].kind for name in branch.layers] == ["fc1", "fc2"]


def test_token_kinds_follow_the_layout_frame_by_frame() -> None:
    specials = {"global": ("camera", "register"), "vit": VIT_SPECIALS}
    layout = TokenLayout(2, 1, 2, specials, uniform={"camera_head": "camera"})
    found = [KINDS[code] for code in layout.kinds("global", 8)]
    assert found == ["camera", "register", "patch", "patch"] * 2
    assert KINDS[layout.kinds("vit", 7)[0]] == "vit_cls"
    assert set(layout.kinds("global", 5)) == {KINDS.index("patch")}
    assert set(layout.kinds("camera_head", 2)) == {KINDS.index("camera")}
