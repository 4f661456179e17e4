"""The view of one layer: each number is checked against the arithmetic it stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from quantlab.calibration.samples import collect_samples
from quantlab.engine.calibrate import Calibration
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.engine.steps import _tokens, layer_view
from quantlab.engine.views import LayerView
from quantlab.errors import RecipeError
from quantlab.models.structure import describe
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import round_to_nearest


@pytest.fixture
def quantizer() -> Quantizer:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(32, 300), nn.ReLU(), nn.Linear(300, 8), nn.Unflatten(-1, (8, 1, 1)), nn.Conv2d(8, 4, 1)
    )
    x = torch.randn(200, 32)
    x[:, 3] *= 40
    return Quantizer(network.eval(), describe(network), Calibration([x]))


def view(quantizer: Quantizer, name: str = "0", **settings) -> LayerView:
    quantizer.apply(Recipe(scope="all", defaults=settings))
    return layer_view(name, quantizer)


def rows(quantizer: Quantizer, name: str = "0") -> torch.Tensor:
    seen = quantizer.samples(name)
    assert seen is not None
    return seen.rows


def test_a_layer_that_is_left_alone_shows_its_input_and_loses_nothing(quantizer):
    seen = view(quantizer)
    assert list(seen.steps) == ["raw"]
    assert seen.steps["raw"].total == rows(quantizer).numel()
    assert (seen.output_error, seen.weight_error, seen.grid) == (0.0, 0.0, None)
    assert seen.reading.lower().count("nothing is rounded") == 1
    assert "kurtosis" not in seen.reading


@pytest.mark.parametrize(
    ("order", "steps"), [("after", ["rotated", "smoothed"]), ("before", ["smoothed", "rotated"])]
)
def test_steps_come_in_the_order_they_are_taken_and_all_count_the_same_values(quantizer, order, steps):
    seen = view(
        quantizer, weights=4, activations=4, rotation="hadamard", smoothing=0.5, smoothing_order=order
    )
    assert list(seen.steps) == ["raw", *steps, "quantized"]
    assert len({histogram.total for histogram in seen.steps.values()}) == 1
    assert list(seen.channel_absmax) == list(seen.landscape) == list(seen.steps)


def test_the_errors_are_those_of_the_layer_computed_by_hand(quantizer):
    seen = view(quantizer, weights=3, activations=5)
    layer, x = quantizer.reference[0], rows(quantizer)
    with torch.no_grad():
        weight = round_to_nearest(layer.weight, QuantSpec(3))
        y_hat = round_to_nearest(x, QuantSpec(5, granularity="token")) @ weight.T + layer.bias
        y = layer(x)
        assert seen.output_error == pytest.approx(float((y - y_hat).norm() / y.norm()), rel=1e-3)
        assert seen.weight_error == pytest.approx(
            float((layer.weight - weight).norm() / layer.weight.norm()), rel=1e-3
        )


def test_dynamic_scales_clip_nothing_and_the_grid_ends_at_the_largest_value(quantizer):
    seen = view(quantizer, weights=16, activations=4)
    assert seen.grid is not None
    assert len(seen.grid) == 16
    assert seen.clip_high == pytest.approx(float(rows(quantizer).abs().max()), rel=1e-5)
    assert seen.clipped_fraction == 0
    assert seen.clip_low == pytest.approx(float(seen.grid[0]))


def test_the_quantized_values_lie_on_the_grid_of_a_scale_for_the_tensor(quantizer):
    seen = view(quantizer, weights=16, activations=3, activation_granularity="tensor")
    values = np.unique(seen.landscape["quantized"])
    assert np.abs(values[:, None] - seen.grid[None]).min(axis=1).max() < 1e-6
    assert seen.wasted_levels == 8 - len(
        np.unique(round_to_nearest(rows(quantizer), QuantSpec(3, granularity="tensor")))
    )


def test_a_static_range_below_the_data_names_the_clipped_share(quantizer):
    fixed = {"activation_mode": "static", "activation_granularity": "tensor"}
    seen = view(quantizer, weights=16, activations=8, range_search="percentile", percentile=90.0, **fixed)
    values = rows(quantizer)
    step = seen.grid[1] - seen.grid[0]
    beyond = (values > seen.clip_high + step / 2) | (values < seen.clip_low - step / 2)
    assert seen.clipped_fraction == pytest.approx(float(beyond.float().mean()), abs=1e-6)
    assert 0.05 < seen.clipped_fraction < 0.15
    assert "clipped" in seen.reading


def test_rotation_lowers_the_peak_of_the_outlier_channel_and_the_reading_says_so(quantizer):
    seen = view(quantizer, weights=4, activations=4, rotation="hadamard")
    assert seen.channel_absmax["rotated"].max() < 0.5 * seen.channel_absmax["raw"].max()
    assert "after rotation" in seen.reading


def test_a_search_shows_what_it_tried_and_ends_at_the_smallest_loss(quantizer):
    curves = {s: view(quantizer, weights=3, range_search=s).search for s in ("grid", "ternary", "minmax")}
    assert curves["minmax"] is None
    assert len(curves["ternary"].scales) < len(curves["grid"].scales)
    assert min(curves["ternary"].losses) <= 1.05 * min(curves["grid"].losses)


def test_landscapes_are_bounded_and_hold_the_largest_channel(quantizer):
    seen = view(quantizer, name="2", weights=4, activations=4)
    picture = seen.landscape["raw"]
    assert picture.shape[0] <= 256
    assert picture.shape[1] == 64 == len(seen.landscape_kinds)
    assert seen.channel_absmax["raw"].shape == (300,)
    sampled = rows(quantizer, "2")[torch.from_numpy(seen.landscape_tokens)][
        :, torch.from_numpy(seen.landscape_channels)
    ]
    assert np.array_equal(picture, sampled.T.numpy())


def test_tokens_of_a_landscape_come_kind_by_kind():
    kinds = np.array([1, 0, 4, 1, 2, 2, 0], np.uint8)
    order = kinds[_tokens(kinds).numpy()]
    assert order.tolist() == [0, 0, 1, 1, 4, 2, 2]


def test_a_convolution_shows_its_weight_error_only(quantizer):
    view(quantizer, name="4", weights=3, activations=3)
    network, inputs = quantizer.reference, quantizer.calibration.inputs
    samples = collect_samples(network, quantizer.structure, None, inputs)
    seen = layer_view("4", quantizer, samples)
    assert list(seen.steps) == ["raw"]
    assert seen.output_error is None
    assert seen.weight_error > 0
    assert "weights only" in seen.reason


def test_without_calibration_the_weight_is_still_shown(quantizer):
    alone = Quantizer(quantizer.reference, quantizer.structure)
    seen = view(alone, weights=4, activations=4)
    assert seen.steps == {}
    assert seen.weight_error > 0
    assert seen.output_error is None


def test_an_unknown_layer_is_refused_with_near_names(quantizer):
    with pytest.raises(RecipeError, match="Did you mean"):
        layer_view("00", quantizer)


@pytest.mark.parametrize("fixed", [{}, {"activation_mode": "static", "activation_granularity": "tensor"}])
def test_a_search_by_gradients_is_shown_as_it_was_made_also_after_undo_and_an_edit_elsewhere(
    quantizer, fixed
):
    network = nn.Sequential(*list(quantizer.reference)[:3])
    inputs = quantizer.calibration.inputs
    searching = Quantizer(network, describe(network), Calibration(inputs))
    defaults = {"weights": 3, "activations": 4, "range_search": "grid", "search_loss": "fisher", **fixed}
    recipe = Recipe(scope="all", defaults=defaults)
    searching.apply(recipe)
    first = layer_view("0", searching)
    place = int(first.search.what.split()[2]) - 1
    best = first.search.scales[int(np.argmin(first.search.losses))]
    assert best == pytest.approx(float(searching.layer("0").scale[place]), rel=1e-6)
    searching.apply(recipe.set("*", weights=8))
    searching.apply(recipe)
    again = layer_view("0", searching)
    assert again.search.losses == first.search.losses
