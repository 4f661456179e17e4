"""Why a layer is hard to quantize: what was planted is named, and every figure equals one computed otherwise."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quantlab.calibration.samples import LayerSamples
from quantlab.engine.calibrate import Calibration
from quantlab.engine.evidence import crest, dominant, outstanding_kind, range_makers
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.engine.steps import layer_view
from quantlab.models.structure import describe
from quantlab.models.tokens import KINDS
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.hadamard import Rotation
from quantlab.numerics.ranges import round_to_nearest

WIDTH, TOKENS, PLANTED = 64, 256, 17


def rows_with(*, channel=0.0, camera=0.0):
    """Noise with one loud channel, or two loud camera tokens."""
    torch.manual_seed(4)
    x = torch.randn(TOKENS, WIDTH)
    if channel:
        x[:, PLANTED] *= channel
    kinds = np.full(TOKENS, KINDS.index("patch"), np.uint8)
    kinds[:2] = KINDS.index("camera")
    if camera:
        x[:2] *= camera
    return x, kinds


def look(x, kinds, **settings):
    torch.manual_seed(5)
    network = nn.Sequential(nn.Linear(WIDTH, 48), nn.ReLU()).eval()
    samples = LayerSamples({"0": x}, {"0": kinds}, {"0": x.abs().amax(0)}, 1)
    quantizer = Quantizer(network, describe(network), Calibration([x], samples=samples))
    quantizer.apply(Recipe(scope="all", defaults={"weights": 4, "activations": 4, **settings}))
    return layer_view("0", quantizer), network[0]


def test_a_loud_channel_is_named_with_its_share_of_the_token_maxima():
    x, kinds = rows_with(channel=40.0)
    view, _ = look(x, kinds)
    peaks, places = x.abs().max(dim=1)
    share = float((peaks**2)[places == PLANTED].sum() / (peaks**2).sum())
    assert view.evidence.channels == (PLANTED,)
    assert view.evidence.channel_share == pytest.approx(share)
    assert f"Channel {PLANTED} of {WIDTH} makes {100 * share:.0f} %" in view.reading


def test_loud_camera_tokens_are_named_with_their_number_and_share():
    x, kinds = rows_with(camera=60.0)
    view, _ = look(x, kinds)
    peaks = x.abs().amax(1) ** 2
    share = float(peaks[:2].sum() / peaks.sum())
    assert (view.evidence.kind, view.evidence.kind_tokens) == ("camera", 2)
    assert view.evidence.kind_share == pytest.approx(share, rel=1e-5)
    assert f"2 camera tokens of {TOKENS} sampled carry {100 * share:.0f} %" in view.reading


def test_plain_noise_is_said_to_have_nothing_that_stands_out():
    view, _ = look(*rows_with())
    assert view.reading.startswith("No token kind and no channel stands out")


def test_the_error_is_split_into_that_of_the_input_and_that_of_the_weight():
    x, kinds = rows_with(channel=40.0)
    view, layer = look(x, kinds)
    with torch.no_grad():
        y = layer(x)
        rounded_x = round_to_nearest(x, QuantSpec(4, granularity="token"))
        rounded_w = round_to_nearest(layer.weight, QuantSpec(4))
        by_input = float((y - F.linear(rounded_x, layer.weight, layer.bias)).norm() / y.norm())
        by_weight = float((y - F.linear(x, rounded_w, layer.bias)).norm() / y.norm())
    assert view.evidence.input_only == pytest.approx(by_input, rel=1e-3)
    assert view.evidence.weight_only == pytest.approx(by_weight, rel=1e-3)
    first = "input" if by_input > by_weight else "weight"
    assert re.search(rf"\(\S+ % by the {first} alone", view.reading)


def test_the_remedy_is_measured_and_rotation_helps_a_loud_channel():
    x, kinds = rows_with(channel=40.0)
    view, layer = look(x, kinds)
    rotation = Rotation(WIDTH, 0)
    with torch.no_grad():
        y, turned = layer(x), rotation.apply(x)
        weight = round_to_nearest(rotation.fold(layer.weight.double()).float(), QuantSpec(4))
        y_hat = F.linear(round_to_nearest(turned, QuantSpec(4, granularity="token")), weight, layer.bias)
        error = float((y - y_hat).norm() / y.norm())
    tried = {remedy.name: remedy for remedy in view.evidence.remedies}
    assert tried["rotation"].output_error == pytest.approx(error, rel=1e-2)
    assert tried["rotation"].crest == pytest.approx(float(turned.abs().max() / turned.square().mean().sqrt()))
    assert view.evidence.plain_error == pytest.approx(view.output_error, rel=1e-6)
    assert [r.output_error for r in view.evidence.remedies] == sorted(r.output_error for r in tried.values())
    assert "would help: max/rms" in view.reading


def test_what_is_in_force_is_not_recommended_again():
    view, _ = look(*rows_with(channel=40.0), rotation="hadamard", smoothing=0.5)
    assert view.evidence.remedies == ()
    assert "would" not in view.reading
    assert re.search(r"Input max/rms \S+, \S+ after rotation and smoothing\.", view.reading)


def test_max_over_rms_is_reported_for_every_step():
    x, kinds = rows_with(channel=40.0)
    view, _ = look(x, kinds, rotation="hadamard")
    assert list(view.evidence.crest) == ["raw", "rotated", "quantized"]
    assert view.evidence.crest["raw"] == pytest.approx(float(x.abs().max() / x.square().mean().sqrt()))
    assert crest(torch.zeros(3)) == 0


def test_dominant_indices_carry_half_and_no_fewer_would():
    parts = torch.tensor([1.0, 5.0, 3.0, 1.0])
    assert dominant(parts) == ((1,), 0.5)
    assert dominant(torch.tensor([4.0, 5.0, 3.0])) == ((1, 0), pytest.approx(9 / 12))
    assert dominant(torch.zeros(4)) == ((), 0.0)


def test_every_squared_token_maximum_is_given_to_one_channel():
    x = torch.randn(50, 9)
    made = range_makers(x)
    assert float(made.sum()) == pytest.approx(float((x.abs().amax(1) ** 2).sum()), rel=1e-6)


def test_a_kind_of_no_tokens_is_never_named():
    assert outstanding_kind(torch.zeros(3), np.zeros(3, np.uint8)) == ("", 0, 0.0)


def test_the_clip_curve_of_the_input_predicts_what_is_measured():
    view, _ = look(*rows_with(channel=40.0))
    now = int(np.abs(view.clip.shares - 1).argmin())
    assert view.clip.errors[now] == pytest.approx(view.clip.measured, rel=0.02)
    assert view.clip.errors[view.clip.best] <= view.clip.errors[now]


def test_the_steps_of_the_weight_are_those_folded_in_and_its_error_is_that_of_the_view():
    x, kinds = rows_with(channel=40.0)
    view, layer = look(x, kinds, rotation="hadamard", smoothing=0.5)
    weights = view.weights
    assert list(weights.steps) == list(weights.channel_absmax) == ["raw", "rotated", "smoothed", "quantized"]
    assert {histogram.total for histogram in weights.steps.values()} == {layer.weight.numel()}
    assert np.allclose(weights.channel_absmax["raw"], layer.weight.detach().abs().amax(0).numpy())
    assert weights.clip.measured == pytest.approx(view.weight_error, rel=1e-3)
    assert weights.clip.kept is None, "every output channel has a range of its own"


def test_a_weight_that_is_kept_shows_itself_alone():
    view, _ = look(*rows_with(), weights=16, activations=16)
    assert list(view.weights.steps) == ["raw"]
    assert view.weights.clip is None


class Block(nn.Module):
    """A residual feed-forward path with its norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x):
        return x + self.mlp(self.norm(x))


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x):
        return self.blocks[1](self.blocks[0](x))


