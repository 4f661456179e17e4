"""Learnable layers: gradients by hand, a clip against brute force, and equality with the layers built from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantlab.calibration.layer_data import LayerData
from quantlab.engine.build import activation_spec, build_layer, prepare, weight_spec
from quantlab.engine.settings import LayerSettings
from quantlab.methods.reconstruction import LearnableLinear, StraightThrough, straight_through
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import minmax_range
from quantlab.numerics.rounding import fake_quantize

KINDS = [
    {"rotation": "hadamard", "smoothing": 0.5},
    {"rotation": "hadamard", "smoothing": 0.5, "smoothing_order": "before"},
    {"rotation": "kronecker", "smoothing": 0.3, "smoothing_order": "before"},
    {"rotation": "kronecker", "weight_granularity": "group", "group_size": 16},
    {"weight_symmetric": False, "activation_symmetric": False},
    {"weight_granularity": "tensor", "activation_granularity": "tensor"},
    {"activation_mode": "static", "activation_granularity": "tensor", "rotation": "hadamard"},
    {"weights": 16},
    {"activations": 16},
]


def layer_and_input(seed: int = 0) -> tuple[nn.Linear, Tensor, LayerData]:
    torch.manual_seed(seed)
    x = torch.randn(3, 20, 48) * torch.logspace(-1, 1, 48)
    rows = x.reshape(-1, 48)
    data = LayerData(rows, rows.abs().amax(dim=0), np.zeros(len(rows), dtype=np.uint8))
    return nn.Linear(48, 20), x, data


def learnable(layer: nn.Linear, settings: LayerSettings, data: LayerData) -> LearnableLinear:
    prepared = prepare("fc", layer, settings, seed=3, data=data)
    weights, activations = weight_spec(settings), activation_spec(settings)
    static = minmax_range(prepared.data.rows, activations) if settings.static else None
    return LearnableLinear(layer, prepared.transforms, weights, activations, static)


def parameters(made: LearnableLinear) -> list[nn.Parameter]:
    return [*made.divisors(), *made.mixing(), *made.clipping()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@torch.no_grad()
def test_a_learnable_layer_computes_what_the_layer_built_from_its_parameters_computes(kind):
    layer, x, data = layer_and_input()
    settings = LayerSettings(**{"weights": 4, "activations": 4, **kind})
    made = learnable(layer, settings, data)
    for parameter in parameters(made):
        parameter.add_(0.1 * torch.randn_like(parameter))
    built = build_layer("fc", layer, settings, seed=3, data=data, learned=made.learned())
    torch.testing.assert_close(made(x), built(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS[:3], ids=["after", "before", "kronecker"])
@torch.no_grad()
def test_before_rounding_no_value_of_the_parameters_changes_anything(kind):
    layer, x, data = layer_and_input()
    made = learnable(layer, LayerSettings(weights=4, activations=4, **kind), data)
    made.weight_spec = made.activation_spec = None
    for parameter in [*made.divisors(), *made.mixing()]:
        parameter.add_(0.1 * torch.randn_like(parameter))
    torch.testing.assert_close(made(x), layer(x), rtol=1e-3, atol=1e-3)


def test_the_gradient_passes_rounding_and_stops_at_the_clip_as_derived_by_hand():
    rows = torch.tensor([[0.3, -1.4, 2.6, 9.0, -9.0]], requires_grad=True)
    scale = torch.tensor([[0.5]], requires_grad=True)
    weights = torch.tensor([[1.0, 2.0, 3.0, 5.0, 7.0]])
    rounded = StraightThrough.apply(rows, scale, None, QuantSpec(4))
    assert rounded.tolist() == [[0.5, -1.5, 2.5, 3.5, -4.0]]  # codes 1 -3 5 7 -8
    (rounded * weights).sum().backward()
    assert rows.grad.tolist() == [[1.0, 2.0, 3.0, 0.0, 0.0]]
    inside = 1 * (1 - 0.6) + 2 * (-3 + 2.8) + 3 * (5 - 5.2)
    assert scale.grad.item() == pytest.approx(inside + 5 * 7 + 7 * -8, rel=1e-5)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", ["channel", "tensor", "group"])
def test_in_value_it_is_the_rounding_of_every_other_layer(symmetric, granularity):
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(1)) ** 3
    x[0] = 0
    spec = QuantSpec(4, symmetric, granularity, 8 if granularity == "group" else 0)
    assert torch.equal(straight_through(x, 1.0, spec), fake_quantize(x, *minmax_range(x, spec), spec))


def test_the_gradient_of_a_share_is_that_of_its_scale_times_the_range():
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(2))
    share = torch.full((4,), 0.7, requires_grad=True)
    weights = torch.randn(4, 16)
    (straight_through(x, share, QuantSpec(4)) * weights).sum().backward()
    step = x.abs().amax(dim=1) / 7
    u = x / (step * 0.7)[:, None]
    k = u.round().clamp(-8, 7)
    expected = (weights * torch.where(u.round() == k, k - u.detach(), k)).sum(dim=1) * step
    torch.testing.assert_close(share.grad, expected[:, 0] if expected.dim() > 1 else expected)


def test_a_learned_clip_agrees_with_the_best_of_a_grid():
    torch.manual_seed(4)
    x = torch.randn(1, 4000) ** 3
    spec = QuantSpec(4, granularity="tensor")

    def loss(share: Tensor | float) -> Tensor:
        return (straight_through(x, share, spec) - x).square().mean()

    grid = np.linspace(0.02, 1.0, 99)
    losses = [float(loss(float(share))) for share in grid]
    theta = torch.tensor(4.0, requires_grad=True)
    optimiser = torch.optim.Adam([theta], lr=5e-2)
    for _ in range(200):
        optimiser.zero_grad()
        value = loss(theta.sigmoid())
        (value / value.detach()).backward()
        optimiser.step()
    best = grid[int(np.argmin(losses))]
    assert abs(float(theta.detach().sigmoid()) - best) < 0.03
    assert float(loss(float(theta.detach().sigmoid()))) < 1.02 * min(losses)
    assert min(losses) < 0.5 * losses[-1]  # clipping matters here


def test_what_is_learned_leaves_the_layer_and_its_transforms_alone():
    layer, x, data = layer_and_input()
    settings = LayerSettings(weights=4, activations=4, rotation="kronecker", smoothing=0.5)
    prepared = prepare("fc", layer, settings, seed=0, data=data)
    before = [value.clone() for value in (*layer.parameters(), *prepared.transforms[0].buffers())]
    made = LearnableLinear(layer, prepared.transforms, weight_spec(settings), activation_spec(settings))
    made(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in parameters(made))
    torch.optim.SGD(parameters(made), lr=0.1).step()
    after = [*layer.parameters(), *prepared.transforms[0].buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
