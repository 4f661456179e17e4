"""Learned mixing of input channels by two small matrices, whose inverse the weight takes. It learns nothing."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from quantlab.errors import NumericError
from quantlab.methods.transforms import TRANSFORMS, Transform, TransformContext
from quantlab.numerics.hadamard import Rotation, signs
from quantlab.numerics.rounding import working_dtype


class KroneckerTransform(Transform):
    """x D (P1 ⊗ P2) while running, W D (P1 ⊗ P2)^-T folded once in float64; D are seeded signs.

    The signs in front are our reading: with Hadamard factors the transform starts as the randomised Hadamard rotation
    of its widths, the best start known here that looks at no data. They are drawn again from width and seed.

    Args:
        first: Invertible ``[a, a]``, mixes channels that lie ``b`` apart.
        second: Invertible ``[b, b]``, mixes neighbours; ``a * b`` is the width.
        seed: Of the signs.

    Source:
        FlatQuant (arXiv:2410.09426), section 3.1; FGQ (arXiv:2605.15828).
    """

    first: Tensor
    second: Tensor

    def __init__(self, first: Tensor, second: Tensor, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("first", first.float())
        self.register_buffer("second", second.float())

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., in]`` in the dtype of ``x``; half precision is mixed in float32."""
        working = working_dtype(x)
        signed = x.to(working) * signs(x.shape[-1], self.seed, working, x.device)
        return mix(signed, self.first.to(working), self.second.to(working)).to(x.dtype)

    def fold(self, weight: Tensor) -> Tensor:
        """``weight D (P1 ⊗ P2)^-T`` in float64."""
        return fold(weight, self.first, self.second, self.seed)

    def describe(self) -> str:
        """The sizes of the factors."""
        return f"learned mixing, {len(self.first)} x {len(self.second)}"


def mix(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """``x (first ⊗ second)`` along the last dimension without building the product."""
    a, b = len(first), len(second)
    # Two large products instead of many small ones.
    turned = (x.reshape(-1, b) @ second).reshape(-1, a, b).transpose(1, 2)
    return (turned.reshape(-1, a) @ first).reshape(-1, b, a).transpose(1, 2).reshape(x.shape)


def fold(weight: Tensor, first: Tensor, second: Tensor, seed: int) -> Tensor:
    """The weight ``[out, in]`` that goes with inputs behind the signs and the factors, float64."""
    signed = weight.double() * signs(weight.shape[1], seed, torch.float64, weight.device)
    return mix(signed, torch.linalg.inv(first.double()).T, torch.linalg.inv(second.double()).T)


def split_width(width: int) -> tuple[int, int]:
    """Sizes (a, b), a <= b, of two factors as close to the square root of ``width`` as its divisors allow."""
    small = next(size for size in range(isqrt(width), 0, -1) if width % size == 0)
    return small, width // small


def starting_factors(width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Orthogonal factors to start from: Hadamard matrices, for an order without one a seeded random rotation."""
    first, second = split_width(width)
    return _orthogonal(first, seed), _orthogonal(second, seed)


def _orthogonal(order: int, seed: int) -> Tensor:
    """An orthogonal matrix ``[order, order]`` that mixes everything with everything, float32."""
    rotation = Rotation(order, seed)
    if rotation.block == order:
        return rotation.matrix().float().contiguous()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(order, order, generator=generator, dtype=torch.float64)
    turned, upper = torch.linalg.qr(drawn)
    # Without the signs of the diagonal the rotation would not be uniformly distributed.
    return (turned * upper.diagonal().sign()).float().contiguous()


@TRANSFORMS.register("kronecker")
def prepare_kronecker(context: TransformContext) -> KroneckerTransform:
    """The factors that reconstruction learned, or those it starts from.

    Raises:
        NumericError: A learned factor is singular or not finite.
    """
    learned = () if context.learned is None else context.learned.factors
    first, second = learned or starting_factors(context.weight.shape[1], context.seed)
    for factor in (first, second):
        if not bool(torch.linalg.cond(factor.double()).isfinite()):
            raise NumericError(
                "a learned mixing cannot be undone",
                place=context.place,
                remedy="Learn it again with a smaller step, or use rotation 'hadamard'.",
            )
    return KroneckerTransform(first, second, context.seed)
