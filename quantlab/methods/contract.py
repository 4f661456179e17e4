"""The laws that every transform and every way of rounding obeys, to try a method of one's own on. It enters none."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quantlab.calibration.layer_data import LayerData
from quantlab.methods.rounding import WeightRounding
from quantlab.methods.transforms import TransformContext, TransformFactory
from quantlab.models.tokens import PATCH
from quantlab.numerics.formats import QuantSpec
from quantlab.numerics.ranges import minmax_range
from quantlab.numerics.rounding import fake_quantize

WIDTHS = (1, 9, 48, 97)
"""Input channels that are tried: one, odd, a usual number and a prime."""
SAMPLES = 30
OUTPUTS = 11
EXACT = 1e-6
"""The relative error that is still called none; inputs differ by four orders of magnitude from channel to channel."""


def broken_transform_laws(prepare: TransformFactory, *, seed: int = 0) -> list[str]:
    """Try a transform on random layers, and say which laws it breaks.

    The laws: the product of input and weight is what it was before any rounding; shape and dtype of the input are
    kept; the folded weight is float64; no argument is changed; preparing it twice gives the same transform.

    Args:
        prepare: What ``TRANSFORMS`` holds.
        seed: Of the random layers.

    Returns:
        One sentence a broken law; an empty list: it may be used.
    """
    broken: dict[str, None] = {}
    for width in WIDTHS:
        context, x = random_layer(width, seed)
        before, weight = x.clone(), context.weight.clone()
        transform, again = prepare(context), prepare(context)
        changed, folded = transform(x), transform.fold(context.weight)
        exact = before.double() @ weight.T
        laws = {
            "an input keeps its shape": changed.shape == x.shape,
            "an input keeps its dtype": transform(x.to(torch.bfloat16)).dtype == torch.bfloat16,
            "the folded weight is float64": folded.dtype == torch.float64,
            "no argument is changed": torch.equal(x, before) and torch.equal(context.weight, weight),
            "preparing it twice gives the same": torch.equal(changed, again(x)),
        }
        same = changed.shape == x.shape and folded.shape == weight.shape
        error = (
            (transform(before.double()).double() @ folded.double().T - exact).norm()
            if same
            else torch.tensor(torch.inf)
        )
        laws["nothing changes before rounding"] = bool(error <= EXACT * exact.norm())
        broken |= dict.fromkeys(
            f"{law}: not with {width} channels" for law, holds in laws.items() if not holds
        )
    return list(broken)


def broken_rounding_laws(rounding: WeightRounding, *, bits: int = 4, seed: int = 0) -> list[str]:
    """Try a way of rounding on random weights, and say which laws it breaks.

    The laws: every value lies on the grid it was given; shape and dtype are kept; no argument is changed; the same
    arguments give the same weight.

    Args:
        rounding: What ``ROUNDINGS`` holds.
        bits: Of the weights.
        seed: Of the random layers.
    """
    broken: dict[str, None] = {}
    for width in WIDTHS:
        context, _ = random_layer(width, seed)
        weight, spec = context.weight.float(), QuantSpec(bits)
        grid, before = minmax_range(weight, spec), weight.clone()

        def once(weight: Tensor = weight, data: LayerData | None = context.data) -> Tensor:
            return rounding(weight, grid, spec, data=data, order="natural", place="layer")  # noqa: B023 - called at once

        rounded = once()
        laws = {
            "a weight keeps its shape and dtype": (rounded.shape, rounded.dtype)
            == (weight.shape, weight.dtype),
            "no argument is changed": torch.equal(weight, before),
            "the same arguments give the same weight": torch.equal(rounded, once()),
        }
        if rounded.shape == weight.shape:
            laws["every value lies on the grid"] = torch.allclose(
                fake_quantize(rounded, *grid, spec), rounded
            )
        broken |= dict.fromkeys(
            f"{law}: not with {width} channels" for law, holds in laws.items() if not holds
        )
    return list(broken)


def random_layer(width: int, seed: int) -> tuple[TransformContext, Tensor]:
    """A layer of ``width`` inputs whose channels differ by four orders of magnitude, and 30 inputs ``[30, width]``."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(OUTPUTS, width, generator=generator, dtype=torch.float64)
    x = torch.randn(SAMPLES, width, generator=generator) * torch.logspace(-2, 2, width)
    kinds = np.full(SAMPLES, PATCH, dtype=np.uint8)
    data = LayerData(x, x.abs().amax(dim=0), kinds, x.double().T @ x.double(), SAMPLES)
    formats = QuantSpec(4), QuantSpec(4, granularity="token")
    return TransformContext(weight, data.absmax, 0.5, seed, "layer", data, *formats), x
