"""Quantized layers that hold packed codes instead of their weight: nothing they compute may change."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from quantlab.engine.build import build_layer
from quantlab.engine.settings import LayerSettings

LAYERS = {
    "linear": (nn.Linear(32, 7), (5, 32)),
    "conv": (nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2), (2, 6, 8, 8)),
    "odd": (nn.Conv2d(3, 5, 3), (2, 3, 8, 8)),
    "transposed": (
        nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1, output_padding=1, groups=2),
        (2, 6, 8, 8),
    ),
}


def built(layer: nn.Module, dtype: torch.dtype, **settings):
    return build_layer("layer", copy.deepcopy(layer).to(dtype), LayerSettings(**settings), seed=0, data=None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("kind", list(LAYERS))
def test_a_packed_layer_computes_what_it_computed_before_bit_for_bit(kind, bits, symmetric, dtype):
    torch.manual_seed(0)
    layer, shape = LAYERS[kind]
    plain = built(layer, dtype, weights=bits, weight_symmetric=symmetric)
    packed = copy.deepcopy(plain)
    if not packed.keep_packed():
        assert (bits, symmetric, dtype) == (8, False, torch.bfloat16)
        return
    x = torch.randn(shape, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(packed(x), plain(x))
    assert torch.equal(packed.weight, plain.weight)
    assert packed.weight.dtype == dtype
    assert torch.equal(packed.codes(), plain.codes())
    assert torch.equal(copy.deepcopy(packed).weight, plain.weight)


def test_groups_and_tensors_share_scales_when_packed_too():
    for granularity in ("group", "tensor"):
        plain = built(
            nn.Linear(32, 7), torch.float32, weights=4, weight_granularity=granularity, group_size=8
        )
        packed = copy.deepcopy(plain)
        assert packed.keep_packed()
        assert torch.equal(packed.weight, plain.weight)


def test_packing_takes_an_eighth_of_the_memory_at_four_bits_and_no_second_turn():
    layer = built(nn.Linear(64, 32), torch.float32, weights=4)
    before = layer.stored_bytes
    assert not layer.is_packed
    assert layer.keep_packed()
    assert layer.keep_packed()
    assert layer.is_packed
    assert layer.stored_bytes * 8 == before
    assert "weight" not in layer.state_dict()


def test_a_weight_that_is_not_rounded_stays_as_it_is():
    layer = built(nn.Linear(16, 4), torch.float32, weights=16, activations=8)
    weight = layer.weight
    assert not layer.keep_packed()
    assert layer.weight is weight
