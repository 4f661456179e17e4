"""Rounding of an attention's keys and values, head by head, in a rotated basis. It knows no network and no module."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.hadamard import Rotation
from quantlab.numerics.ranges import round_to_nearest
from quantlab.numerics.rounding import working_dtype

FULL_PRECISION = 16
HEADS_MIXED = 4
"""Heads that are rotated together at most; the paper groups heads, and how many is our reading."""


@dataclass(frozen=True, slots=True)
class KVFormat:
    """How keys and values are rounded.

    Attributes:
        bits: 2 to 8; 16 rounds nothing.
        rotation: "none" or "hadamard".
        protect: Special tokens (camera, registers) stay exact.
        seed: Of the rotation's signs.
    """

    bits: int
    rotation: str = "none"
    protect: bool = False
    seed: int = 0

    @property
    def spec(self) -> QuantSpec | None:
        """A scale and a zero point for each token and head; None where nothing is rounded."""
        if self.bits == FULL_PRECISION:
            return None
        return QuantSpec(self.bits, symmetric=False, granularity="token")


def round_heads(x: Tensor, chosen: KVFormat, *, special: Tensor | None = None, place: str = "") -> Tensor:
    """Keys or values as they come back from a cache of few bits: rotate, round, rotate back.

    Keys must come from before the rotary position: a rotation across channels does not commute with it, so the
    inverse is taken before the position is applied. Scales are taken from each token and head. The bits are
    asymmetric, because two signed bits would leave a single positive step. The paper also reorders channels before it
    rotates, so that each rotated group gets its share of outlier channels; that is left out (our reading): the keys
    of these networks leave a norm that all heads share, so groups of whole heads have equal shares already, and
    within a group a full Walsh-Hadamard transform gives every output an equal part of every channel in any order.

    Args:
        x: ``[..., tokens, heads, channels]``, any floating dtype.
        chosen: The format.
        special: bool ``[..., tokens]``, the tokens that ``protect`` keeps; None protects none. The paper protects
            attention sinks that it finds by their massive activations; that they are the camera and register tokens
            here is our reading.
        place: Named in an error.

    Returns:
        The same shape and dtype; protected tokens bit for bit.

    Raises:
        NumericError: ``x`` holds a NaN or an infinity.

    Source:
        RotateKV (arXiv:2501.16383), pre-RoPE grouped-head rotation and attention-sink-aware quantization.
    """
    if x.numel() == 0 or (chosen.spec is None and chosen.rotation == "none"):
        return x
    turned = rotate_heads(x.to(working_dtype(x)), chosen)
    rounded = turned if chosen.spec is None else round_to_nearest(turned, chosen.spec, place=place)
    result = unrotate_heads(rounded, chosen).to(x.dtype)
    if not chosen.protect or special is None:
        return result
    return torch.where(special[..., None, None], x, result)


def rotate_heads(x: Tensor, chosen: KVFormat) -> Tensor:
    """``x`` ``[..., heads, channels]`` with the channels of each group of heads mixed; same shape and dtype.

    The mixing is a Walsh-Hadamard transform behind random signs where the width allows it (`Rotation`).
    """
    if chosen.rotation == "none":
        return x
    grouped = _grouped(x)
    return Rotation(grouped.shape[-1], chosen.seed).apply(grouped).reshape(x.shape)


def unrotate_heads(x: Tensor, chosen: KVFormat) -> Tensor:
    """Undo `rotate_heads`."""
    if chosen.rotation == "none":
        return x
    grouped = _grouped(x)
    return Rotation(grouped.shape[-1], chosen.seed).apply_transposed(grouped).reshape(x.shape)


def heads_per_group(heads: int) -> int:
    """How many heads are rotated together: the largest power of two up to 4 that divides them."""
    return max(size for size in (1, 2, HEADS_MIXED) if heads % size == 0)


def _grouped(x: Tensor) -> Tensor:
    """``[..., groups, heads of a group x channels]``."""
    heads, channels = x.shape[-2:]
    size = heads_per_group(heads)
    return x.reshape(*x.shape[:-2], heads // size, size * channels)
