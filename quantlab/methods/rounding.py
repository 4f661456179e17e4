"""How a weight is put on the grid of scales chosen before, and the table of ways. It chooses no scale."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from quantlab.calibration.layer_data import LayerData
from quantlab.errors import RecipeError
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range
from quantlab.numerics.rounding import fake_quantize
from quantlab.registry import Registry

COLUMN_ORDERS = ("natural", "activation")


class WeightRounding(Protocol):
    """Rounds a weight ``[out, in]`` onto the grid of ``chosen``; the result has its shape and dtype.

    ``data`` is what calibration saw at the layer's input, in the basis of ``weight``; ``order`` is one of
    `COLUMN_ORDERS`; ``place`` is the layer named in an error.
    """

    def __call__(
        self,
        weight: Tensor,
        chosen: Range,
        spec: QuantSpec,
        *,
        data: LayerData | None,
        order: str,
        place: str,
    ) -> Tensor:
        """Round; values are exactly those that codes of ``chosen`` stand for."""


ROUNDINGS: Registry[WeightRounding] = Registry("rounding", RecipeError)


@ROUNDINGS.register("nearest")
def round_each(
    weight: Tensor, chosen: Range, spec: QuantSpec, *, data: LayerData | None, order: str, place: str
) -> Tensor:
    """Every weight to its nearest code, whatever the input is (``data`` and ``order`` do not matter).

    Source:
        Jacob et al. 2018 (arXiv:1712.05877), section 2.1.
    """
    del data, order, place
    return fake_quantize(weight, *chosen, spec)
