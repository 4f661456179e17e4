"""The kernel "int4_mm" by the real product of this CPU, and by its layout for GPUs, which no test here multiplies."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quantlab.engine.build import build_layer
from quantlab.engine.settings import LayerSettings
from quantlab.kernels import choose
from quantlab.kernels.check import Oracle, check
from quantlab.kernels.int4_mm import MIDDLE, Int4Linear, first_half_first, offset_codes
from quantlab.kernels.table import KERNELS

KERNEL = KERNELS["int4_mm"]
CPU = torch.device("cpu")
LAYERS = {
    "symmetric": {},
    "asymmetric": {"weight_symmetric": False},
    "groups of 32": {"group_size": 32},
    "groups of 256": {"group_size": 256, "weight_symmetric": False},
    "whole rows": {"group_size": 0},
    "rotated": {"rotation": "hadamard"},
    "low rank": {"low_rank": 3, "weight_symmetric": False},
}


def layer(name="symmetric", inputs=256, outputs=48, *, bias=True, **more):
    torch.manual_seed(len(name))
    settings = {"weights": 4, "activations": 16, "weight_granularity": "group", "group_size": 64}
    chosen = LayerSettings(**{**settings, **LAYERS[name], **more})
    return build_layer(name, nn.Linear(inputs, outputs, bias=bias), chosen, seed=3, data=None).eval()


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("bias", [True, False])
def test_it_computes_what_the_simulated_layer_does_within_bfloat16(name, bias):
    made = layer(name, bias=bias)
    assert KERNEL.refuses(made) == ""
    assert check("int4_mm", KERNEL, Oracle(made), torch.bfloat16).wrong == ""


def test_a_network_that_computes_in_float32_never_gets_it():
    assert "float32" in check("int4_mm", KERNEL, Oracle(layer())).wrong


@given(rows=st.integers(1, 40), groups=st.integers(1, 4), symmetric=st.booleans(), seed=st.integers(0, 9))
def test_its_error_is_that_of_rounding_inputs_and_weights_and_output_to_bfloat16(
    rows, groups, symmetric, seed
):
    """Each is off by 1/512 at most, as is a scale; an offset, of up to 8 steps, counts as a weight."""
    made = layer("symmetric" if symmetric else "asymmetric", 64 * groups, 16)
    x = torch.randn(rows, 64 * groups, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected, found = made(x), KERNEL.prepare(copy.deepcopy(made))(x)
        steps = (MIDDLE * made.scale).repeat_interleave(64, dim=1)
        sizes = x.abs() @ (made.weight.abs() + steps).T + made.bias.abs()
    assert ((found - expected).abs() <= 4 * 2.0**-9 * sizes).all()


def test_a_step_and_an_offset_give_the_weights_back():
    for name in ("symmetric", "asymmetric"):
        made = layer(name)
        weight, module = made.weight, KERNEL.prepare(made)
        steps = module.group_steps().float()
        codes = offset_codes(module.packed, made.spec)
        apart = torch.stack([codes & 0x0F, codes >> 4], dim=-1).flatten(1).unflatten(1, (4, 64))
        values = (apart.float() - MIDDLE) * steps[..., 0].T[..., None] + steps[..., 1].T[..., None]
        bound = 2 * MIDDLE * made.scale.repeat_interleave(64, dim=1) * 2.0**-9
        assert ((values.flatten(1) - weight).abs() <= bound).all()


@given(st.integers(0, 255))
def test_the_layout_for_gpus_has_the_first_of_two_codes_in_the_upper_half(value):
    byte = torch.tensor([[value]], dtype=torch.uint8)
    swapped = first_half_first(byte)
    assert int(swapped >> 4) == value & 0x0F
    assert torch.equal(first_half_first(swapped), byte)


@pytest.mark.parametrize(("columns", "side_by_side"), [(32, 2), (192, 4), (256, 8), (1024, 8)])
def test_torch_takes_the_layout_for_gpus_by_its_rules_for_shapes_and_no_code_is_lost(columns, side_by_side):
    """Tensors without memory stand for those of a GPU; a move makes the layer forget what it made there."""
    module, x = KERNEL.prepare(layer("groups of 32", columns)), torch.randn(5, columns)
    expected = module(x)
    module._device = torch.device("meta")
    weight, steps = module.make()
    assert weight.shape == (48 // 8, columns // (16 * side_by_side), 32, side_by_side // 2)
    assert steps.shape == (columns // 32, 48, 2)
    assert {tensor.device.type for tensor in module.buffers()} == {"cpu"}
    assert torch.equal(module.to(CPU)(x), expected)


@pytest.mark.parametrize("name", ["symmetric", "asymmetric"])
def test_what_it_refuses_it_says(name):
    assert "round inputs" in KERNEL.refuses(layer(name, activations=8))
    assert "4 bits" in KERNEL.refuses(layer(name, weights=3))
    assert "4 bits" in KERNEL.refuses(layer(name, weight_granularity="channel", group_size=0))
    assert "32, 64, 128, 256" in KERNEL.refuses(layer(name, group_size=16))
    assert "multiples of 16" in KERNEL.refuses(layer(name, outputs=24))
    assert "float64" in KERNEL.refuses(layer(name).double())
    assert "not rounded" in KERNEL.refuses(
        layer(name, weights=16, weight_granularity="channel", group_size=0)
    )
    assert KERNEL.absent(torch.device("meta"))


def test_what_is_not_finite_stays_so():
    x = torch.randn(3, 256)
    x[1, 7] = torch.nan
    found = KERNEL.prepare(layer())(x)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


def test_what_is_moved_or_copied_or_cast_answers_the_same():
    module, x = KERNEL.prepare(layer("asymmetric")), torch.randn(5, 256)
    before = module(x)
    assert torch.equal(copy.deepcopy(module)(x), before)
    assert torch.equal(module.to(torch.bfloat16)(x), before)
    assert isinstance(module, Int4Linear)


def test_auto_measures_it_where_a_network_computes_in_bfloat16():
    choice = choose.choose(layer(), compute=torch.bfloat16)
    assert choice.kernel == "int4_mm" or "int4_mm" in choice.skipped
    named = choose.choose(layer(), kernel="int4_mm", compute=torch.bfloat16)
    assert named.kernel == "int4_mm"


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(LAYERS))
def test_on_a_gpu_it_is_right_too_and_the_weight_lies_there_once(name):
    device = torch.device("cuda")
    made = layer(name).to(device)
    if KERNEL.absent(device):
        pytest.skip(KERNEL.absent(device))
    found = check("int4_mm", KERNEL, Oracle(made), torch.bfloat16)
    assert found.wrong == ""
    assert found.module.packed.device.type == found.module.scale.device.type == "cpu"
    assert check("int4_mm", KERNEL, Oracle(made), torch.bfloat16).wrong == ""
