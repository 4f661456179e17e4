"""Numbers to integer codes and back, with a given scale. Choosing the scale is `quantlab.numerics.ranges`."""

from __future__ import annotations

import torch
from torch import Tensor

from quantlab.errors import NumericError
from quantlab.numerics.formats import QuantSpec, group_length, scale_shape


def quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor | None, spec: QuantSpec, *, place: str = ""
) -> Tensor:
    """Round ``x / scale`` to the nearest code (ties to even) and clamp it into the format.

    Args:
        x: Any floating tensor; half precision is divided in float32.
        scale: float32, finite and positive, of shape ``scale_shape(x.shape, spec)``.
        zero_point: Integers of the same shape for an asymmetric format, else None.
        spec: The format.
        place: Layer or tensor named in an error.

    Returns:
        Codes of the shape of ``x``: int8 when symmetric, uint8 when not.

    Raises:
        NumericError: ``x`` holds a NaN, which has no code. (An infinity is clamped, as any value beyond the
            range.)
        RecipeError: ``group_size`` does not divide the last dimension.

    Source:
        Jacob et al. 2018 (arXiv:1712.05877), section 2.1.
    """
    codes = _codes(x, scale, zero_point, spec)
    if codes.numel() and bool(codes.sum().isnan()):
        raise NumericError("a NaN cannot be quantized", place=place, remedy="Find the layer that made it.")
    return codes.to(torch.int8 if spec.symmetric else torch.uint8).reshape(x.shape)


def dequantize(
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    spec: QuantSpec,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The real values ``(codes - zero_point) * scale`` of codes, in ``dtype``; shapes as in `quantize`."""
    working = torch.float64 if dtype == torch.float64 else torch.float32
    values = to_rows(codes, spec).to(working, copy=True)
    return _values(values, scale, zero_point).reshape(codes.shape).to(dtype)


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor | None, spec: QuantSpec) -> Tensor:
    """What ``x`` becomes by rounding: `quantize` then `dequantize` in one go, in the dtype of ``x``.

    Equal to those two bit for bit, except that a NaN stays a NaN (so that it is seen downstream).
    """
    codes = _codes(x, scale, zero_point, spec)
    return _values(codes, scale, zero_point).reshape(x.shape).to(x.dtype)


def to_rows(x: Tensor, spec: QuantSpec, *, place: str = "") -> Tensor:
    """Arrange ``x`` as a matrix ``[scales, values]`` of which each row shares one scale (a view where
    possible).

    Raises:
        RecipeError: ``group_size`` does not divide the last dimension.
    """
    rows = 1
    for size in scale_shape(x.shape, spec, place=place):
        rows *= size
    if x.numel() == 0:
        return x.reshape(rows, 0)
    if spec.granularity == "group":
        return x.reshape(-1, group_length(x.shape, spec, place=place))
    return x.reshape(rows, -1)


def working_dtype(x: Tensor) -> torch.dtype:
    """The dtype arithmetic on ``x`` runs in: float64 stays, everything else becomes float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _codes(x: Tensor, scale: Tensor, zero_point: Tensor | None, spec: QuantSpec) -> Tensor:
    """Codes as floats in a buffer of our own, ``[scales, values]``."""
    rows = to_rows(x, spec)
    codes = torch.div(rows.to(working_dtype(x)), scale.reshape(-1, 1)).round_()
    if zero_point is not None:
        codes += zero_point.reshape(-1, 1)
    return codes.clamp_(spec.low, spec.high)


def _values(codes: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """Overwrite a buffer of codes ``[scales, values]`` with the values they stand for."""
    if zero_point is not None:
        codes -= zero_point.reshape(-1, 1)
    return codes.mul_(scale.reshape(-1, 1))
