"""Rotation of a layer's input by a seeded randomised Hadamard matrix, and of its weight to match. Layers stay apart."""

from __future__ import annotations

from torch import Tensor

from quantlab.methods.transforms import TRANSFORMS, Transform, TransformContext
from quantlab.numerics.hadamard import Rotation


class HadamardRotation(Transform):
    """x Q while running, W Q folded once in float64. Nothing is stored but width and seed.

    Only the input of a linear layer is turned, never queries or keys between their norm and the rotary position,
    where a rotation would not commute.

    Source:
        QuaRot (arXiv:2404.00456), section 4; QuantVGGT (arXiv:2509.21302), section 3.2.
    """

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.rotation = Rotation(width, seed)

    def forward(self, x: Tensor) -> Tensor:
        """``x Q``, ``[..., in] -> [..., in]``."""
        return self.rotation.apply(x)

    def fold(self, weight: Tensor) -> Tensor:
        """``weight Q`` in float64."""
        return self.rotation.fold(weight.double())

    def describe(self) -> str:
        """The blocks that are mixed."""
        return f"Hadamard, {self.rotation.describe()}"


@TRANSFORMS.register("hadamard")
def prepare_rotation(context: TransformContext) -> HadamardRotation:
    """The rotation for a layer of this width; it looks at no data."""
    return HadamardRotation(context.weight.shape[1], context.seed)