def compensated(**changes):
    torch.manual_seed(0)
    network = Blocks().eval()
    inputs = [torch.randn(2, 20, 16) for _ in range(4)]
    quantizer = Quantizer(network, describe(network), Calibration(inputs))
    recipe = Recipe(scope="all", defaults={"weights": 2, "activations": 8})
    quantizer.apply(recipe.set("*", compensation="on", rank=8, **changes))
    return quantizer, inputs[0]


def test_the_output_of_a_compensated_branch_is_shown_before_and_after_its_correction():
    quantizer, x = compensated()
    output = layer_view("blocks.1.mlp.2", quantizer).output
    with torch.no_grad():
        entry = quantizer.network.blocks[0](x)
        exact = quantizer.reference.blocks[1](entry) - entry
        after = quantizer.network.blocks[1](entry) - entry
        before = after - quantizer.fits["blocks.1.mlp"].correction(entry)
    assert output.branch == "blocks.1.mlp"
    assert output.error == pytest.approx(float((exact - before).norm() / exact.norm()), rel=1e-4)
    assert output.compensated_error == pytest.approx(float((exact - after).norm() / exact.norm()), rel=1e-4)
    assert output.compensated_error < output.error
    for histogram, values in ((output.exact, exact), (output.compensated, after)):
        assert histogram.total == values.numel()
        assert histogram.quantile(1.0) == pytest.approx(float(values.abs().max()), rel=0.07)
    assert "correction takes the branch's error from" in layer_view("blocks.1.mlp.2", quantizer).reading


def test_only_the_last_layer_of_a_branch_has_its_output_and_only_where_there_is_a_correction():
    quantizer, _ = compensated()
    assert layer_view("blocks.1.mlp.0", quantizer).output is None
    plain = Quantizer(quantizer.reference, quantizer.structure, quantizer.calibration)
    plain.apply(Recipe(scope="all", defaults={"weights": 2, "activations": 8}))
    assert layer_view("blocks.1.mlp.2", plain).output is None
