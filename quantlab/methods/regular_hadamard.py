"""Rotation of groups of channels by a regular Hadamard matrix, whose rows and columns all have one sum. No signs."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from quantlab.errors import RecipeError
from quantlab.methods.transforms import TRANSFORMS, Transform, TransformContext
from quantlab.numerics.rounding import working_dtype

GROUPS = (4, 16, 64, 256)
"""Powers of 4: the regular orders 4 u^2 that a Kronecker power of the smallest reaches."""


class RegularHadamard(Transform):
    """x R while running, W R folded once in float64, R = diag(H, ..., H) with H = H_4 x ... x H_4 orthonormal.

    H_4 has one -1 in each row and column, so that every row and column of H sums to 1: no channel is the mean of its
    group, as the first one is behind a Sylvester matrix, and a common offset of a group stays a common offset instead
    of becoming one tall channel. H is symmetric and its own inverse. A group costs 8 to 32 multiplications a channel,
    whatever the width.

    Args:
        group: How many neighbouring channels are mixed: one of `GROUPS`, or 1 (nothing is).

    Source:
        ConvRot (arXiv:2512.03673), group-wise regular Hadamard transform.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """``x R``, ``[..., in] -> [..., in]`` in the dtype of ``x``; half precision is mixed in float32."""
        if self.group == 1:
            return x
        working = working_dtype(x)
        inner = min(self.group, 16)
        blocks = x.to(working).reshape(-1, self.group // inner, inner) @ regular_matrix(
            inner, working, x.device
        )
        if self.group > inner:
            blocks = regular_matrix(self.group // inner, working, x.device) @ blocks
        return blocks.reshape(x.shape).to(x.dtype)

    def fold(self, weight: Tensor) -> Tensor:
        """``weight R`` in float64."""
        return self(weight.double())

    def describe(self) -> str:
        """The group."""
        if self.group == 1:
            return "regular Hadamard: no group of 4 divides the width, nothing is mixed"
        return f"regular Hadamard over groups of {self.group} channels"


@lru_cache(maxsize=32)
def regular_matrix(order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal regular Hadamard matrix ``[order, order]`` of an order in `GROUPS`; rows sum to 1."""
    with torch.inference_mode(False):  # what is kept from there could take no part in a later learning
        smallest = 0.5 - torch.eye(4, dtype=dtype, device=device).flip(0)
        matrix = smallest
        while len(matrix) < order:
            matrix = torch.kron(matrix, smallest)
        return matrix


@TRANSFORMS.register("regular")
def prepare_regular(context: TransformContext) -> RegularHadamard:
    """The rotation for a layer of this width; it looks at no data.

    Our reading: without a group size of the recipe's, the largest of `GROUPS` that divides the width.

    Raises:
        RecipeError: The recipe's group is no regular order, or does not divide the width.
    """
    width = context.weight.shape[1]
    fitting = [group for group in GROUPS if width % group == 0]
    if context.group and context.group not in fitting:
        raise RecipeError(
            f"rotation_group {context.group} cannot rotate a width of {width}",
            place=context.place,
            remedy=f"Use one of: {', '.join(map(str, [0, *fitting]))}.",
        )
    return RegularHadamard(context.group or max(fitting, default=1))
