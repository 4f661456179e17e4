"""What block-wise reconstruction learned about one layer, as plain tensors. How it is learned is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """Parts of a layer that replace what a formula would choose; None leaves the formula.

    Attributes:
        divisor: float32 ``[in]``, divides the input channels; takes the place of the smoothing factors.
        weight_clip: float32 ``[out]`` (or one number, for a weight with one scale), share of each output channel's
            min-max range that its scales cover; takes the place of the range search.
        activation_clip: Share of a dynamic or static range that its scale covers.
        factors: Matrices of a learned transform (`quantlab.methods.kronecker`), in its own order.
    """

    divisor: Tensor | None = None
    weight_clip: Tensor | None = None
    activation_clip: float | None = None
    factors: tuple[Tensor, ...] = ()
