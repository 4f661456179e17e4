"""Simulated layers against torch's own on the same rounded weight, and their integer codes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantlab.engine.build import build_layer
from quantlab.engine.settings import LayerSettings
from quantlab.kernels.reference import transposed_rows, transposed_weight
from quantlab.numerics.rounding import dequantize

CONVS = [
    (nn.Conv2d(6, 8, 3, padding=1), 6),
    (nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2, bias=False), 6),
    (nn.Conv2d(6, 8, (3, 1), padding="same", dilation=2), 6),
    (nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), 6),
    (nn.ConvTranspose2d(6, 8, 4, stride=4), 6),
    (nn.ConvTranspose2d(6, 8, 3, stride=2, padding=1, output_padding=1, groups=2), 6),
]


@pytest.mark.parametrize(("layer", "channels"), CONVS, ids=lambda value: str(value)[:60])
def test_a_convolution_computes_what_torch_computes_with_the_rounded_weight(layer, channels):
    torch.manual_seed(0)
    simulated = build_layer("conv", layer, LayerSettings(weights=4), seed=0, data=None)
    twin = type(layer)(**_arguments(layer))
    twin.load_state_dict({**layer.state_dict(), "weight": simulated.weight})
    x = torch.randn(2, channels, 8, 8)
    with torch.no_grad():
        assert torch.equal(simulated(x), twin(x))
        assert not torch.equal(simulated(x), layer(x))


def _arguments(layer):
    names = [
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
        "padding_mode",
    ]
    transposed = ["output_padding"] if isinstance(layer, nn.ConvTranspose2d) else []
    return {**{name: getattr(layer, name) for name in names + transposed}, "bias": layer.bias is not None}


@pytest.mark.parametrize(("layer", "channels"), CONVS, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_output_channel_has_its_own_scale_and_errs_by_half_a_step_at_most(layer, channels, symmetric):
    chosen = LayerSettings(weights=3, weight_symmetric=symmetric)
    simulated = build_layer("conv", layer, chosen, seed=0, data=None)
    exact = simulated.rows_of(layer.weight.detach())
    assert simulated.scale.shape == (8,)
    assert ((simulated.weight_rows() - exact).abs() <= simulated.scale[:, None] * 0.5001).all()


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_the_rows_of_a_transposed_weight_are_its_output_channels_and_come_back(
    groups, inputs, outputs, kernel
):
    layer = nn.ConvTranspose2d(groups * inputs, groups * outputs, kernel, groups=groups)
    rows = transposed_rows(layer.weight.detach(), groups)
    assert rows.shape == (groups * outputs, inputs * kernel * kernel)
    assert torch.equal(transposed_weight(rows, layer.weight.shape, groups), layer.weight)
    # Scaling one row scales one output channel and no other.
    scaled = rows.clone()
    scaled[-1] *= 2
    twin = nn.ConvTranspose2d(groups * inputs, groups * outputs, kernel, groups=groups)
    twin.load_state_dict(
        {
            "bias": torch.zeros_like(layer.bias),
            "weight": transposed_weight(scaled, layer.weight.shape, groups),
        }
    )
    layer.bias.data.zero_()
    x = torch.randn(1, groups * inputs, 3, 3)
    with torch.no_grad():
        ratio = twin(x) - layer(x)
    assert ratio[:, :-1].abs().max() < 1e-6 if ratio.shape[1] > 1 else True
    assert torch.allclose(ratio[:, -1], layer(x)[:, -1], atol=1e-5)


@pytest.mark.parametrize("granularity", ["channel", "tensor", "group"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_codes_are_integers_that_give_the_weight_back(granularity, dtype):
    torch.manual_seed(0)
    layer = nn.Linear(32, 12).to(dtype)
    chosen = LayerSettings(weights=5, weight_granularity=granularity, group_size=8, weight_symmetric=False)
    simulated = build_layer("linear", layer, chosen, seed=0, data=None)
    codes = simulated.codes()
    assert codes.dtype == torch.uint8
    assert codes.max() <= 31
    restored = dequantize(codes, simulated.scale, simulated.zero_point, simulated.spec)
    torch.testing.assert_close(restored.to(dtype), simulated.weight)


def test_a_weight_that_is_not_rounded_has_no_codes_and_is_the_layers_own():
    layer = nn.Linear(8, 4)
    simulated = build_layer("linear", layer, LayerSettings(activations=8), seed=0, data=None)
    assert simulated.codes() is None
    assert torch.equal(simulated.weight, layer.weight)


def test_an_empty_batch_goes_through():
    simulated = build_layer(
        "linear", nn.Linear(8, 4), LayerSettings(weights=4, activations=4), seed=0, data=None
    )
    assert simulated(torch.zeros(0, 8)).shape == (0, 4)
