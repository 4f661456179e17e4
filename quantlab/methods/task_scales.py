"""Weight scales whose exponent the network's result decides: s = mean|x|ᵃ. The decision is taken elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from quantlab.errors import NumericError, RecipeError
from quantlab.methods.smoothing import Smoothing, bounded
from quantlab.methods.transforms import TRANSFORMS, TransformContext

EXPONENTS = tuple(step / 6 for step in range(7))
"""Candidates for a; 0 changes nothing. The paper says nothing of its grid."""


def strength_divisor(strength: Tensor, exponent: float) -> Tensor:
    """``s_j = mean|x_j|ᵃ``, float32 ``[in]``, scaled to a geometric mean of 1; a silent channel gets 1.

    A factor lies within the same bounds as those of other smoothing, so that a channel that is nearly silent in
    calibration is not blown up when it speaks later.

    Args:
        strength: ``[in]``, mean |x| of each channel.
        exponent: a; 0 gives ones.
    """
    x = strength.double()
    speaks = x > 0
    logarithm = torch.where(speaks, exponent * x.log(), 0.0)
    if bool(speaks.any()):
        logarithm = torch.where(speaks, logarithm - logarithm[speaks].mean(), 0.0)
    return bounded(logarithm)


@TRANSFORMS.register("smoothing_task")
def prepare_task_scale(context: TransformContext) -> Smoothing:
    """Scales of strong input channels go up in the weight, by the exponent that the settings hold.

    The exponent is searched block by block on the network's result (`quantlab.engine.task_scales`), of which the
    layer knows nothing. A layer that calibration never ran is left as it is.

    Raises:
        RecipeError: There was no calibration.
        NumericError: The calibrated input is not finite.

    Source:
        QVGGT (arXiv:2605.31124), task-aware scale search; the form of s is AWQ's (arXiv:2306.00978), equation 5.
    """
    if context.data is None:
        raise RecipeError(
            "task-aware scales need calibration",
            place=context.place,
            remedy="Pass calibration inputs, or turn smoothing off.",
        )
    rows = context.data.rows
    if not bool(rows.isfinite().all()):
        raise NumericError(
            "the calibrated input is not finite", place=context.place, remedy="Check the calibration scenes."
        )
    strength = rows.abs().double().mean(dim=0) if len(rows) else torch.zeros(rows.shape[1])
    return Smoothing(strength_divisor(strength, context.alpha))
