"""A quantized layer whose smoothing, mixing and clipping can be learned by gradient. It runs no optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.methods.kronecker import KroneckerTransform, fold, mix
from quantlab.methods.learned import Learned
from quantlab.methods.smoothing import Smoothing
from quantlab.methods.transforms import Transform
from quantlab.numerics.finite import FLOAT32_TINY
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.hadamard import signs
from quantlab.numerics.ranges import Range
from quantlab.numerics.rounding import to_rows, working_dtype

CLIP_START = 4.0
"""A clipping share starts at sigmoid(4) = 0.982, as in QuantVGGT's published code."""


class StraightThrough(torch.autograd.Function):
    """Rounding to codes and back whose gradient passes as if nothing were rounded, except where it clips.

    ``y = s (clamp(round(x / s) + z, low, high) - z)``; with u = x / s and k = y / s the gradient of y is 1 (x) and
    k - u (s) inside of the range, 0 and k outside.

    Source:
        Bengio et al. 2013 (arXiv:1308.3432); for the scale Esser et al. 2020 (arXiv:1902.08153), equation 3.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: Tensor, zero_point: Tensor | None, spec: QuantSpec) -> Tensor:
        """``rows`` ``[r, n]`` under one scale ``[r, 1]`` (and zero point) each."""
        steps = rows / scale
        low, high = _bounds(zero_point, spec)
        ctx.save_for_backward(steps, zero_point)
        ctx.spec = spec
        return steps.round().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of the rows and of the scales."""
        (gradient,) = gradients
        steps, zero_point = ctx.saved_tensors
        codes = steps.round()
        kept = codes.clamp(*_bounds(zero_point, ctx.spec))
        passed = gradient * (codes == kept)
        scale = (gradient * kept).sum(dim=1, keepdim=True) - (passed * steps).sum(dim=1, keepdim=True)
        return passed, scale, None, None


def _bounds(zero_point: Tensor | None, spec: QuantSpec) -> tuple[Any, Any]:
    """Smallest and largest code, counted from the code of 0."""
    return (spec.low, spec.high) if zero_point is None else (spec.low - zero_point, spec.high - zero_point)


