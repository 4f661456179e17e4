"""Refusal of NaN and infinity with the place they were found in. It repairs nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from quantlab.errors import NumericError


def require_finite(x: Tensor, *, place: str = "") -> None:
    """Pass over ``x`` once and refuse a NaN or an infinity.

    Raises:
        NumericError: Says how many of which kind, and ``place``.
    """
    # One sum is four times cheaper than isfinite().all(); a sum of large finite values may overflow, so look
    # again.
    if x.numel() == 0 or bool(x.sum().isfinite()) or bool(x.isfinite().all()):
        return
    nans = int(x.isnan().sum())
    infinities = int(x.isinf().sum())
    found = " and ".join(
        f"{count} {kind}" for count, kind in ((nans, "NaN"), (infinities, "infinity")) if count
    )
    raise NumericError(
        f"{found} among {x.numel()} values", place=place, remedy="Find the weight or the layer that made it."
    )


def require_values(x: Tensor, *, place: str = "") -> None:
    """Refuse an empty tensor, and one that does not hold real floating numbers.

    Raises:
        NumericError: Names the shape or the dtype, and ``place``.
    """
    if not x.is_floating_point():
        name = str(x.dtype).removeprefix("torch.")
        remedy = "Pass the full-precision tensor; a quantized one cannot be quantized again."
        raise NumericError(f"{name} values are not floating point numbers", place=place, remedy=remedy)
    if x.numel() == 0:
        shape = list(x.shape)
        raise NumericError(f"a tensor of shape {shape} holds no values", place=place, remedy="Leave it out.")


FLOAT32_MAX = torch.finfo(torch.float32).max
FLOAT32_TINY = torch.finfo(torch.float32).tiny
