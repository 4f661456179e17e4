"""A layer's input as uint8 codes for integer products, in few passes. What is multiplied with them is not here.

The codes are those of `quantlab.kernels.activations` bit for bit: the same scales, the same division, the same ties.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from quantlab.kernels.activations import Activations, DynamicActivations, StaticActivations, TwinActivations
from quantlab.methods.twin import negative_scale, positive_scale, twin_codes
from quantlab.numerics.finite import require_finite
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range, minmax_range

OFFSET = 128
"""What is added to signed codes, so that they are bytes without a sign: then it is also their zero point."""
_ROUND = 1.5 * 2.0**23
"""Added to a float32 within +-2^22 it leaves no fraction: ties go to even, and the low byte is the integer's."""
_BLOCK = 1 << 18
"""Values that are rounded at once on a CPU: their float32 stay in its cache."""
KNOWN = (DynamicActivations, StaticActivations, TwinActivations)
"""The kinds of rounding that are repeated here."""
_own = threading.local()


class Codes(NamedTuple):
    """Codes of some rows; they stand for ``(codes - zero) * scale``.

    Attributes:
        codes: uint8 ``[rows, in]``.
        scale: float32 ``[rows, 1]``, or ``[]`` where all rows share it.
        zero: The code of 0; a tensor of ints ``[rows, 1]`` where it differs from row to row.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | int


def fixed_range(x: Tensor, activations: Activations) -> Range | None:
    """The scale that all rows of ``x`` ``[rows, in]`` share, or None where every row has its own.

    Raises:
        NumericError: ``x`` holds a NaN or an infinity, and its range is needed.
    """
    if isinstance(activations, StaticActivations):
        return Range(activations.scale, activations.zero_point)
    if isinstance(activations, TwinActivations) and activations.scale is not None:
        return Range(activations.scale, None)
    if activations.spec.granularity != "tensor":
        return None
    if isinstance(activations, TwinActivations):
        return Range(positive_scale(x, activations.spec, place=activations.place), None)
    return _own_range(x, activations)


def activation_codes(x: Tensor, activations: Activations, fixed: Range | None) -> tuple[Codes, ...]:
    """Round rows; a twin quantizer gives two sets of codes whose values add up, any other one.

    Args:
        x: ``[rows, in]``, behind the layer's transforms; any floating dtype up to float32.
        activations: What rounds the layer's input; one of `KNOWN`.
        fixed: What `fixed_range` answered for all rows.

    Raises:
        NumericError: ``x`` holds a NaN or an infinity.
    """
    if isinstance(activations, TwinActivations):
        return _twin(x, activations, fixed)
    spec = activations.spec
    if isinstance(activations, StaticActivations):
        require_finite(x, place=activations.place)
    chosen = _own_range(x, activations) if fixed is None else fixed
    scale = chosen.scale if chosen.scale.dim() == 0 else chosen.scale.reshape(-1, 1)
    zero: Tensor | int = OFFSET
    if chosen.zero_point is not None:
        zero = chosen.zero_point.reshape(scale.shape)
    inside = spec.symmetric and getattr(activations, "clip", 0.0) == 1.0
    return (Codes(_rounded(x, scale, zero, spec, bounded=not inside), scale, zero),)


def _own_range(x: Tensor, activations: Activations) -> Range:
    """The scales that a dynamic rounding takes from ``x`` ``[rows, in]``."""
    if not isinstance(activations, DynamicActivations):
        raise TypeError(f"{type(activations).__name__} rounds in a way that is not known here")
    spec = activations.spec
    if spec.symmetric:  # then the largest magnitude of a row is all that its scale depends on
        x = _peaks(x)
    chosen = minmax_range(x, spec, place=activations.place)
    return chosen if activations.clip == 1.0 else Range(chosen.scale * activations.clip, chosen.zero_point)


def _rounded(x: Tensor, scale: Tensor, zero: Tensor | int, spec: QuantSpec, *, bounded: bool) -> Tensor:
    """uint8 ``[rows, in]``: the nearest code, and within the format where a value might lie beyond it."""
    # A tensor without dimensions would be divided by in the dtype of x.
    scale = scale.reshape(-1, 1)
    own = zero if isinstance(zero, Tensor) else torch.zeros((), device=x.device)
    low, high = (spec.low - own).to(torch.float32), (spec.high - own).to(torch.float32)
    if x.device.type != "cpu":
        steps = torch.div(x.float(), scale).round_()
        return steps.clamp_(low, high).add_(zero).to(torch.uint8)
    out = torch.empty(x.shape, dtype=torch.uint8)
    for block in _blocks(x):
        steps = _scratch(x[block].shape)
        torch.div(x[block], _part(scale, block), out=steps)
        if bounded:
            steps.clamp_(_part(low, block), _part(high, block))
        # An offset that is even keeps the parity that ties go by; a zero point may be odd, and is added to the bytes.
        steps.add_(_ROUND if isinstance(zero, Tensor) else _ROUND + zero)
        out[block].copy_(steps.view(torch.int32))
        if isinstance(zero, Tensor):
            out[block] += _part(zero, block).to(torch.uint8)
    return out


def _peaks(x: Tensor) -> Tensor:
    """The largest magnitude of each row, float32 ``[rows, 1]``; NaN where there is one."""
    if x.device.type != "cpu":
        return x.abs().amax(dim=1, keepdim=True).float()
    peaks = torch.empty(len(x), 1)
    for block in _blocks(x):
        peaks[block] = _scratch(x[block].shape).copy_(x[block]).abs_().amax(dim=1, keepdim=True)
    return peaks


def _blocks(x: Tensor) -> Iterator[slice]:
    rows = max(1, _BLOCK // max(1, x.shape[1]))
    return (slice(start, start + rows) for start in range(0, len(x), rows))


def _part(value: Tensor, block: slice) -> Tensor:
    return value[block] if value.dim() and len(value) > 1 else value


def _scratch(shape: torch.Size) -> Tensor:
    """float32 that this thread alone overwrites from call to call: fresh memory costs more than the arithmetic."""
    held: Tensor | None = getattr(_own, "values", None)
    if held is None or held.numel() < shape.numel():
        with torch.inference_mode(mode=False):  # what is made in inference mode may not be changed outside it
            held = _own.values = torch.empty(max(_BLOCK, shape.numel()))
    return held[: shape.numel()].view(shape)


def _twin(x: Tensor, activations: TwinActivations, fixed: Range | None) -> tuple[Codes, ...]:
    """The two sides of a twin quantizer, each 0 where the other is not."""
    spec = activations.spec
    if fixed is None:
        scale = positive_scale(x, spec, place=activations.place).reshape(-1, 1)
    else:
        require_finite(x, place=activations.place)
        scale = fixed.scale
    signed = twin_codes(x, scale, spec)
    sides = signed.clamp(min=0), signed.clamp(max=0)
    steps = scale, torch.full_like(scale, negative_scale(spec.bits))
    return tuple(
        Codes(side.view(torch.uint8).bitwise_xor_(OFFSET), step, OFFSET)  # adds 128
        for side, step in zip(sides, steps, strict=True)
    )
