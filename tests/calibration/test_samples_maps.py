"""Samples of a convolution's input: pixels over channels, from an even grid where the maps are large."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from quantlab.calibration.samples import PIXELS, collect_samples
from quantlab.engine.calibrate import Calibration
from quantlab.models.structure import describe


@pytest.mark.parametrize("size", [6, 300])
def test_rows_are_pixels_of_the_map_and_their_number_stays_bounded(size):
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Conv2d(5, 2, 3)), torch.randn(2, 5, size, size)
    samples = collect_samples(network, describe(network), None, [x], rows=32)
    rows = samples.rows("0").numpy()
    assert len(rows) == min(32, 2 * size * size)
    pixels = {tuple(pixel) for pixel in np.moveaxis(x.numpy(), 1, -1).reshape(-1, 5)}
    assert {tuple(row) for row in rows} <= pixels
    assert len({tuple(row) for row in rows}) == len(rows), "no pixel twice"


def test_a_large_map_is_seen_on_an_even_grid_of_all_its_height_and_width():
    size = 240
    place = torch.arange(size).float()
    x = torch.stack(torch.meshgrid(place, place, indexing="ij"))[None]
    network = nn.Sequential(nn.Conv2d(2, 1, 1))
    rows = collect_samples(network, describe(network), None, [x], rows=64).rows("0")
    steps = rows[:, 0].unique().diff()
    assert float(steps.min()) >= size / (PIXELS * 64) ** 0.5 - 1
    assert float(rows.amin()) < size / 4
    assert float(rows.amax()) > size / 2


def test_calibration_samples_convolutions_too():
    network = nn.Sequential(nn.Linear(4, 8), nn.Unflatten(-1, (8, 1, 1)), nn.Conv2d(8, 3, 1)).eval()
    structure, calibration = describe(network), Calibration([torch.randn(40, 4)])
    seen = calibration.samples(network, structure, "2")
    assert seen is not None
    assert seen.rows.shape == (40, 8)
