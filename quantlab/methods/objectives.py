"""What a candidate scale costs at a layer's output, plain or weighted by a gradient there. It searches nothing.

S(scale) = mean over tokens of sum over outputs of (g (o - o_hat))^2, with g = 1 for the plain output error. Every
scale has a loss of its own, with all that other scales round left exact, so that a search moves all of them at once:
an output channel has its own error; of a channel's groups each is judged alone, without the products between groups;
one scale for the whole weight, or for the input, has the sum.

Source: TAPTQ (arXiv:2602.01741), interval search; PTQ4ViT (arXiv:2111.12293), Hessian-guided metric.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quantlab.calibration.layer_data import LayerData
from quantlab.errors import RecipeError
from quantlab.numerics.formats import QuantSpec, group_length
from quantlab.numerics.ranges import RowLoss

LOSSES = ("self", "output", "fisher")
ROWS = 512
"""Tokens that the plain error of an input's scale is measured on; more change the chosen scale little."""
JITTER = 1e-10
"""Share of the mean variance added to second moments, so that fewer tokens than channels have a factor too."""


def weight_loss(
    kind: str,
    weight: Tensor,
    spec: QuantSpec,
    data: LayerData | None,
    *,
    rounded_rows: Tensor | None = None,
    place: str = "",
) -> RowLoss | None:
    """The loss of a weight's scales for a setting of `LOSSES`; None stands for the rounding error itself.

    That is also all there is for a layer that calibration never ran. Arguments as in `weight_output_loss`.

    Raises:
        RecipeError: "fisher", and the data holds no gradients.
    """
    if kind == "self" or data is None or not len(data.rows):
        return None
    make = weight_fisher_loss if _weighted(kind, data, place) else weight_output_loss
    return make(weight, spec, data, rounded_rows=rounded_rows)


def activation_loss(
    kind: str, weight: Tensor, rounded: Tensor, data: LayerData | None, *, place: str = ""
) -> RowLoss | None:
    """The loss of a static input scale for a setting of `LOSSES`; None stands for the rounding error itself.

    Arguments as in `activation_output_loss`.

    Raises:
        RecipeError: "fisher", and the data holds no gradients.
    """
    if kind == "self" or data is None or not len(data.rows):
        return None
    make = activation_fisher_loss if _weighted(kind, data, place) else activation_output_loss
    return make(weight, rounded, data)


def weight_output_loss(
    weight: Tensor, spec: QuantSpec, data: LayerData, *, rounded_rows: Tensor | None = None
) -> RowLoss:
    """Squared error at the output for each scale of a weight.

    Args:
        weight: ``[out, in]`` before rounding, behind the layer's transforms.
        spec: Its format; says who shares a scale.
        data: Behind the same transforms. Its second moments serve where they are cheaper than its rows.
        rounded_rows: ``data.rows`` as the layer rounds them, for the round of the search that knows them; the output
            to reach stays that of the exact rows.
    """
    groups = _groups(spec, weight.shape[1])
    if rounded_rows is None:
        factors = _factors(data, groups, weight)

        def moments(rounded: Tensor) -> Tensor:
            error = (weight - rounded).split(groups, dim=1)
            losses = [_energy(part @ factor) for part, factor in zip(error, factors, strict=True)]
            return _per_scale(losses, spec)

        return moments
    return _row_loss(weight, spec, data, rounded_rows, None)


def weight_fisher_loss(
    weight: Tensor, spec: QuantSpec, data: LayerData, *, rounded_rows: Tensor | None = None
) -> RowLoss:
    """As `weight_output_loss`, each output error weighted by its gradient; ``data`` must hold gradients."""
    rows = data.rows if rounded_rows is None else rounded_rows
    return _row_loss(weight, spec, data, rows, data.gradients)


def activation_output_loss(weight: Tensor, rounded: Tensor, data: LayerData) -> RowLoss:
    """Squared error at the output for one scale of the input, through the weight as it is rounded.

    Takes rows ``[n, in]`` after rounding, in the order of ``activation_rows(data)``.

    Args:
        weight: ``[out, in]`` before rounding; its output is the one to reach.
        rounded: The weight after rounding.
        data: Behind the layer's transforms.
    """
    rows = activation_rows(data)
    target, through = rows @ weight.to(rows).T, rounded.to(rows).T
    rest = 0.0
    if through.shape[1] > through.shape[0]:
        # Errors move only within the span of the weight's columns: the same numbers with fewer products.
        basis, triangle = torch.linalg.qr(through.T.double())
        inside = target.double() @ basis
        rest = float(target.double().square().sum() - inside.square().sum())
        target, through = inside.to(rows), triangle.T.to(rows)

    def loss(x: Tensor) -> Tensor:
        return (((target - x @ through).double().square().sum() + rest) / len(x))[None]

    return loss


