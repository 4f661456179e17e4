"""What quantization does to one layer's weight, step by step, for a `WeightView`. It changes no layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quantlab.engine.grids import grid_facts, no_grid
from quantlab.engine.settings import LayerSettings
from quantlab.engine.views import WeightView
from quantlab.kernels.reference import Simulated, SimulatedLinear, transposed_rows
from quantlab.methods.transforms import Transform
from quantlab.numerics.histograms import StreamingHistogram
from quantlab.numerics.ranges import Range
from quantlab.numerics.records import Histogram

CHANNELS, OUTPUTS = 256, 64
"""Of a landscape: at most so many input and output channels."""


def weight_view(layer: nn.Module, simulated: Simulated | None, settings: LayerSettings) -> WeightView:
    """Look at a weight behind each of its transforms and after rounding.

    Args:
        layer: In full precision.
        simulated: Its quantized stand-in, or None where it is kept.
        settings: In force.
    """
    stages = weight_stages(layer, simulated)
    spec, scale = (None, None) if simulated is None else (simulated.spec, simulated.scale)
    facts = no_grid()
    if simulated is not None and spec is not None and scale is not None:
        facts = grid_facts(_rounded_part(stages, simulated), spec, Range(scale, simulated.zero_point))
    raw = stages["raw"]
    columns = spread(raw.abs().amax(dim=0), CHANNELS)
    rows = spread(raw.abs().amax(dim=1), OUTPUTS)
    return WeightView(
        settings=settings,
        steps={step: histogram_of(w) for step, w in stages.items()},
        **facts,
        channel_absmax={step: w.abs().amax(dim=0).cpu().numpy() for step, w in stages.items()},
        landscape={step: w[rows][:, columns].T.cpu().numpy() for step, w in stages.items()},
        landscape_channels=columns.numpy(),
        landscape_tokens=rows.numpy(),
    )


def weight_stages(layer: nn.Module, simulated: Simulated | None) -> dict[str, Tensor]:
    """The weight ``[out, columns]`` in float32 after each step that is taken, in order."""
    weight = layer.get_parameter("weight").detach()
    if simulated is None:
        if isinstance(layer, nn.ConvTranspose2d):
            return {"raw": transposed_rows(weight, layer.groups).float()}
        return {"raw": weight.flatten(1).float()}
    stages = {"raw": simulated.rows_of(weight).float()}
    if isinstance(simulated, SimulatedLinear):
        folded = weight.double()
        for transform in simulated.transforms:
            if isinstance(transform, Transform):
                folded = transform.fold(folded)
                stages[transform.step] = folded.float()
    if simulated.spec is not None:
        stages["quantized"] = simulated.effective_weight().float()
    return stages


def folded_weight(layer: nn.Module, simulated: Simulated) -> Tensor:
    """The layer's weight as rows, behind its transforms, before rounding."""
    weight = layer.get_parameter("weight").detach()
    if isinstance(simulated, SimulatedLinear):
        folded = weight.double()
        for transform in simulated.transforms:
            folded = transform.fold(folded)  # type: ignore[operator]
        return folded
    return simulated.rows_of(weight)


def spread(size: Tensor, most: int) -> Tensor:
    """Up to ``most`` indices in order: the largest eighth of them, the rest evenly."""
    if len(size) <= most:
        return torch.arange(len(size))
    largest = size.topk(most // 8).indices.cpu()
    even = torch.linspace(0, len(size) - 1, most - most // 8).round().long()
    return torch.unique(torch.cat((largest, even)))


def histogram_of(x: Tensor) -> Histogram:
    """Counts of all values of a tensor."""
    stream = StreamingHistogram()
    stream.update(x)
    return stream.record()


def _rounded_part(stages: dict[str, Tensor], simulated: Simulated) -> Tensor:
    """What was rounded: the weight before the last step, without what a low-rank branch takes of it."""
    before = list(stages.values())[-2]
    if isinstance(simulated, SimulatedLinear) and simulated.down is not None and simulated.up is not None:
        return before - (simulated.down @ simulated.up).T.to(before.dtype)
    return before
