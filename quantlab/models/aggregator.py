"""VGGT's trunk: image encoder, special tokens, and attention alternating within frames and across frames. No heads."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from quantlab.models.config import AggregatorConfig, VitConfig
from quantlab.models.layers import Block
from quantlab.models.rotary import RotaryTables, frame_tables
from quantlab.models.vit import VisionTransformer

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class Aggregator(nn.Module):
    """Alternating attention over the frames of a sequence.

    Set ``cross_frame`` to False to cut the global blocks down to one frame each: what is lost then is what the
    network learns from the other frames. ``rotary_dtype`` is that of the rotary tables, None for that of the tokens.

    Source:
        Wang et al. 2025 (arXiv:2503.11651), section 3.2.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: AggregatorConfig, vit: VitConfig) -> None:
        super().__init__()
        dim, heads = config.embed_dim, config.num_heads
        self.cross_frame = True
        self.rotary_dtype: torch.dtype | None = None
        self.patch_size = config.patch_size
        self.head_dim = dim // heads
        self.patch_embed = VisionTransformer(
            config.img_size, config.patch_size, dim, vit.depth, vit.num_heads
        )
        self.camera_token = nn.Parameter(torch.randn(1, 2, 1, dim) * 1e-6)
        self.register_token = nn.Parameter(torch.randn(1, 2, config.num_register_tokens, dim) * 1e-6)
        self.frame_blocks = nn.ModuleList(Block(dim, heads, qk_norm=True) for _ in range(config.depth))
        self.global_blocks = nn.ModuleList(Block(dim, heads, qk_norm=True) for _ in range(config.depth))
        # Not in checkpoints, so they must exist even when the rest is built on the meta device.
        self.register_buffer(
            "image_mean", torch.tensor(IMAGE_MEAN, device="cpu").view(1, 1, 3, 1, 1), persistent=False
        )
        self.register_buffer(
            "image_std", torch.tensor(IMAGE_STD, device="cpu").view(1, 1, 3, 1, 1), persistent=False
        )

    @property
    def special_tokens(self) -> int:
        """Tokens in front of each frame's patches: the camera token and the registers."""
        return 1 + self.register_token.shape[2]

    def forward(self, images: Tensor, keep: Collection[int] | None = None) -> dict[int, Tensor]:
        """Run on ``images`` [B, S, 3, H, W] in [0, 1] and return layer outputs [B, S, tokens, 2 * dim].

        Args:
            images: Height and width must be multiples of the patch size.
            keep: Indices of the layers to return; the others are dropped at once. None keeps all.
        """
        wanted = range(len(self.frame_blocks)) if keep is None else keep
        outputs = self.iterate(images)
        return {index: torch.cat(pair, dim=-1) for index, pair in enumerate(outputs) if index in wanted}

    def iterate(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (after the frame block, after the global block) of every layer, each [B, S, tokens, dim]."""
        batch, frames, _, height, width = images.shape
        tokens = self.tokens(images)
        table = frame_tables(
            height // self.patch_size,
            width // self.patch_size,
            self.special_tokens,
            self.head_dim,
            self.rotary_dtype or tokens.dtype,
            tokens.device,
        )
        together = self.cross_frame and frames > 1
        across = table.repeat(frames) if together else table
        for frame_block, global_block in zip(self.frame_blocks, self.global_blocks, strict=True):
            within = _run(frame_block, tokens, table)
            sequence = within.unflatten(0, (batch, frames)).flatten(1, 2) if together else within
            tokens = _run(global_block, sequence, across).reshape(within.shape)
            yield within.unflatten(0, (batch, frames)), tokens.unflatten(0, (batch, frames))

    def tokens(self, images: Tensor) -> Tensor:
        """The trunk's input [B * S, specials + patches, dim]: camera token, registers, encoded patches."""
        batch, frames = images.shape[:2]
        normalised = (images - self.image_mean) / self.image_std
        patches = self.patch_embed(normalised.flatten(0, 1))
        specials = torch.cat((self.camera_token, self.register_token), dim=2)
        # Index 0 belongs to the first frame of a sequence, index 1 to all the others.
        chosen = torch.cat((specials[:, :1], specials[:, 1:].expand(-1, frames - 1, -1, -1)), dim=1)
        return torch.cat((chosen.expand(batch, -1, -1, -1).flatten(0, 1).to(patches.dtype), patches), dim=1)


def _run(block: nn.Module, tokens: Tensor, table: RotaryTables) -> Tensor:
    out: Tensor = block(tokens, table)
    return out
