"""AWQ: input channels scaled in the weight by how loud they are, so that rounding hits them less. It rounds nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from quantlab.calibration.layer_data import LayerData
from quantlab.methods.smoothing import bounded
from quantlab.methods.smoothing_search import SearchedSmoothing, search_smoothing
from quantlab.methods.transforms import TRANSFORMS, TransformContext


def activation_divisor(loudness: Tensor, strength: float) -> Tensor:
    """``s_j = mean|x_j|^a / sqrt(max_j * min_j)``, float32 ``[in]``, of each channel's mean magnitude ``[in]``.

    The common factor is that of the published code. A silent channel gets 1, which lies in the middle, and takes no
    part in that factor; the published code gives it the smallest factor there is. Factors stay within 1 / `SPREAD`
    and `SPREAD`.
    """
    mean = loudness.double()
    speaks = mean > 0
    if not bool(speaks.any()):
        return torch.ones_like(mean, dtype=torch.float32)
    logarithm = strength * mean.log()
    heard = logarithm[speaks]
    logarithm = torch.where(speaks, logarithm - (heard.max() + heard.min()) / 2, 0.0)
    return bounded(logarithm)


@TRANSFORMS.register("smoothing_awq")
def prepare_awq(context: TransformContext) -> SearchedSmoothing:
    """The a of smallest ||Q(W diag s) diag(s)^-1 X - W X||, with s = mean|X|^a, on the calibrated rows.

    Scales of neighbouring columns are shared (granularity "group") as published; any other format works too. Our
    reading: where the input is rounded as well, the search sees it rounded. The published search for a clipping range
    of the weight is the setting ``range_search``, chosen apart.

    Raises:
        RecipeError: There was no calibration, or a group size does not divide.
        NumericError: The weight or the calibrated input holds a NaN or an infinity.

    Source:
        AWQ (arXiv:2306.00978), section 3.2, equations 4 and 5.
    """

    def by_loudness(strength: float, data: LayerData) -> Tensor:
        return activation_divisor(data.rows.abs().mean(dim=0), strength)

    return search_smoothing(context, by_loudness)
