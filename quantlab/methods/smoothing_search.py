"""Smoothing whose strength is searched on the error of the layer's output. The formulas searched over are given."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quantlab.calibration.layer_data import LayerData
from quantlab.errors import RecipeError
from quantlab.methods.smoothing import Smoothing, smoothing_divisor
from quantlab.methods.transforms import TRANSFORMS, TransformContext
from quantlab.numerics.finite import require_finite
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import round_to_nearest

STRENGTHS = tuple(i / 19 for i in range(20))
"""The exponents tried: 20 from 0 to 1, as AWQ's grid."""
SEARCH_ROWS = 512
"""Calibration tokens that a candidate is judged on, evenly spaced among those kept: the search runs each 20 times."""


class SearchedSmoothing(Smoothing):
    """Smoothing that remembers how it was found.

    Attributes:
        strength: The exponent chosen; None where no candidate was better than leaving the channels as they are.
        losses: Pairs of an exponent (None: left as it is) and the relative squared output error it gave.
    """

    def __init__(
        self, divisor: Tensor, strength: float | None, losses: tuple[tuple[float | None, float], ...] = ()
    ) -> None:
        super().__init__(divisor)
        self.strength = strength
        self.losses = losses

    def describe(self) -> str:
        """The strength and the range of the factors."""
        if self.strength is None:
            return "searched: input channels are best left as they are"
        return f"strength {self.strength:.2f} of {len(self.losses)} tried: {super().describe()}"


def search_smoothing(
    context: TransformContext, divisor_at: Callable[[float, LayerData], Tensor]
) -> SearchedSmoothing:
    """The candidate of smallest output error, among no smoothing and ``divisor_at(a)`` for all `STRENGTHS`.

    The error is that of rounding to nearest right behind the smoothing: the weight as its format says, and the input
    too where its format says so. The smallest loss wins, the weaker smoothing among equals; the result is therefore
    never worse than no smoothing on the rows searched on. Without rows (a layer that calibration never ran) nothing
    is smoothed.

    Args:
        context: Weight, calibration data and formats.
        divisor_at: Factors float32 ``[in]`` of a strength, from the data.

    Raises:
        RecipeError: There was no calibration, or a group size does not divide.
        NumericError: The weight or the calibrated input holds a NaN or an infinity.
    """
    ones = torch.ones(context.weight.shape[1], device=context.weight.device)
    data = context.data
    if data is None:
        raise RecipeError(
            "the search for a smoothing strength needs calibration",
            place=context.place,
            remedy="Pass calibration inputs, or turn smoothing off.",
        )
    if not len(data.rows):
        return SearchedSmoothing(ones, None)
    require_finite(data.rows, place=f"input of {context.place}")
    candidates: list[tuple[float | None, Tensor]] = [(None, ones)]
    candidates += [(a, divisor_at(a, data).to(ones.device)) for a in STRENGTHS]
    rows = data.rows[:: -(-len(data.rows) // SEARCH_ROWS)].to(ones.device, torch.float32)
    exact = rows @ context.weight.float().T
    losses = [_relative_error(context, rows, exact, divisor) for _, divisor in candidates]
    best = min(range(len(losses)), key=losses.__getitem__)
    strength, divisor = candidates[best]
    tried = tuple((a, loss) for (a, _), loss in zip(candidates, losses, strict=True))
    return SearchedSmoothing(divisor, strength, tried)


def rounded_output(
    weight: Tensor,
    rows: Tensor,
    divisor: Tensor,
    weight_spec: QuantSpec | None,
    activation_spec: QuantSpec | None,
    *,
    place: str = "",
) -> Tensor:
    """``Q(x / c) Q(c W)^T`` with min-max scales: float32 ``[n, out]``; a format of None rounds nothing.

    Args:
        weight: float64 ``[out, in]``.
        rows: float32 ``[n, in]``.
        divisor: float32 ``[in]``, the factors c.
        weight_spec: Format of the weight.
        activation_spec: Format of the input; per tensor means one scale for all rows.
        place: Named in errors.

    Raises:
        NumericError: Something is not finite.
        RecipeError: A group size does not divide.
    """
    scaled, x = (weight * divisor.double()).float(), rows / divisor
    if weight_spec is not None:
        scaled = round_to_nearest(scaled, weight_spec, place=place)
    if activation_spec is not None:
        x = round_to_nearest(x, activation_spec, place=f"input of {place}")
    return x @ scaled.T


def _relative_error(context: TransformContext, rows: Tensor, exact: Tensor, divisor: Tensor) -> float:
    output = rounded_output(
        context.weight, rows, divisor, context.weight_spec, context.activation_spec, place=context.place
    )
    energy = float(exact.double().square().sum())
    error = float((output.double() - exact).square().sum())
    return error / energy if energy else error


@TRANSFORMS.register("smoothing_search")
def prepare_search(context: TransformContext) -> SearchedSmoothing:
    """SmoothQuant's balance ``max|x|^a / max|w|^(1-a)`` with a searched on the output error.

    Our reading: the parameter that CLQ searches across layers is this exponent, layer after layer, each on what the
    quantized layers before it produce (setting ``inputs``: quantized). No smoothing is among the candidates.

    Raises:
        As `search_smoothing`.

    Source:
        CLQ (arXiv:2509.24416), cross-layer parameter search.
    """
    weight_peaks = context.weight.abs().amax(dim=0)

    def balance(strength: float, data: LayerData) -> Tensor:
        return smoothing_divisor(data.absmax.to(weight_peaks.device), weight_peaks, strength)

    return search_smoothing(context, balance)
