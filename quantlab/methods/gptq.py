"""GPTQ: columns rounded one after the other, each taking on the errors of those before. It chooses no scale."""

from __future__ import annotations

import torch
from torch import Tensor

from quantlab.calibration.layer_data import LayerData
from quantlab.errors import NumericError, RecipeError
from quantlab.methods.rounding import COLUMN_ORDERS, ROUNDINGS
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import Range
from quantlab.numerics.rounding import dequantize

BLOCK = 128
"""Columns rounded between two products with all errors so far, as published."""
DAMPING = 0.01
"""Added to the diagonal of H, as a share of its mean, as published."""
MOST_DAMPING = 1.0
"""Where rounding errors in H still leave it indefinite at this share, it is no sum of squares."""


@ROUNDINGS.register("gptq")
def round_with_feedback(
    weight: Tensor, chosen: Range, spec: QuantSpec, *, data: LayerData | None, order: str, place: str
) -> Tensor:
    """Round column by column, so that the output of the layer on its calibration inputs changes little.

    With H = 2 X^T X + damping = U D U^T, U unit upper triangular, the error E = W - Q of a row costs E H E^T =
    sum_k d_k (E U)_k^2. Column k is therefore rounded at W_k + sum_{j<k} E_j U_jk, which keeps (E U)_k within half a
    step. That is GPTQ's update by the Cholesky factor of H^-1, written without the inverse (the two are shown equal
    in QuIP): one factorisation of H, half the work. The 2 cancels and is left out.

    Scales are those given: groups are "static", chosen from the weight as it was before any update, so that a column
    keeps its group in whatever order it is rounded. A channel that was silent in calibration has a zero row in H; the
    damping leaves it uncoupled, that is rounded to nearest (the published code sets its weights to zero; ours still
    speaks if the channel does). The work is done in float64, about twice the size of H beside H.

    Args:
        weight: ``[out, in]``, float32 or float64.
        chosen: Scales and zero points, of any granularity of ``spec``.
        spec: The format.
        data: What calibration saw; its second moments, or its rows where there are none. A layer that calibration
            never ran is rounded to nearest.
        order: "natural", or "activation": the columns of largest second moment first ("act-order").
        place: Layer named in an error.

    Returns:
        The rounded weight, in shape, order and dtype of ``weight``.

    Raises:
        RecipeError: No calibration, or an unknown ``order``.
        NumericError: The second moments are not finite, or are none (indefinite beyond repair by damping).

    Source:
        GPTQ (arXiv:2210.17323), sections 3.2 and 3.3; QuIP (arXiv:2307.13304), section 3.3, for the form used here.
    """
    if order not in COLUMN_ORDERS:
        raise RecipeError(
            f"unknown column order {order!r}", place=place, remedy=f"Use one of: {', '.join(COLUMN_ORDERS)}."
        )
    moments = second_moments(data, place=place).to(weight.device)
    columns = torch.arange(len(moments), device=weight.device)
    if order == "activation":
        columns = moments.diagonal().argsort(descending=True, stable=True)
        moments = moments[columns[:, None], columns]
    feedback = feedback_matrix(moments, place=place)
    del moments
    steps, zeros = (None if part is None else _by_column(part, weight, spec)[columns] for part in chosen)
    codes = torch.empty(
        weight.T.shape, dtype=torch.uint8 if zeros is not None else torch.int8, device=weight.device
    )
    codes[columns] = _round_columns(weight.T[columns].double(), feedback, steps, zeros, spec).to(codes.dtype)
    return dequantize(codes.T.contiguous(), *chosen, spec, dtype=weight.dtype)


def second_moments(data: LayerData | None, *, place: str) -> Tensor:
    """The sum of x x^T over calibration, float64 ``[in, in]``; from the sampled rows where no sum was kept.

    Raises:
        RecipeError: There was no calibration.
        NumericError: It holds a NaN or an infinity.
    """
    if data is None:
        raise RecipeError(
            "GPTQ needs calibration",
            place=place,
            remedy="Pass calibration inputs, or use rounding 'nearest'.",
        )
    moments = data.gram if data.gram is not None else data.rows.double().T @ data.rows.double()
    if not bool(moments.isfinite().all()):
        raise NumericError(
            "the second moments of the calibrated input are not finite",
            place=place,
            remedy="Check the calibration scenes.",
        )
    return moments.double()


def feedback_matrix(moments: Tensor, *, place: str = "") -> Tensor:
    """The U of H = U D U^T for damped second moments: float64 ``[in, in]``, upper triangular, ones on the diagonal.

    Damping starts at `DAMPING` and grows tenfold where the factorisation fails.

    Raises:
        NumericError: It fails up to `MOST_DAMPING`.
    """
    mean = float(moments.diagonal().mean())
    if mean == 0:
        return torch.eye(len(moments), dtype=torch.float64, device=moments.device)
    damping = DAMPING
    while damping <= MOST_DAMPING:
        # Cholesky gives a lower factor on the left; read backwards it is the upper one.
        flipped = moments.flip(0, 1).div_(mean)
        flipped.diagonal().add_(damping)
        factor, failed = torch.linalg.cholesky_ex(flipped)
        del flipped
        if not int(failed):
            return factor.div_(factor.diagonal().clone()).flip(0, 1)
        damping *= 10
    raise NumericError(
        "the second moments of the calibrated input are not those of any input",
        place=place,
        remedy="Calibrate again, or use rounding 'nearest'.",
    )


def _by_column(part: Tensor, weight: Tensor, spec: QuantSpec) -> Tensor:
    """Scales or zero points of every weight, ``[in, out]``, without a copy where a row shares one."""
    rows, columns = weight.shape
    if spec.granularity == "group":
        return part.repeat_interleave(columns // part.shape[-1], dim=-1).T
    return part.reshape(1, -1).expand(columns, rows)


def _round_columns(
    columns: Tensor, feedback: Tensor, steps: Tensor | None, zeros: Tensor | None, spec: QuantSpec
) -> Tensor:
    """Codes of the weight's columns ``[in, out]``, float64; errors of a block are handed on by one product."""
    if steps is None:
        raise ValueError("a range without scales")
    codes, errors = torch.empty_like(columns), torch.empty_like(columns)
    for start in range(0, len(columns), BLOCK):
        stop = min(start + BLOCK, len(columns))
        wanted = columns[start:stop] + feedback[:start, start:stop].T @ errors[:start]
        inside, own = feedback[start:stop, start:stop].T.contiguous(), errors[start:stop]
        for k in range(stop - start):
            aim = torch.addmv(wanted[k], own[:k].T, inside[k, :k])
            step = steps[start + k].double()
            zero = 0.0 if zeros is None else zeros[start + k].double()
            code = (aim / step).round_().add_(zero).clamp_(spec.low, spec.high)
            codes[start + k] = code
            own[k] = columns[start + k] - (code - zero) * step
    return codes