def activation_fisher_loss(weight: Tensor, rounded: Tensor, data: LayerData) -> RowLoss:
    """As `activation_output_loss`, each output error weighted by its gradient; ``data`` must hold gradients."""
    rows, weights = activation_rows(data), data.gradients
    if weights is None:
        raise TypeError("there are no gradients")
    target, through = rows @ weight.to(rows).T, rounded.to(rows).T
    weights = weights[: len(rows)].to(rows)

    def loss(x: Tensor) -> Tensor:
        return (((target - x @ through) * weights).double().square().sum() / len(x))[None]

    return loss


def activation_rows(data: LayerData) -> Tensor:
    """The rows that a search of an input's scale looks at: all that have a gradient, or evenly spread ones."""
    if data.gradients is not None or len(data.rows) <= ROWS:
        return data.rows
    return data.rows[:: -(-len(data.rows) // ROWS)]


def _weighted(kind: str, data: LayerData, place: str) -> bool:
    if kind not in LOSSES:
        raise RecipeError(
            f"unknown search loss {kind!r}", place=place, remedy=f"Use one of: {', '.join(LOSSES)}."
        )
    if kind == "fisher" and data.gradients is None:
        raise RecipeError(
            "a search weighted by gradients needs calibration scenes to run backward",
            place=place,
            remedy="Pass calibration inputs, or use search_loss 'output'.",
        )
    return kind == "fisher"


def _row_loss(
    weight: Tensor, spec: QuantSpec, data: LayerData, rounded_rows: Tensor, gradients: Tensor | None
) -> RowLoss:
    """Token by token: ``(w x - w_hat x_hat)`` of each group of channels, weighted where there are gradients."""
    groups = _groups(spec, weight.shape[1])
    rows = rounded_rows.to(weight).split(groups, dim=1)
    if rounded_rows is data.rows:

        def residual(part: Tensor, given: Tensor, x: Tensor) -> Tensor:
            return (part - given) @ x.T

        targets = weight.split(groups, dim=1)
    else:

        def residual(part: Tensor, given: Tensor, x: Tensor) -> Tensor:
            return part - given @ x.T

        pairs = zip(weight.split(groups, dim=1), data.rows.to(weight).split(groups, dim=1), strict=True)
        targets = tuple(w @ x.T for w, x in pairs)
    weights = None if gradients is None else gradients.to(weight).T

    def loss(rounded: Tensor) -> Tensor:
        losses = []
        for part, given, x in zip(targets, rounded.split(groups, dim=1), rows, strict=True):
            error = residual(part, given, x)
            losses.append(_energy(error if weights is None else error.mul_(weights)) / len(x))
        return _per_scale(losses, spec)

    return loss


def _groups(spec: QuantSpec, width: int) -> int:
    return group_length((width,), spec) if spec.granularity == "group" else width


def _factors(data: LayerData, groups: int, like: Tensor) -> list[Tensor]:
    """Of each group of channels an F ``[group, k]`` with F F^T = mean of x x^T."""
    width = data.rows.shape[1]
    starts = range(0, width, groups)
    if data.gram is not None and len(data.rows) < data.tokens:
        gram, tokens = data.gram, data.tokens
        return [_root(gram[i : i + groups, i : i + groups] / tokens).to(like) for i in starts]
    rows = [data.rows[:, i : i + groups] / len(data.rows) ** 0.5 for i in starts]
    if len(data.rows) <= groups:
        return [part.T.to(like) for part in rows]
    return [_root(part.double().T @ part.double()).to(like) for part in rows]


def _root(moments: Tensor) -> Tensor:
    """A factor of second moments: triangular where that works, by eigenvalues where they are not quite positive."""
    jitter = JITTER * moments.diagonal().mean().clamp(min=torch.finfo(moments.dtype).tiny)
    lower, failed = torch.linalg.cholesky_ex(moments + jitter * torch.eye(len(moments)).to(moments))
    if not int(failed):
        return lower
    values, vectors = torch.linalg.eigh(moments)
    return vectors * values.clamp(min=0).sqrt()


def _energy(error: Tensor) -> Tensor:
    """Sums of squares of the rows."""
    return torch.linalg.vector_norm(error, dim=1).double().square()


def _per_scale(losses: list[Tensor], spec: QuantSpec) -> Tensor:
    """From one ``[out]`` a group of channels to one number a scale, in the order of the scales."""
    stacked = torch.stack(losses, dim=1)
    return stacked.sum()[None] if spec.granularity == "tensor" else stacked.flatten()
