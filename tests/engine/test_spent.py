"""Where a pass goes: every moment belongs to one kind of work, and to the innermost module that does it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import quantlab as ql
from quantlab.engine.spent import KINDS, kind_of, layer_seconds
from quantlab.engine.subject import subject_of
from quantlab.models.layers import Attention
from quantlab.models.structure import describe

WIDTH = 64


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = Attention(WIDTH, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.attn(self.norm1(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.depth_head = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Upsample(scale_factor=2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.depth_head(x[:, None])


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def test_kinds_are_all_of_a_pass_and_each_has_its_part(net):
    timed = layer_seconds(subject_of(net), net, torch.randn(2, 32, WIDTH), passes=3)
    assert set(timed.kinds) == set(KINDS)
    assert sum(timed.kinds.values()) == pytest.approx(timed.whole)
    for kind in ("linears", "attention", "norms", "convolutions", "heads", "rest"):
        assert timed.kinds[kind] > 0, kind
    assert timed.kinds["rounding"] == 0, "nothing is rounded in full precision"
    assert not any(module._forward_hooks for module in net.modules()), "no hook stays"


def test_work_belongs_to_the_innermost_module_that_does_it(net):
    structure = describe(net)
    kinds = {name: kind_of(name, module, structure) for name, module in net.named_modules()}
    assert kinds["blocks.0.attn"] == "attention"
    assert kinds["blocks.0.attn.qkv"] == "linears"
    assert kinds["blocks.0.norm1"] == "norms"
    assert kinds["depth_head.0"] == "convolutions"
    assert kinds["depth_head"] == "heads"
    assert kinds["depth_head.1"] == "", "resizing is the head's"


@pytest.mark.parametrize("name", ["vggt", "pi3", "pi3x"])
def test_every_attention_of_our_networks_is_told_apart(name):
    network = ql.build_model(name, device="meta")
    structure = describe(network)
    named = [one for one in network.named_modules() if "Attention" in type(one[1]).__name__]
    assert named
    assert {kind_of(place, module, structure) for place, module in named} == {"attention"}


def test_what_rounds_an_input_is_told_apart_from_the_product(net):
    scene = torch.randn(2, 32, WIDTH)
    recipe = ql.Recipe(
        "plain", scope="all", defaults={"weights": 8, "activations": 8, "rotation": "hadamard"}
    )
    measured = ql.Lab(net, calibration=[scene], evaluation=[scene], recipe=recipe).measure()
    assert measured.kinds["rounding"] > 0
    assert measured.full_kinds["rounding"] == 0
    assert sum(measured.kinds.values()) == pytest.approx(measured.timed_seconds)
