"""Layers taken apart into tensors and plain data come back bit for bit, whatever method made them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.build import build_layer
from quantlab.engine.settings import ROTATIONS, SMOOTHING_RULES, LayerSettings
from quantlab.errors import CheckpointError, RecipeError
from quantlab.models.tokens import PATCH
from quantlab.packed.layers import assemble, dissect

VARIANTS = [
    *({"rotation": rotation} for rotation in ROTATIONS),
    *({"smoothing": 0.5, "smoothing_rule": rule, "rotation": "hadamard"} for rule in SMOOTHING_RULES),
    {"weight_symmetric": False, "activation_symmetric": False, "smoothing": 0.3},
    {"activation_mode": "static", "activation_granularity": "tensor"},
    {"activation_mode": "static", "activation_granularity": "tensor", "twin": True},
    {"twin": True},
    {"low_rank": 3},
    {"rounding": "gptq", "column_order": "activation"},
    {"weight_granularity": "group", "group_size": 8},
    {"weights": 16},
    {"activations": 16, "weights": 2},
]


def data_of(width: int) -> LayerData:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(40, width, generator=generator) * torch.logspace(-1, 1, width)
    kinds = np.full(40, PATCH, dtype=np.uint8)
    return LayerData(rows, rows.abs().amax(0), kinds, rows.double().T @ rows.double(), 40)


def through_json(record):
    return json.loads(json.dumps(record))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_a_linear_layer_comes_back_bit_for_bit(settings, dtype):
    torch.manual_seed(0)
    layer, data = nn.Linear(32, 12).to(dtype), data_of(32)
    chosen = LayerSettings(**{"weights": 4, "activations": 8} | settings)
    try:
        built = build_layer("layer", layer, chosen, seed=3, data=data).eval()
    except RecipeError as error:
        pytest.skip(f"needs more than one layer: {error}")
    record, tensors = dissect(built)
    back = assemble(through_json(record), tensors, layer)
    x = data.rows.to(dtype)
    with torch.no_grad():
        assert torch.equal(back(x), built(x))
    assert torch.equal(back.weight, built.weight)
    assert back.bias is layer.bias
    assert not back.training
    assert back.state_dict().keys() == built.state_dict().keys()
    assert str(back) == str(built)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(6, 8, 3, padding=1, groups=2), nn.ConvTranspose2d(6, 8, 4, stride=4, bias=False)]
)
def test_convolutions_come_back_too_packed_or_not(layer):
    built = build_layer("layer", layer, LayerSettings(weights=3), seed=0).eval()
    x = torch.randn(2, 6, 8, 8)
    for _ in range(2):
        record, tensors = dissect(built)
        with torch.no_grad():
            assert torch.equal(assemble(through_json(record), tensors, layer)(x), built(x))
        assert built.keep_packed()


def test_what_is_stored_of_a_weight_is_its_packed_codes():
    built = build_layer("layer", nn.Linear(64, 8, bias=False), LayerSettings(weights=4), seed=0)
    _, tensors = dissect(built)
    assert set(tensors) == {"codes", "scale"}
    assert tensors["codes"].nbytes == 64 * 8 // 2


@pytest.mark.parametrize("harm", ["kind", "tensor", "spec"])
def test_a_record_that_this_version_cannot_read_is_refused_in_words(harm):
    layer = nn.Linear(8, 4)
    record, tensors = dissect(
        build_layer("layer", layer, LayerSettings(weights=4, smoothing=0.5), seed=0, data=data_of(8))
    )
    if harm == "kind":
        record["parts"]["transforms.0"]["kind"] = "os.system"
    elif harm == "tensor":
        del tensors["codes"]
    else:
        record["spec"]["fields"]["bits"] = "many"
    with pytest.raises((CheckpointError, RecipeError)):
        assemble(record, tensors, layer)
