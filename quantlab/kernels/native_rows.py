"""A layer's input smoothed, rotated and rounded in one pass of our own C code. The product is not here."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quantlab.errors import NumericError
from quantlab.kernels import native
from quantlab.kernels.activations import DynamicActivations, StaticActivations
from quantlab.methods.rotation import HadamardRotation
from quantlab.methods.smoothing import Smoothing
from quantlab.numerics.hadamard import mixing_factors, signs
from quantlab.numerics.paley import hadamard_matrix
from quantlab.numerics.ranges import Range, minmax_range

TILE, STEP, LANES = 16, 64, 16
"""Rows and columns of a tile of codes, and values of a vector, as in the C files."""
_SMALL = 1 << 16
"""Values that are not worth a thread of their own."""


class Rows(ctypes.Structure):
    """``struct rows`` of native/rows.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "tiles", "scale", "zero", "factors", "mixed", "base")),
        *((name, ctypes.c_int64) for name in ("rows", "depth", "passes", "order", "dtype", "gelu", "fixed")),
        *((name, ctypes.c_float) for name in ("fixed_scale", "fixed_zero", "low", "high", "clip")),
    )


@dataclass(frozen=True, slots=True)
class Codes:
    """A rounded input, as the product reads it: it stands for ``(codes - zero) * scale``.

    Attributes:
        tiles: uint8 ``[ceil(rows / 16), ceil(in / 64), 16, 64]``; what is beyond the input is not defined.
        scale: float32 ``[rows]``.
        zero: int32 ``[rows]``; None where it is 128 throughout.
    """

    tiles: Tensor
    scale: Tensor
    zero: Tensor | None

    def rows(self, width: int) -> Tensor:
        """uint8 ``[rows, width]``."""
        return self.tiles.transpose(1, 2).flatten(2).flatten(0, 1)[: len(self.scale), :width]


class NativeRounding(nn.Module):
    """Rounds an input as `quantlab.kernels.activations` does, behind the transforms that C knows.

    Without transforms the codes are those of the reference bit for bit; behind them but for values within 1e-4 of a
    step of a tie. Rows in bfloat16 are transformed in float32 with nothing rounded in between.

    Args:
        activations: The rounding.
        transforms: Of those that `knows` affirms, in this order.
        width: Of the input.

    Attributes:
        gelu: Whether the exact GELU of the input takes its place first, in float32, within 1e-6.
    """

    factors: Tensor
    mixed: Tensor
    base: Tensor | None

    def __init__(
        self,
        activations: DynamicActivations | StaticActivations,
        transforms: Sequence[nn.Module],
        width: int,
    ) -> None:
        super().__init__()
        self.spec, self.place, self.width = activations.spec, activations.place, width
        factors, mixed = passes(transforms, width)
        self.register_buffer("factors", factors, persistent=False)
        self.register_buffer("mixed", mixed, persistent=False)
        self.register_buffer("base", base_matrix(transforms), persistent=False)
        self.clip, self.fixed, self.gelu = 1.0, None, False
        if isinstance(activations, StaticActivations):
            self.fixed = _numbers(Range(activations.scale, activations.zero_point))
        else:
            self.clip = activations.clip

    def forward(self, x: Tensor) -> Codes:
        """Round ``x`` ``[rows, in]``, contiguous float32 or bfloat16.

        Raises:
            NumericError: A row holds a NaN or an infinity.
        """
        count, steps = len(x), -(-self.width // STEP)
        tiles = torch.empty(-(-count // TILE), steps, TILE, STEP, dtype=torch.uint8)
        scale = torch.empty(count)
        zero = None if self.spec.symmetric else torch.empty(count, dtype=torch.int32)
        fixed = self._fixed(x)
        task = Rows(
            *map(address, (x, tiles, scale, zero, self.factors, self.mixed, self.base)),
            *(count, self.width, len(self.mixed), 0 if self.base is None else len(self.base)),
            x.dtype == torch.bfloat16,
            *(self.gelu, fixed is not None),
            *(fixed or (0.0, 0.0)),
            *(self.spec.low, self.spec.high, self.clip),
        )
        call = native.function("rows")
        step = TILE * max(1, _SMALL // (self.width * TILE))
        answers = native.share(lambda *ends: call(ctypes.byref(task), *ends), count, step=step)
        for row in (answer for answer in answers if answer != -1):
            native.require_memory(row)
            raise NumericError(
                f"row {row} of the input holds a NaN or an infinity",
                place=self.place,
                remedy="Find the weight or the layer that made it.",
            )
        return Codes(tiles, scale, zero)

    def _fixed(self, x: Tensor) -> tuple[float, float] | None:
        """Scale and zero point that all rows share."""
        if self.fixed is not None or self.spec.granularity != "tensor":
            return self.fixed
        scale, zero = _numbers(minmax_range(x, self.spec, place=self.place))
        return scale * self.clip, zero


def knows(transform: nn.Module) -> bool:
    """Whether C can run a transform: smoothing, and rotations of blocks of 2**k, or of 2**k times one other order."""
    if type(transform) is HadamardRotation:
        base, power = _split(transform)
        return base == 1 or power >= LANES
    return type(transform) is Smoothing


def base_matrix(transforms: Sequence[nn.Module]) -> Tensor | None:
    """What mixes whole blocks of mixed neighbours: +1 and -1, float32 ``[order, order]``; None for powers of two.

    The rotations of a layer are of one width, and so of one order.
    """
    orders = {_split(transform)[0] for transform in transforms if isinstance(transform, HadamardRotation)}
    order = max(orders, default=1)
    return None if order == 1 else torch.from_numpy(hadamard_matrix(order).T.copy()).float()


def _split(transform: HadamardRotation) -> tuple[int, int]:
    """The order that is no power of two (else 1), and the power of two, of the blocks of a rotation."""
    block = transform.rotation.block
    factors = mixing_factors(transform.rotation.width)
    base = factors[0] if factors and factors[0] & (factors[0] - 1) else 1
    return base, block // base


def passes(transforms: Sequence[nn.Module], width: int) -> tuple[Tensor, Tensor]:
    """Transforms that `knows` affirms as what C runs: multiply each column with a factor, then mix neighbours.

    Returns:
        float32 ``[passes, width]`` of factors, into which signs and norms are drawn; int64 ``[passes]``, how many
        neighbours each pass mixes.
    """
    factors: list[Tensor] = []
    mixed: list[int] = []
    factor = torch.ones(width, dtype=torch.float64)
    for transform in transforms:
        if isinstance(transform, Smoothing):
            factor = factor / transform.divisor.double()
        elif isinstance(transform, HadamardRotation):
            rotation = transform.rotation
            factor = factor * signs(width, rotation.seed, torch.float64, torch.device("cpu"))
            factors.append(factor / math.sqrt(rotation.block))
            mixed.append(_split(transform)[1])
            factor = torch.ones_like(factor)
    if bool((factor != 1).any()):
        factors.append(factor)
        mixed.append(1)
    stacked = torch.stack(factors) if factors else torch.empty(0, width)
    return stacked.float(), torch.tensor(mixed, dtype=torch.int64)


def address(tensor: Tensor | None) -> int | None:
    """Where C finds the values; None is its NULL."""
    return None if tensor is None else tensor.data_ptr()


def _numbers(chosen: Range) -> tuple[float, float]:
    return float(chosen.scale), 128.0 if chosen.zero_point is None else float(chosen.zero_point)
