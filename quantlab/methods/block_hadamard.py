"""Hadamard rotation of blocks of channels, the channels dealt over the blocks by outlier score. It rounds nothing."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from quantlab.errors import NumericError, RecipeError
from quantlab.methods.transforms import TRANSFORMS, Transform, TransformContext
from quantlab.numerics.hadamard import Rotation, mixing_factors

MOST = 128
"""Channels of a block where the recipe leaves the choice: as many as commonly share a scale."""


class BlockHadamard(Transform):
    """x P B while running, W P B folded once in float64: a permutation, then one seeded Hadamard for every block.

    Args:
        order: int64 ``[in]``, a permutation: the channel that comes to each place. Neighbours share a block.
        block: Channels of a block; divides the width and is an order that `Rotation` mixes whole.
        seed: Of the random signs in front of the mixing, the same in every block.

    Source:
        CLQ (arXiv:2509.24416), orthogonal smoothing by outlier score and block Hadamard.
    """

    order: Tensor

    def __init__(self, order: Tensor, block: int, seed: int) -> None:
        super().__init__()
        self.rotation = Rotation(block, seed)
        self.register_buffer("order", order)

    def forward(self, x: Tensor) -> Tensor:
        """``x P B``, ``[..., in] -> [..., in]`` in the dtype of ``x``."""
        dealt = x.index_select(-1, self.order.to(x.device))
        return self.rotation.apply(dealt.unflatten(-1, (-1, self.rotation.width))).flatten(-2)

    def fold(self, weight: Tensor) -> Tensor:
        """``weight P B`` in float64."""
        return self(weight.double())

    def describe(self) -> str:
        """Number and size of the blocks."""
        block = self.rotation.width
        if block == 1:
            return "block Hadamard: no order divides the width, nothing is mixed"
        return f"{len(self.order) // block} Hadamard blocks of {block} channels, outliers dealt over all"


def deal(scores: Tensor, blocks: int) -> Tensor:
    """A permutation of channels that gives each of ``blocks`` its share of the outliers: int64 ``[in]``.

    Channels in descending order of score are dealt to the blocks to and fro, as cards are, so that neither the first
    block gets the larger one in every round nor any block two of the largest while another has none.

    Args:
        scores: ``[in]``, larger is more of an outlier; equal ones keep their order.
        blocks: Divides ``in``.
    """
    rounds = scores.argsort(descending=True, stable=True).reshape(-1, blocks).clone()
    rounds[1::2] = rounds[1::2].flip(1)
    return rounds.T.reshape(-1)


def block_orders(width: int) -> list[int]:
    """Sizes of blocks that divide ``width`` and are mixed whole, ascending from 1."""
    divisors = (size for size in range(1, width + 1) if width % size == 0)
    return [size for size in divisors if prod(mixing_factors(size)) == size]


@TRANSFORMS.register("block_hadamard")
def prepare_block_hadamard(context: TransformContext) -> BlockHadamard:
    """The blocks for a layer, from the calibrated range of its input channels.

    Our reading, where the paper is silent: the outlier score of a channel is its largest magnitude; blocks are of
    equal size, the largest up to `MOST` that fits where the recipe names none; a single block needs no dealing, and
    channels keep their order.

    Raises:
        RecipeError: There was no calibration, or the recipe's group is no Hadamard order that divides the width.
        NumericError: The calibrated range holds a NaN or an infinity.
    """
    width = context.weight.shape[1]
    orders = block_orders(width)
    if context.group and context.group not in orders[1:]:
        raise RecipeError(
            f"rotation_group {context.group} cannot rotate a width of {width}",
            place=context.place,
            remedy=f"Use one of: {', '.join(map(str, [0, *orders[1:]]))}.",
        )
    block = context.group or max(size for size in orders if size <= MOST)
    if context.peaks is None:
        raise RecipeError(
            "dealing channels by their outliers needs calibration",
            place=context.place,
            remedy="Pass calibration inputs, or use rotation 'hadamard'.",
        )
    if not bool(context.peaks.isfinite().all()):
        raise NumericError(
            "the calibrated input range is not finite",
            place=context.place,
            remedy="Check the calibration scenes.",
        )
    order = deal(context.peaks, width // block) if 1 < block < width else torch.arange(width)
    return BlockHadamard(order, block, context.seed)
