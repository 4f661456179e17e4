"""Whole networks written packed and read back: what they compute is what the simulation computes, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import quantlab as ql
from quantlab.engine.presets import PRESETS
from quantlab.engine.recipe import Recipe
from quantlab.engine.settings import ROTATIONS, SMOOTHING_RULES
from quantlab.errors import RecipeError
from quantlab.kernels.compensated import CompensatedOutput
from quantlab.kernels.kv import RoundedKeys, RoundedProjection
from quantlab.kernels.reference import Simulated
from quantlab.models.updateformer import CrossAttention
from quantlab.numerics.ranges import round_to_nearest
from quantlab.packed import rest
from quantlab.packed.read import read_packed
from quantlab.packed.write import Source, write_packed

VARIANTS = [
    *({"rotation": rotation} for rotation in ROTATIONS if rotation != "kronecker"),
    *(
        {"smoothing": 0.5, "smoothing_rule": rule, "rotation": "hadamard", "smoothing_order": "before"}
        for rule in SMOOTHING_RULES
    ),
    {"weight_symmetric": False, "activation_symmetric": False, "weights": 8},
    {"weight_granularity": "group", "group_size": 8, "weight_symmetric": False},
    {"weight_granularity": "tensor", "weights": 3},
    {"activation_mode": "static", "activation_granularity": "tensor", "activation_symmetric": False},
    {"activation_mode": "static", "activation_granularity": "tensor", "twin": True},
    {"low_rank": 3, "rounding": "gptq", "column_order": "activation"},
    {"weights": 16},
    {"weights": 2, "activations": 16},
    {"compensation": "on", "kv_bits": 4, "kv_rotation": "hadamard", "kv_protect": True},
]


def same(left: nn.Module, right: nn.Module, given) -> bool:
    with torch.no_grad():
        one, other = left(given), right(given)
    outputs = one if isinstance(one, dict) else {"out": one}
    others = other if isinstance(other, dict) else {"out": other}
    return outputs.keys() == others.keys() and all(torch.equal(outputs[key], others[key]) for key in outputs)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_comes_back_bit_for_bit(name, bench, pack, reread):
    bench.quantizer.apply(Recipe.preset(name, scope="all"))
    assert same(reread(pack()), bench.quantizer.network, bench.inputs[0])


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_every_setting_comes_back_bit_for_bit(settings, bench, pack, reread):
    recipe = Recipe.preset("rtn", weights=4, activations=8, scope="all").set("*", **settings)
    bench.quantizer.apply(recipe)
    assert same(reread(pack()), bench.quantizer.network, bench.inputs[0])


def test_what_stands_around_modules_stands_there_again_and_shared_layers_stay_one(bench, pack, reread):
    recipe = Recipe.preset("rtn", scope="all").set(
        "*", compensation="on", kv_bits=4, kv_protect=True, kv_rotation="hadamard"
    )
    bench.quantizer.apply(recipe)
    back = reread(pack())
    for kind in (CompensatedOutput, RoundedKeys, RoundedProjection, Simulated):
        found = [sum(isinstance(m, kind) for m in net.modules()) for net in (back, bench.quantizer.network)]
        assert found[0] == found[1] > 0
    assert back.last is back.first


@pytest.mark.parametrize("kind", ["vggt", "pi3"])
def test_networks_of_both_families_are_built_again_from_what_the_folder_says(kind, tmp_path, model):
    torch.manual_seed(0)
    network = model.network
    if kind == "pi3":
        network = ql.build_model(
            "pi3",
            {
                "patch_size": 8,
                "encoder": {"img_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 2},
                "decoder": {"embed_dim": 24, "depth": 2, "num_heads": 2},
                "heads": {"embed_dim": 24, "depth": 1, "num_heads": 2, "out_dim": 24, "camera_out_dim": 16},
            },
        ).eval()
    images = torch.rand(1, 2, 3, 16, 16)
    quantized = ql.quantize(network, Recipe.preset("quarot", weights=4, activations=8, scope="all"))
    config = network.sizes.to_dict()
    written = write_packed(quantized, tmp_path / "out", Source(kind, config, ABOUT), rest="float32")
    assert written.kept == 0
    assert same(read_packed(tmp_path / "out").network, quantized, images)


ABOUT = {"model": {"name": "tiny"}, "recipe": {}}


def test_no_weight_of_a_quantized_layer_is_held_after_reading(bench, pack, reread):
    bench.quantizer.apply(Recipe.preset("quarot", scope="all"))
    layers = [module for module in reread(pack()).modules() if isinstance(module, Simulated)]
    assert layers
    assert all(layer.is_packed and "weight" not in dict(layer.named_buffers()) for layer in layers)


def test_a_rotation_is_stored_as_a_seed(bench, pack):
    sizes = {}
    for name in ("rtn", "quarot"):
        bench.quantizer.apply(Recipe.preset(name, scope="all"))
        sizes[name] = (pack(name) / "model.safetensors").stat().st_size
    assert sizes["quarot"] == sizes["rtn"]


def test_kept_matrices_are_stored_as_narrow_as_asked_and_vectors_exactly(bench, pack, reread):
    bench.quantizer.apply(Recipe.preset("full_precision"))
    back, full = reread(pack(rest="bfloat16")), bench.network
    stored = back.blocks[0].mlp[0].parametrizations.weight.original
    assert stored.dtype == torch.bfloat16
    assert torch.equal(back.blocks[0].mlp[0].weight, full.blocks[0].mlp[0].weight.bfloat16().float())
    assert torch.equal(back.blocks[0].norm1.weight, full.blocks[0].norm1.weight)
    assert torch.equal(back.pos_embed, full.pos_embed)  # small: exact


def test_a_matrix_that_sixteen_bits_hold_exactly_takes_sixteen_whatever_is_asked():
    exact = torch.arange(8.0).reshape(2, 4)
    assert rest.narrow(exact, "float32").dtype == torch.bfloat16
    assert rest.narrow(exact + 2**-8, "float32").dtype == torch.float16
    assert rest.narrow(exact + 2**-20, "float32").dtype == torch.float32
    assert rest.narrow(exact + 2**-20, "bfloat16").dtype == torch.bfloat16
    with pytest.raises(RecipeError):
        rest.narrow(exact, "float8")


def test_parameters_outside_layers_are_rounded_where_the_whole_network_is(monkeypatch, bench, pack, reread):
    monkeypatch.setattr(rest, "LARGE", 64)
    bench.quantizer.apply(Recipe.preset("rtn", scope="all"))
    back = reread(pack(bits=4))
    exact = bench.network.pos_embed.detach()
    spec = rest.rounding_of("pos_embed", bench.network, exact, 4)
    assert spec.bits == 8  # added, not multiplied
    assert torch.equal(back.pos_embed, round_to_nearest(exact[0], spec)[None])
    assert back.parametrizations.pos_embed.original.dtype == torch.int8


def test_the_trackers_projections_run_from_packed_codes(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(CrossAttention(256)).eval()
    x = torch.randn(1, 5, 256)
    write_packed(network, tmp_path / "out", Source(None, {}, ABOUT, bits=4))
    attention = read_packed(tmp_path / "out", network=network).network[0]
    assert attention.parametrizations.in_proj_weight.original.nbytes == 3 * 256 * 256 // 2
    exact = network[0].in_proj_weight.detach()
    step = exact.unflatten(-1, (2, 128)).abs().amax(-1).repeat_interleave(128, dim=-1) / 7
    assert bool(((attention.in_proj_weight - exact).abs() <= step * 0.5001).all())
    assert attention(x, x).isfinite().all()
