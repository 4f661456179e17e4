"""What calibration saw at one layer's input: sampled rows, extremes, second moments, gradients. It collects nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quantlab.models.tokens import KINDS


@dataclass(frozen=True, slots=True, eq=False)
class LayerData:
    """Statistics of one layer's input, in one basis: that of the network, or behind a linear transform.

    Attributes:
        rows: float32 ``[n, in]``, sampled tokens; special tokens are all there as far as there is room.
        absmax: ``[in]``, largest |x| of each channel, over all tokens in the network's own basis.
        kinds: uint8 ``[n]``, the kind of each row, an index into `quantlab.models.tokens.KINDS`.
        gram: float64 ``[in, in]``, the sum of x xᵀ over all tokens; None where it was not asked for.
        tokens: How many tokens ``gram`` sums.
        gradients: float32 ``[n, out]``, of a loss at the layer's output for each row; None where not asked for.
    """

    rows: Tensor
    absmax: Tensor
    kinds: NDArray[np.uint8]
    gram: Tensor | None = None
    tokens: int = 0
    gradients: Tensor | None = None

    def through(self, transform: Callable[[Tensor], Tensor]) -> LayerData:
        """The same tokens behind a linear map of inputs ``[..., in] -> [..., in]``.

        The second moments follow exactly, T G Tᵀ; extremes are those of the sampled rows.
        """
        rows = transform(self.rows)
        gram = None if self.gram is None else transform(transform(self.gram).T)
        absmax = rows.abs().amax(dim=0) if len(rows) else transform(self.absmax[None])[0].abs()
        return replace(self, rows=rows, gram=gram, absmax=absmax)

    def only(self, *kinds: str) -> LayerData:
        """The rows of these token kinds. Second moments cannot be told apart afterwards and are dropped."""
        kept = np.isin(self.kinds, [KINDS.index(kind) for kind in kinds])
        if kept.all():
            return self
        if not kept.any():
            return self
        rows = self.rows[kept]
        gradients = None if self.gradients is None else self.gradients[kept]
        return LayerData(rows, rows.abs().amax(dim=0), self.kinds[kept], gradients=gradients)
