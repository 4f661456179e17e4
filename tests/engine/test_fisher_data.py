"""Rows with gradients: the right tokens of both networks, fair weights, and which formats matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantlab.engine.fisher_data import collect_gradients, nearest, round_to_nearest, stratified
from quantlab.engine.settings import LayerSettings
from quantlab.models.structure import TokenLayout, describe
from quantlab.models.tokens import PATCH

FOUR = LayerSettings(weights=4, activations=4, range_search="ternary", search_loss="fisher")
LAYOUT = TokenLayout(frames=2, rows=2, cols=2, specials={"frame": ("camera", "register")})


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.frame_blocks = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 3)])
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return {"points": self.frame_blocks[1](torch.tanh(self.frame_blocks[0](x)))}


def run(network, x):
    return network(x)


def collected(inputs, rows=256, layouts=(), names=("frame_blocks.0", "frame_blocks.1")):
    network = Net().eval()
    structure = describe(network)
    found = collect_gradients(
        network, structure, dict.fromkeys((*names, "unused"), FOUR), run, inputs, layouts, rows=rows
    )
    return network, found


def test_rows_are_those_of_full_precision_and_gradients_those_of_the_rounded_network():
    x = torch.randn(1, 6, 4)
    network, found = collected([x])
    assert set(found) == {"frame_blocks.0", "frame_blocks.1"}
    inputs = {"frame_blocks.0": x[0], "frame_blocks.1": torch.tanh(network.frame_blocks[0](x[0])).detach()}
    rounded = round_to_nearest(network, dict.fromkeys(found, FOUR))
    error = (rounded(x)["points"] - network(x)["points"])[0].detach()
    for name, data in found.items():
        distance = torch.cdist(data.rows, inputs[name])
        assert distance.min(dim=1).values.max() < 1e-5
        assert float(data.gradients.square().mean()) == pytest.approx(1.0, rel=1e-4)
    # At the last layer the gradient is the error itself, up to one factor.
    last = found["frame_blocks.1"]
    order = torch.cdist(last.rows, inputs["frame_blocks.1"]).argmin(dim=1)
    expected = error[order] / error.square().mean().sqrt()
    torch.testing.assert_close(last.gradients, expected, rtol=1e-3, atol=1e-4)


def test_no_more_rows_are_kept_than_asked_for_and_every_kind_is_there():
    inputs = [torch.randn(2, 6, 4) for _ in range(3)]
    _, found = collected(inputs, rows=12, layouts=[LAYOUT] * 3)
    data = found["frame_blocks.0"]
    assert len(data.rows) == len(data.kinds) == len(data.gradients) == 12
    assert (data.kinds == PATCH).any()
    assert (data.kinds != PATCH).any()
    assert data.into(None).gradients is data.gradients


@given(
    special=st.integers(0, 40), patches=st.integers(0, 200), quota=st.integers(4, 64), seed=st.integers(0, 99)
)
@settings(max_examples=60, deadline=None)
def test_weights_make_the_mean_over_the_picked_that_over_all(special, patches, quota, seed):
    if special + patches == 0:
        return
    mask = np.arange(special + patches) < special
    picked, roots = stratified(mask, quota, np.random.default_rng(seed))
    assert len(set(picked)) == len(picked) <= max(quota, 1)
    assert mask[picked].any() or not special
    assert (~mask[picked]).any() or not patches
    # A quantity that is 1 on special tokens and 0 elsewhere: its mean is their share, exactly.
    assert np.mean(roots**2 * mask[picked]) == pytest.approx(special / (special + patches))
    assert np.mean(roots**2) == pytest.approx(1.0)


def test_only_formats_matter_to_the_rounded_network():
    plain = LayerSettings(weights=4, activations=4)
    assert nearest(FOUR) == nearest(plain) == plain
    static = LayerSettings(
        weights=4,
        activations=8,
        activation_mode="static",
        activation_granularity="tensor",
        rotation="hadamard",
    )
    assert nearest(static).activation_mode == "dynamic"
    assert nearest(static).rotation == "none"
    assert nearest(static).activation_granularity == "tensor"
