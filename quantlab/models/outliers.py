"""Planting activation outliers without changing what a network computes. A tool of experiments, no method."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.models.layers import Block
from quantlab.models.vggt import VGGT
from quantlab.models.vit import REGISTERS

# Powers of two, so that scaling and unscaling cancel without any rounding: the function stays the same to the bit.
FACTORS = (4.0, 8.0, 16.0)
SHARE = 48
FRAMES = 4


def plant_outliers(network: VGGT, seed: int = 0) -> None:
    """Make a few input channels of many layers 4 to 16 times larger, and undo it in the next weights.

    In every block of encoder and trunk: gains and biases of the two norms against the columns of qkv and fc1, and
    the value rows of qkv against the columns of proj. The channels are those where the special tokens are largest
    (on seeded pictures), so that the tails sit on these tokens as they do in the released VGGT.

    Smoothing undoes exactly this by construction; rotation spreads it.

    Args:
        network: Changed in place.
        seed: Of the pictures and of the factors.

    Source:
        The equivalence used by Xiao et al. 2022 (SmoothQuant, arXiv:2211.10438, equation 4), in reverse.
    """
    peaks = _special_token_peaks(network, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, block in _blocks(network):
            _plant_norm(block.norm1, block.attn.qkv, peaks[f"{name}.attn.qkv"], generator)
            _plant_values(block.attn.qkv, block.attn.proj, peaks[f"{name}.attn.proj"], generator)
            _plant_norm(block.norm2, block.mlp.fc1, peaks[f"{name}.mlp.fc1"], generator)


def _blocks(network: VGGT) -> Iterator[tuple[str, Block]]:
    for name, module in network.aggregator.named_modules():
        if isinstance(module, Block):
            yield name, module


def _special_token_peaks(network: VGGT, seed: int) -> dict[str, Tensor]:
    """Largest magnitude per input channel over the special tokens, of the layers that planting feeds."""
    peaks: dict[str, Tensor] = {}
    patches = (network.config.aggregator.img_size // network.aggregator.patch_size) ** 2

    def watch(name: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        specials = 1 + REGISTERS if name.startswith("patch_embed.") else network.aggregator.special_tokens

        def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            tokens = inputs[0].reshape(-1, specials + patches, inputs[0].shape[-1])[:, :specials]
            peaks[name] = tokens.abs().amax(dim=(0, 1)).cpu()

        return layer.register_forward_pre_hook(note)

    handles = [
        watch(f"{name}.{path}", block.get_submodule(path))
        for name, block in _blocks(network)
        for path in ("attn.qkv", "attn.proj", "mlp.fc1")
    ]
    try:
        with torch.no_grad():
            network.aggregator(_pictures(network, seed), keep=())
    finally:
        for handle in handles:
            handle.remove()
    return peaks


def _pictures(network: VGGT, seed: int) -> Tensor:
    """Smooth random pictures [1, FRAMES, 3, H, W]: what is largest in special tokens hardly depends on content."""
    size = network.config.aggregator.img_size
    coarse = torch.rand(FRAMES, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)
    return smooth[None].to(network.aggregator.camera_token.device)


def _largest(peaks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The channels to scale and their factors."""
    count = max(1, len(peaks) // SHARE)
    channels = peaks.topk(count).indices
    drawn = torch.randint(len(FACTORS), (count,), generator=generator)
    return channels, torch.tensor(FACTORS)[drawn]


def _plant_norm(norm: nn.LayerNorm, layer: nn.Linear, peaks: Tensor, generator: torch.Generator) -> None:
    channels, factors = _largest(peaks, generator)
    channels, factors = channels.to(layer.weight.device), factors.to(layer.weight.device)
    norm.weight[channels] *= factors
    norm.bias[channels] *= factors
    layer.weight[:, channels] /= factors


def _plant_values(qkv: nn.Linear, proj: nn.Linear, peaks: Tensor, generator: torch.Generator) -> None:
    channels, factors = _largest(peaks, generator)
    channels, factors = channels.to(qkv.weight.device), factors.to(qkv.weight.device)
    rows = 2 * proj.in_features + channels
    qkv.weight[rows] *= factors[:, None]
    qkv.bias[rows] *= factors
    proj.weight[:, channels] /= factors
