"""The order in which the pixels of a scene are packed: a fixed shuffle that numpy and the browser both compute.

Because both sides know it, a packed point says which pixel it is without spending a byte on it. js/src/shuffle.js is
the same arithmetic; a test compares the two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import NumericError

ROUNDS = ((0x9E3779B1, 0x7F4A7C15), (0x85EBCA77, 0x165667B1), (0xC2B2AE3D, 0x27D4EB2F))
"""Odd factor and summand of each round: any odd factor is a bijection, these scatter neighbours well."""
MOST = 1 << 30


def shuffled(count: int, limit: int | None = None) -> NDArray[np.int64]:
    """The first ``limit`` of the numbers 0 .. count - 1 in the fixed order; every leading part is an even sample.

    Numbers of just enough bits are mixed one to one; a result that is too large is mixed again until it fits,
    which keeps it one to one (walking the cycle).

    Raises:
        NumericError: ``count`` is larger than the arithmetic of 32 bits allows.
    """
    if not 0 <= count <= MOST:
        raise NumericError(
            f"{count} points are more than {MOST}", place="points", remedy="Show fewer frames."
        )
    bits = max(1, (count - 1).bit_length())
    numbers = _mixed(np.arange(count if limit is None else min(limit, count), dtype=np.uint32), bits)
    too_large = np.flatnonzero(numbers >= count)
    while len(too_large):
        numbers[too_large] = _mixed(numbers[too_large], bits)
        too_large = too_large[numbers[too_large] >= count]
    return numbers.astype(np.int64)


def _mixed(numbers: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    mask = np.uint32((1 << bits) - 1)
    for factor, summand in ROUNDS:
        numbers = (numbers * np.uint32(factor) + np.uint32(summand)) & mask
        numbers = numbers ^ (numbers >> np.uint32((bits + 1) // 2))
    return numbers
