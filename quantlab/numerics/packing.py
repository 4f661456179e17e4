"""Codes as they lie in a file: two to a byte up to 4 bits, one above. And how many bytes that makes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from quantlab.errors import NumericError
from quantlab.numerics.formats import QuantSpec, scale_shape

SCALE_BYTES = 4
"""Scales are float32."""
ZERO_POINT_BYTES = 1
"""A zero point is a code, so one byte holds it."""


def pack(codes: Tensor, spec: QuantSpec) -> Tensor:
    """Lay codes out for storage.

    Args:
        codes: int8 (symmetric) or uint8 (asymmetric), ``[..., n]``, within the range of ``spec``.
        spec: The format; up to 4 bits two codes share a byte, the first in the lower half.

    Returns:
        uint8 ``[..., ceil(n / 2)]`` up to 4 bits (an odd row ends in half a byte of zeros), else ``codes``
        itself.

    Raises:
        NumericError: A code is outside the range of ``spec``.
    """
    if codes.numel() and not spec.low <= int(codes.amin()) <= int(codes.amax()) <= spec.high:
        problem = f"codes reach from {int(codes.amin())} to {int(codes.amax())}"
        raise NumericError(problem, remedy=f"{spec.bits} bits hold {spec.low} to {spec.high}.")
    if spec.bits > 4:
        return codes
    width = codes.shape[-1]
    nibbles = codes.to(torch.uint8) & 0x0F
    if width % 2:
        nibbles = torch.nn.functional.pad(nibbles, (0, 1))
    return nibbles[..., 0::2] | nibbles[..., 1::2] << 4


def unpack(packed: Tensor, spec: QuantSpec, width: int) -> Tensor:
    """The codes ``[..., width]`` that `pack` laid out: int8 when symmetric, uint8 when not.

    Raises:
        NumericError: The rows of ``packed`` are not as long as ``width`` codes need.
    """
    expected = -(-width // 2) if spec.bits <= 4 else width
    if packed.shape[-1] != expected:
        problem = f"packed rows of {packed.shape[-1]} bytes do not hold {width} codes of {spec.bits} bits"
        raise NumericError(problem, remedy="Load the checkpoint again; it may be cut short.")
    if spec.bits > 4:
        return packed
    if spec.symmetric:
        signed = packed.view(torch.int8)
        pairs = torch.stack([signed << 4, signed], dim=-1).bitwise_right_shift_(4)  # which keeps the sign
    else:
        pairs = torch.stack([packed & 0x0F, packed >> 4], dim=-1)
    return pairs.flatten(-2)[..., :width].contiguous()


def packed_bytes(shape: Sequence[int], spec: QuantSpec | None) -> int:
    """Bytes of a weight of ``shape`` in a file: codes, scales and zero points; None is a weight kept in 16
    bits.

    Raises:
        RecipeError: ``group_size`` does not divide the last dimension.
    """
    if spec is None:
        return 2 * prod(shape)
    width = shape[-1] if shape else 1
    row = -(-width // 2) if spec.bits <= 4 else width
    overhead = SCALE_BYTES if spec.symmetric else SCALE_BYTES + ZERO_POINT_BYTES
    return prod(shape[:-1]) * row + prod(scale_shape(shape, spec)) * overhead
