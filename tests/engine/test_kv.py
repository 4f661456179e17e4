"""Rounded keys and values of whole networks: what a recipe reaches, undo, and what else stands around them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantlab.engine.calibrate import Calibration
from quantlab.engine.plan import plan
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.errors import CheckpointError
from quantlab.kernels.compensated import CompensatedOutput
from quantlab.kernels.kv import RoundedHeads, RoundedKeys, RoundedProjection
from quantlab.models.networks import build_model
from quantlab.models.structure import describe
from quantlab.models.tokens import PATCH, TokenLayout

TRUNK = ("camera", "register", "register")
FAMILIES = {
    "vggt": (
        {
            "aggregator": {
                "img_size": 28,
                "embed_dim": 32,
                "depth": 4,
                "num_heads": 4,
                "num_register_tokens": 2,
            },
            "vit": {"embed_dim": 32, "depth": 1, "num_heads": 2},
            "camera_head": {"trunk_depth": 1, "num_heads": 2},
        },
        "aggregator.global_blocks.1.attn",
        TokenLayout(3, 2, 2, {"": TRUNK}),
    ),
    "pi3": (
        {
            "encoder": {"img_size": 28, "embed_dim": 32, "depth": 1, "num_heads": 2},
            "decoder": {"embed_dim": 32, "depth": 4, "num_heads": 4, "num_register_tokens": 2},
            "heads": {"embed_dim": 32, "depth": 1, "num_heads": 4, "out_dim": 16, "camera_out_dim": 8},
        },
        "decoder.1.attn",
        TokenLayout(3, 2, 2, {"": TRUNK[1:]}),
    ),
}
EXACT = Recipe.preset("full_precision")


@pytest.fixture(params=list(FAMILIES))
def case(request):
    config, branch, layout = FAMILIES[request.param]
    torch.manual_seed(0)
    network = build_model(request.param, config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(1.0)
    inputs = [torch.rand(1, 3, 3, 28, 28) for _ in range(2)]
    return Quantizer(network, describe(network), Calibration(inputs)), branch, inputs, layout


def run(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([value.flatten() for value in network(images).values()])


def stand_ins(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, RoundedHeads)]


def test_sixteen_bits_is_the_network_bit_for_bit_whatever_else_is_set(case):
    quantizer, branch, inputs, _ = case
    quantizer.apply(EXACT.set(branch, kv_rotation="hadamard", kv_protect=True))
    assert stand_ins(quantizer.network) == []
    assert torch.equal(run(quantizer.network, inputs[0]), run(quantizer.reference, inputs[0]))


def test_the_change_falls_as_bits_rise_and_is_undone_exactly(case):
    quantizer, branch, inputs, _ = case
    exact, former = run(quantizer.reference, inputs[0]), quantizer.states()
    errors = []
    for bits in (2, 4, 6, 8):
        changed = quantizer.apply(EXACT.set(branch, kv_bits=bits))
        assert changed == {branch.removesuffix(".attn")}
        assert quantizer.state(branch) is not None
        errors.append(float((run(quantizer.network, inputs[0]) - exact).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 10
    quantizer.apply(EXACT)
    assert quantizer.states() == former
    assert quantizer.state(branch) is None
    assert torch.equal(run(quantizer.network, inputs[0]), exact)
    assert not quantizer.network.get_submodule(branch)._forward_pre_hooks


def test_the_tokens_that_stay_exact_are_the_special_ones_of_the_layout(case):
    quantizer, branch, inputs, layout = case
    quantizer.apply(EXACT.set(branch, kv_bits=2, kv_rotation="hadamard", kv_protect=True))
    keys = quantizer.network.get_submodule(f"{branch}.k_norm")
    assert isinstance(keys, RoundedKeys)
    seen: list[tuple[Tensor, Tensor]] = []
    keys.register_forward_hook(lambda module, args, out: seen.append((module.inner(args[0]), out)))
    run(quantizer.network, inputs[0])
    exact, rounded = seen[0]
    same = (exact == rounded).all(dim=-1)[0, 0]
    assert np.array_equal(same.numpy(), layout.kinds("", len(same)) != PATCH)


def test_it_stands_around_quantized_layers_and_within_a_compensated_branch(case):
    quantizer, branch, inputs, _ = case
    recipe = Recipe(defaults={"weights": 3, "activations": 8}).set(
        branch, kv_bits=3, compensation=True, rank=4
    )
    quantizer.apply(recipe)
    wrapped = quantizer.network.get_submodule(f"{branch}.qkv")
    assert isinstance(wrapped, RoundedProjection)
    assert wrapped.inner is quantizer.layer(f"{branch}.qkv")
    assert any(isinstance(module, CompensatedOutput) for module in quantizer.network.modules())
    first = run(quantizer.network, inputs[0])
    states = quantizer.states()
    quantizer.apply(recipe.set(branch, kv_bits=16))
    assert not torch.equal(run(quantizer.network, inputs[0]), first)
    quantizer.apply(recipe)
    assert quantizer.states() == states
    assert torch.equal(run(quantizer.network, inputs[0]), first)


def test_a_copy_of_the_quantized_network_computes_the_same(case):
    quantizer, branch, inputs, _ = case
    quantizer.apply(EXACT.set(branch, kv_bits=2, kv_protect=True))
    copied = copy.deepcopy(quantizer.network)
    assert torch.equal(run(copied, inputs[1]), run(quantizer.network, inputs[1]))
    with pytest.raises(CheckpointError, match="quantized already"):
        Quantizer(copied, describe(quantizer.reference))


def test_a_preset_reaches_attention_over_all_frames_and_a_rule_whatever_it_names():
    config, _, _ = FAMILIES["vggt"]
    structure = describe(build_model("vggt", config, device="meta"))
    preset = Recipe.preset("rotatekv", weights=4, activations=3)
    reached = {name for name, branch in plan(structure, preset).branches.items() if branch.rounds_kv}
    assert reached == {f"aggregator.global_blocks.{index}.attn" for index in range(4)}
    everywhere = plan(structure, EXACT.set("*", kv_bits=3))
    assert {name for name, branch in everywhere.branches.items() if branch.rounds_kv} == reached
    more = plan(structure, preset.set("*.frame_blocks.2", kv_bits=2)).branches
    assert more["aggregator.frame_blocks.2.attn"].kv_bits == 2
    assert more["aggregator.frame_blocks.1.attn"].kv_bits == 16
    assert plan(structure, preset).bytes == plan(structure, EXACT).bytes


class Separate(nn.Module):
    """An attention with three projections and no norm of its keys."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 2
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (2, 4)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))


class Other(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.norm, self.self_attn = nn.LayerNorm(8), attention

    def forward(self, x: Tensor) -> Tensor:
        return x + self.self_attn(self.norm(x))


def test_an_attention_of_another_build_is_rounded_at_its_own_projections():
    network = nn.Sequential(nn.ModuleList([Other(Separate())]))[0][0]
    holder = nn.Module()
    holder.blocks = nn.ModuleList([network])
    quantizer = Quantizer(holder, describe(holder))
    quantizer.apply(Recipe(defaults={"kv_bits": 2}))
    assert stand_ins(quantizer.network) == ["blocks.0.self_attn.k_proj", "blocks.0.self_attn.v_proj"]
    x = torch.randn(1, 5, 8)
    assert not torch.equal(quantizer.network.blocks[0](x), holder.blocks[0](x))


def test_a_network_without_such_an_attention_is_told_so():
    network = nn.Sequential(nn.Linear(4, 4))
    assert any(
        "keys and values" in text for text in plan(describe(network), EXACT.set("*", kv_bits=4)).warnings
    )