def straight_through(
    x: Tensor, share: Tensor | float, spec: QuantSpec, chosen: Range | None = None
) -> Tensor:
    """Round ``x`` under ``share`` of its min-max range, with gradients of ``x`` (through its extremes too) and share.

    In value it is `fake_quantize` with the scales of `minmax_range` times ``share``, bit for bit.

    Args:
        x: Any shape that ``spec`` can be applied to.
        share: A number, or one for each index of the first dimension.
        spec: The format.
        chosen: A fixed range to take in place of the tensor's own.
    """
    rows = to_rows(x, spec).to(working_dtype(x))
    scale, zero_point = _range_of(rows, spec) if chosen is None else _given(chosen)
    if isinstance(share, Tensor) and share.dim():
        # Every channel of a weight has one share, whatever the number of its groups.
        share = share.repeat_interleave(len(scale) // len(share))[:, None]
    rounded: Tensor = StraightThrough.apply(rows, scale * share, zero_point, spec)
    return rounded.reshape(x.shape).to(x.dtype)


def _range_of(rows: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor | None]:
    """Scales ``[r, 1]`` as `minmax_range` takes them, with gradients, and zero points without."""
    if spec.symmetric:
        peak = rows.abs().amax(dim=1, keepdim=True)
        return _positive((peak / spec.high).float(), peak > 0), None
    low = rows.amin(dim=1, keepdim=True).clamp(max=0).double()
    high = rows.amax(dim=1, keepdim=True).clamp(min=0).double()
    scale = _positive(((high - low) / spec.high).float(), high > low)
    zero_point = (-low.detach() / scale.detach()).round().clamp(0, spec.high)
    return scale, zero_point.to(rows.dtype)


def _given(chosen: Range) -> tuple[Tensor, Tensor | None]:
    scale = chosen.scale.reshape(-1, 1)
    return scale, None if chosen.zero_point is None else chosen.zero_point.reshape(-1, 1).to(scale.dtype)


def _positive(scale: Tensor, speaks: Tensor) -> Tensor:
    return torch.where(speaks, scale.clamp(min=FLOAT32_TINY), 1.0)


class LearnableDivisor(Transform):
    """`Smoothing` with a divisor that is learned by its logarithm, so that it stays positive."""

    def __init__(self, start: Smoothing) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(start.divisor.detach().clone().log())

    @property
    def divisor(self) -> Tensor:
        """The factor c of each input channel, float32 ``[in]``."""
        return self.logarithm.exp()

    def forward(self, x: Tensor) -> Tensor:
        """``x / c``."""
        return x / self.divisor.to(x.dtype)

    def fold(self, weight: Tensor) -> Tensor:
        """``weight c`` in float64."""
        return weight.double() * self.divisor.double()


class LearnableKronecker(Transform):
    """`KroneckerTransform` with factors that are learned entry by entry; nothing forces them to stay orthogonal."""

    def __init__(self, start: KroneckerTransform) -> None:
        super().__init__()
        self.seed = start.seed
        self.first = nn.Parameter(start.first.detach().clone())
        self.second = nn.Parameter(start.second.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """``x D (P1 ⊗ P2)``."""
        working = working_dtype(x)
        signed = x.to(working) * signs(x.shape[-1], self.seed, working, x.device)
        return mix(signed, self.first.to(working), self.second.to(working)).to(x.dtype)

    def fold(self, weight: Tensor) -> Tensor:
        """``weight D (P1 ⊗ P2)^-T`` in float64."""
        return fold(weight, self.first, self.second, self.seed)


def learnable(transform: Transform) -> Transform:
    """The learnable twin of a transform, or the transform itself where nothing in it is learned."""
    if isinstance(transform, Smoothing):
        return LearnableDivisor(transform)
    return LearnableKronecker(transform) if isinstance(transform, KroneckerTransform) else transform


class LearnableLinear(nn.Module):
    """A Linear on rounded numbers with gradients; at every step what `build_layer` makes of `learned`.

    Args:
        layer: In full precision; its weight and bias are read, never changed.
        transforms: Of its input, in order, as they stand before learning.
        weight_spec: Format of the weight; None leaves it.
        activation_spec: Format of the transformed input; None leaves it.
        static: Fixed range of the input; None takes it from each input. It is chosen behind the transforms before
            learning, so that a divisor should be learned for dynamic activations only.

    Attributes:
        weight_theta: ``[out]``, or scalar for a weight with one scale: the share of a range that is covered is
            sigmoid(theta); None without rounding.
        activation_theta: Scalar, likewise for the input.

    Source:
        QuantVGGT (arXiv:2509.21302), section 3.2: learnable c, step sizes and clipping, with the sigmoid of its code.
    """

    def __init__(
        self,
        layer: nn.Linear,
        transforms: Sequence[Transform],
        weight_spec: QuantSpec | None,
        activation_spec: QuantSpec | None,
        static: Range | None = None,
    ) -> None:
        super().__init__()
        self.weight_spec, self.activation_spec, self._static = weight_spec, activation_spec, static
        self.out_features, self.in_features = layer.weight.shape
        self.bias, self._dtype = layer.bias, layer.weight.dtype
        self.transforms = nn.ModuleList(learnable(transform) for transform in transforms)
        self._fixed, self._folded = self._fold_fixed(layer.weight.detach().double())
        device = layer.weight.device
        whole = weight_spec is not None and weight_spec.granularity == "tensor"
        self.weight_theta = _theta(weight_spec, () if whole else (self.out_features,), device)
        self.activation_theta = _theta(activation_spec, (), device)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in] -> [..., out]``."""
        for transform in self.transforms:
            x = transform(x)
        if self.activation_spec is not None and self.activation_theta is not None:
            x = straight_through(x, self.activation_theta.sigmoid(), self.activation_spec, self._static)
        return F.linear(x, self.weight(), self.bias)

    def weight(self) -> Tensor:
        """The rounded weight ``[out, in]`` behind the transforms, in the layer's dtype."""
        folded = self._folded
        for transform in self._steps()[self._fixed :]:
            folded = transform.fold(folded)
        if self.weight_spec is None or self.weight_theta is None:
            return folded.to(self._dtype)
        working = folded.to(torch.float64 if self._dtype == torch.float64 else torch.float32)
        return straight_through(working, self.weight_theta.sigmoid(), self.weight_spec).to(self._dtype)

    def learned(self) -> Learned:
        """The parameters as they are now, for `build_layer`."""
        divisor: Tensor | None = None
        factors: tuple[Tensor, ...] = ()
        for transform in self.transforms:
            if isinstance(transform, LearnableDivisor):
                divisor = transform.divisor.detach().clone()
            if isinstance(transform, LearnableKronecker):
                factors = (transform.first.detach().clone(), transform.second.detach().clone())
        weight_clip = None if self.weight_theta is None else self.weight_theta.detach().sigmoid()
        clip = None if self.activation_theta is None else float(self.activation_theta.detach().sigmoid())
        return Learned(divisor, weight_clip, clip, factors)

    def clipping(self) -> list[nn.Parameter]:
        """The parameters that decide how much is clipped."""
        return [theta for theta in (self.weight_theta, self.activation_theta) if theta is not None]

    def divisors(self) -> list[nn.Parameter]:
        """The logarithms of the factors of channels."""
        return [p for part in self._steps() if isinstance(part, LearnableDivisor) for p in part.parameters()]

    def mixing(self) -> list[nn.Parameter]:
        """The entries of mixing factors."""
        return [
            p for part in self._steps() if isinstance(part, LearnableKronecker) for p in part.parameters()
        ]

    def _steps(self) -> list[Transform]:
        return [transform for transform in self.transforms if isinstance(transform, Transform)]

    def _fold_fixed(self, weight: Tensor) -> tuple[int, Tensor]:
        """Fold the transforms before the first learnable one once and for all."""
        count = 0
        for transform in self._steps():
            if next(transform.parameters(), None) is not None:
                break
            weight, count = transform.fold(weight), count + 1
        return count, weight


def _theta(spec: QuantSpec | None, shape: tuple[int, ...], device: torch.device) -> nn.Parameter | None:
    if spec is None:
        return None
    return nn.Parameter(torch.full(shape, CLIP_START, device=device))
