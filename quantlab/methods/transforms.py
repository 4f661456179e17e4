"""What every transform of a layer's input promises, and the table of them. No particular transform is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from quantlab.errors import RecipeError
from quantlab.registry import Registry

if TYPE_CHECKING:
    from quantlab.calibration.layer_data import LayerData
    from quantlab.methods.learned import Learned
    from quantlab.numerics.formats import QuantSpec


class Transform(nn.Module):
    """An invertible linear map T of a layer's input whose inverse the weight takes: (x T)(W T^-T)^T = x W^T.

    `forward` maps inputs ``[..., in]`` in their own dtype; `fold` maps a weight ``[out, in]`` in float64.

    Attributes:
        step: What people call an input behind it.
    """

    step = "rotated"

    def forward(self, x: Tensor) -> Tensor:
        """The transformed input, ``[..., in] -> [..., in]``."""
        return x

    def fold(self, weight: Tensor) -> Tensor:
        """The weight that goes with transformed inputs, float64 ``[out, in]``."""
        return weight

    def describe(self) -> str:
        """One line for a person."""
        return "nothing"


@dataclass(frozen=True, slots=True)
class TransformContext:
    """What a transform may look at while it is prepared.

    Attributes:
        weight: float64 ``[out, in]``, with the transforms before this one folded in.
        peaks: float ``[in]``, the largest |x| of each input channel behind the transforms before this one; None
            without calibration.
        alpha: Strength of smoothing.
        seed: Of anything random.
        place: Layer named in an error.
        data: What calibration saw, behind the transforms before this one; None without calibration.
        weight_spec: Format the weight will be rounded to; None where it is not.
        activation_spec: Format the input will be rounded to; None where it is not.
        group: Channels to mix together, where the transform has groups; 0 leaves the choice to it.
        learned: What reconstruction learned of the layer, for transforms that can be learned.
    """

    weight: Tensor
    peaks: Tensor | None
    alpha: float
    seed: int
    place: str
    data: LayerData | None = None
    weight_spec: QuantSpec | None = None
    activation_spec: QuantSpec | None = None
    group: int = 0
    learned: Learned | None = None


class TransformFactory(Protocol):
    """Prepares a transform for one layer."""

    def __call__(self, context: TransformContext) -> Transform:
        """Prepare; the transform is exact before any rounding."""


TRANSFORMS: Registry[TransformFactory] = Registry("transform", RecipeError)
