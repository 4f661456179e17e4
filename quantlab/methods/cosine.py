"""Rotation by a discrete cosine transform followed by a randomised Hadamard, without calibration. It rounds nothing."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from quantlab.methods.transforms import TRANSFORMS, Transform, TransformContext
from quantlab.numerics.hadamard import Rotation
from quantlab.numerics.rounding import working_dtype


class CosineRotation(Transform):
    """x C Q while running, W C Q folded once in float64: C the orthonormal DCT-II, Q = signs times Hadamard.

    Our reading; the paper names both transforms and gives no details. The cosines come first because they mix a
    layer of any width whole, where no Hadamard order may divide it; they turn an input that is smooth over the
    channels, or has a common offset, into a few tall low frequencies, which the Hadamard behind them spreads evenly.
    The random signs between the two are needed: one channel's cosine is nearly a Walsh function, and without them
    the second transform would gather again what the first had spread (up to 90 % of its norm in one channel).

    The paper also folds the gain of a LayerNorm into the next weight, so that the transform can move through the norm
    into the layers before it. Here the transform is applied to the layer's input while running, behind the gain: the
    product is the same with or without that folding, so there is nothing to fold. What remains different is only that
    the rounded input carries the gain.

    Nothing is stored but width and seed; the cosines run as a Fourier transform, in_features log(in_features).

    Source:
        VersaQ-3D (arXiv:2601.20317).
    """

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.rotation = Rotation(width, seed)

    def forward(self, x: Tensor) -> Tensor:
        """``x C Q``, ``[..., in] -> [..., in]`` in the dtype of ``x``; half precision is mixed in float32."""
        return self.rotation.apply(cosine_transform(x.to(working_dtype(x)))).to(x.dtype)

    def fold(self, weight: Tensor) -> Tensor:
        """``weight C Q`` in float64."""
        return self(weight.double())

    def describe(self) -> str:
        """The width of the cosines and the blocks of the Hadamard."""
        return f"cosines over all channels, then Hadamard, {self.rotation.describe()}"


def cosine_transform(x: Tensor) -> Tensor:
    """The orthonormal DCT-II of the last dimension, of any length; float32 or float64, shape as given.

    y_k = sqrt(2 / n) c_k sum_j x_j cos(pi (2 j + 1) k / 2 n), with c_0 = 1 / sqrt(2) and all other c_k = 1. Even
    entries forwards and odd ones backwards, through one real Fourier transform of the same length.

    Source:
        J. Makhoul, A fast cosine transform in one and two dimensions, IEEE Trans. ASSP 28 (1980).
    """
    if not x.numel():
        return x
    width = x.shape[-1]
    folded = torch.cat((x[..., ::2], x[..., 1::2].flip(-1)), dim=-1)
    turned = torch.fft.rfft(folded) * _twiddles(width, x.dtype, x.device)
    # The second half of the spectrum mirrors the first: its real part is minus the imaginary one there.
    mirrored = -turned.imag[..., 1 : (width + 1) // 2].flip(-1)
    return torch.cat((turned.real, mirrored), dim=-1)


@lru_cache(maxsize=64)
def _twiddles(width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``[width // 2 + 1]``, complex: the quarter-sample shift of each frequency, and the norm."""
    precision = torch.complex128 if dtype == torch.float64 else torch.complex64
    with torch.inference_mode(False):  # what is kept from there could take no part in a later learning
        angle = torch.arange(width // 2 + 1, dtype=torch.float64) * (-torch.pi / (2 * width))
        size = torch.full_like(angle, (2 / width) ** 0.5)
        size[0] = (1 / width) ** 0.5
        return torch.polar(size, angle).to(device, precision)


@TRANSFORMS.register("dct")
def prepare_cosines(context: TransformContext) -> CosineRotation:
    """The rotation for a layer of this width; it looks at no data."""
    return CosineRotation(context.weight.shape[1], context.seed)
