"""Smoothing: input channels divided by a factor that the weight takes, sharing outliers. It rounds nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quantlab.errors import NumericError, RecipeError
from quantlab.methods.transforms import TRANSFORMS, Transform, TransformContext

SPREAD = 1e4
"""A factor lies within this ratio of the geometric mean of all: a channel that is nearly silent in calibration would
otherwise be blown up without bound when it speaks later."""


class Smoothing(Transform):
    """x / c while running, c W folded once in float64.

    Args:
        divisor: Positive finite ``[in]``, the factor c of each input channel.

    Source:
        SmoothQuant (arXiv:2211.10438), equation 4; with the rotated weight it is the scale of QuantVGGT
        (arXiv:2509.21302), section 3.2.
    """

    step = "smoothed"
    divisor: Tensor

    def __init__(self, divisor: Tensor) -> None:
        super().__init__()
        self.register_buffer("divisor", divisor.float())

    def forward(self, x: Tensor) -> Tensor:
        """``x / c``, in the dtype of ``x``."""
        return x / self.divisor.to(x.dtype)

    def fold(self, weight: Tensor) -> Tensor:
        """``weight c`` in float64."""
        return weight.double() * self.divisor.double()

    def describe(self) -> str:
        """The range of the factors."""
        low, high = float(self.divisor.min()), float(self.divisor.max())
        return f"input channels divided by {low:.3g} to {high:.3g}"


def smoothing_divisor(peaks: Tensor, weight_peaks: Tensor, alpha: float) -> Tensor:
    """``c_j = max|x_j|^a / max|w_j|^(1-a)``, float32 ``[in]``, scaled to a geometric mean of 1.

    The common scale is free: rounding with scales taken from the data does not see it. A channel that is silent in
    the input or in the weight gets the geometric mean, 1.

    Args:
        peaks: ``[in]``, largest |x| of each channel.
        weight_peaks: ``[in]``, largest |w| of each input channel.
        alpha: 0 leaves all range in the input of equal weight columns; 1 gives every input channel the range 1.
    """
    x, w = peaks.double(), weight_peaks.double()
    speaks = (x > 0) & (w > 0)
    logarithm = torch.where(speaks, alpha * x.log() - (1 - alpha) * w.log(), 0.0)
    if bool(speaks.any()):
        logarithm = torch.where(speaks, logarithm - logarithm[speaks].mean(), 0.0)
    return bounded(logarithm)


def bounded(logarithm: Tensor) -> Tensor:
    """Factors float32 from their logarithms, none beyond `SPREAD` or its inverse."""
    limit = math.log(SPREAD)
    return logarithm.clamp(-limit, limit).exp().float()


@TRANSFORMS.register("smoothing")
def prepare_smoothing(context: TransformContext) -> Smoothing:
    """Smoothing from the calibrated input range and the weight as the transforms before it left it.

    Raises:
        RecipeError: There was no calibration.
        NumericError: The calibrated range holds a NaN or an infinity.
    """
    if context.peaks is None:
        raise RecipeError(
            "smoothing needs calibration",
            place=context.place,
            remedy="Pass calibration inputs, or turn smoothing off.",
        )
    if not bool(context.peaks.isfinite().all()):
        raise NumericError(
            "the calibrated input range is not finite",
            place=context.place,
            remedy="Check the calibration scenes.",
        )
    return Smoothing(smoothing_divisor(context.peaks, context.weight.abs().amax(dim=0), context.alpha))


@TRANSFORMS.register("smoothing_learned")
def learned_smoothing(context: TransformContext) -> Smoothing:
    """The factors that reconstruction learned.

    Raises:
        RecipeError: Nothing was learned.
    """
    if context.learned is None or context.learned.divisor is None:
        raise RecipeError(
            "nothing was learned for this layer",
            place=context.place,
            remedy="Turn reconstruction on, or choose another smoothing rule.",
        )
    return Smoothing(context.learned.divisor)
