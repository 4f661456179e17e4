"""Seeded randomised Hadamard rotation of the last dimension, of any width, as a fast transform. It decides
nothing about where in a network a rotation may stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quantlab.errors import RecipeError
from quantlab.numerics.paley import hadamard_matrix, paley_orders
from quantlab.numerics.rounding import working_dtype


@dataclass(frozen=True)
class Rotation:
    """The orthogonal matrix ``Q = diag(signs) M``: random signs first, then a normalised Hadamard mixing
    ``M``.

    ``(X Q)(W Q)^T = X W^T``: rotate activations with `apply` and weights once with `fold`. The signs come
    before the mixing because behind it they would change nothing for symmetric rounding. Nothing is stored:
    equal width and seed give equal signs, everywhere.

    A Hadamard matrix is known here for ``2**k`` and for ``2**k`` times one order of Paley's constructions up
    to 128 (12, 20, 28, 36, 44, ...). Any other width is cut into equal blocks of the largest divisor that is
    such an order: 588 into 7 blocks of 84. A width without such a divisor (any odd one) gets its signs and no
    mixing; `block` is then 1, and `describe` says so.

    Attributes:
        width: Length of the last dimension.
        seed: Of the signs, from 0 to ``2**63 - 1``.

    Raises:
        RecipeError: ``width`` or ``seed`` is not a whole number in its range.

    Source:
        QuIP# (arXiv:2402.04396), section 3; QuantVGGT (arXiv:2509.21302), section 3.2.
    """

    width: int
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.width) is not int or self.width < 1:
            raise RecipeError(
                f"a rotation cannot have width {self.width!r}", remedy="Use a whole number from 1."
            )
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise RecipeError(
                f"a rotation cannot have seed {self.seed!r}", remedy="Use a whole number from 0."
            )

    @property
    def block(self) -> int:
        """How many neighbouring channels are mixed with each other; 1 means that nothing is mixed."""
        return prod(mixing_factors(self.width))

    def describe(self) -> str:
        """One line for a person: the blocks and the factors each is made of."""
        factors, block = mixing_factors(self.width), self.block
        if block == 1:
            return f"width {self.width}: no Hadamard order divides it, so random signs only, nothing is mixed"
        count = self.width // block
        blocks = "one block" if count == 1 else f"{count} blocks"
        return f"width {self.width}: {blocks} of {block} = " + " x ".join(map(str, factors))

    def apply(self, x: Tensor) -> Tensor:
        """``x Q`` along the last dimension, ``[..., width] -> [..., width]``, in the dtype of ``x``.

        Half precision is mixed in float32 and rounded once at the end.
        """
        self._require_width(x)
        working = working_dtype(x)
        signed = x.to(working) * signs(self.width, self.seed, working, x.device)
        return _mix(signed, _mixers(self.width, working, x.device)).to(x.dtype)

    def apply_transposed(self, x: Tensor) -> Tensor:
        """``x Q^T``, which undoes `apply`; shapes and dtypes as there."""
        self._require_width(x)
        working = working_dtype(x)
        backwards = [mixer.T for mixer in _mixers(self.width, working, x.device)]
        signed = _mix(x.to(working), backwards) * signs(self.width, self.seed, working, x.device)
        return signed.to(x.dtype)

    def fold(self, weight: Tensor) -> Tensor:
        """``weight Q``, ``[out, width]``, computed in float64: the weight that goes with rotated activations.

        Returns:
            float64 for a float64 weight, else float32 (half precision would round the rotation away).
        """
        return self.apply(weight.double()).to(working_dtype(weight))

    def matrix(self) -> Tensor:
        """``Q`` itself, float64 ``[width, width]``: for tests; everything else uses the transform."""
        return self.apply(torch.eye(self.width, dtype=torch.float64))

    def _require_width(self, x: Tensor) -> None:
        if x.dim() == 0 or x.shape[-1] != self.width:
            shape = list(x.shape)
            raise ValueError(f"a rotation of width {self.width} cannot turn a tensor of shape {shape}")


@cache
def mixing_factors(width: int) -> tuple[int, ...]:
    """Orders whose Kronecker product mixes one block; their product is the largest usable divisor."""
    best: tuple[int, ...] = ()
    for base in (1, *paley_orders()):
        if width % base == 0:
            rest = width // base
            factors = (*((base,) if base > 1 else ()), *_powers_of_two(rest & -rest))
            if prod(factors) > prod(best):
                best = factors
    return best


def _powers_of_two(power: int) -> tuple[int, ...]:
    """Split a power of two into as few factors up to 64 as possible, as equal as possible."""
    exponent = power.bit_length() - 1
    parts = -(-exponent // 6)
    return tuple(1 << (exponent * (i + 1) // parts - exponent * i // parts) for i in range(parts))


def _mix(x: Tensor, mixers: Sequence[Tensor]) -> Tensor:
    """Multiply each block of the last dimension by the Kronecker product of ``mixers``, one at a time."""
    shape = x.shape
    right = 1
    for mixer in reversed(mixers):
        order = len(mixer)
        x = x.reshape(-1, order) @ mixer if right == 1 else mixer.T @ x.reshape(-1, order, right)
        right *= order
    return x.reshape(shape)


def _mixers(width: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    return [_factor(order, dtype, device) for order in mixing_factors(width)]


@lru_cache(maxsize=64)
def _factor(order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal Hadamard matrix of one order."""
    exact: NDArray[np.float64] = hadamard_matrix(order) / np.sqrt(order)
    with torch.inference_mode(False):  # what is kept from there could take no part in a later learning
        return torch.from_numpy(exact).to(device, dtype)


@lru_cache(maxsize=64)
def signs(width: int, seed: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``[width]`` of +1 and -1, drawn on the CPU so that every machine draws the same."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False):  # as `_factor`
        return (torch.randint(0, 2, (width,), generator=generator) * 2 - 1).to(device, dtype)
