"""Pi3: images in, points and poses out without a reference view, under the published names. No files, no pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from quantlab.models.aggregator import IMAGE_MEAN, IMAGE_STD
from quantlab.models.config_pi3 import Pi3Config
from quantlab.models.layers import Block
from quantlab.models.pi3_heads import EPS, HeadDecoder, PatchHead, PoseHead
from quantlab.models.precision import check_images, precision
from quantlab.models.reconstruction import Reconstruction
from quantlab.models.rotary import RotaryTables, frame_tables
from quantlab.models.vit import VisionTransformer


class Pi3(Reconstruction):
    """Permutation-equivariant visual geometry: all views go through the same weights, and none is the reference.

    ``compute_dtype`` bfloat16 runs encoder, trunk and head decoders as the published mixed precision does; the heads
    behind them stay in float32 then and under any autocast around the call. Set ``cross_frame`` to False to cut the
    blocks of all views down to one view each: what is lost then is what the network learns from the other views.

    Source:
        Wang et al. 2025 (arXiv:2507.13347).
    """

    kind = "pi3"
    kept_in_float32 = ("point_head", "conf_head", "camera_head", "metric_head")
    config: Pi3Config
    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: Pi3Config) -> None:
        super().__init__()
        self.config = config
        self.cross_frame = True
        encoder, decoder, heads = config.encoder, config.decoder, config.heads
        dim = decoder.embed_dim
        self.encoder = VisionTransformer(
            encoder.img_size,
            encoder.patch_size,
            dim,
            encoder.depth,
            encoder.num_heads,
            mask_token=False,
        )
        self.register_token = nn.Parameter(torch.randn(1, 1, decoder.num_register_tokens, dim) * 1e-6)
        self.decoder = nn.ModuleList(
            Block(dim, decoder.num_heads, qk_norm=True, eps=EPS, narrow_rotary=True)
            for _ in range(decoder.depth)
        )
        self.point_decoder = HeadDecoder(2 * dim, heads, heads.out_dim)
        self.conf_decoder = HeadDecoder(2 * dim, heads, heads.out_dim)
        self.camera_decoder = HeadDecoder(2 * dim, heads, heads.camera_out_dim)
        self.point_head: nn.Module = PatchHead(heads.out_dim, config.patch_size, 3)
        self.conf_head: nn.Module = PatchHead(heads.out_dim, config.patch_size, 1)
        self.camera_head = PoseHead(heads.camera_out_dim)
        # In the checkpoint, unlike VGGT's.
        self.register_buffer("image_mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1))
        self.register_buffer("image_std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1))

    @property
    def special_tokens(self) -> int:
        """Tokens in front of each view's patches: the registers."""
        return self.register_token.shape[2]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Reconstruct a set of views.

        Args:
            images: [N, 3, H, W] or [B, N, 3, H, W] in [0, 1]; H and W are multiples of the patch size.

        Returns:
            ``points`` [B,N,H,W,3] in a world frame of the network's choice, ``local_points`` [B,N,H,W,3] in each
            camera's frame, ``conf`` [B,N,H,W,1] (a logit) and ``camera_poses`` [B,N,4,4] (world_from_camera, float32).
            World frame and scale are arbitrary; the first camera is not the identity.
        """
        images = images[None] if images.dim() == 4 else images
        check_images(images, self.config.patch_size)
        device = images.device.type
        with precision(device, self.compute_dtype):
            parts = self.decoded(self.hidden(images), images)
        with torch.autocast(device, enabled=False):
            return self.outputs(parts, images)

    def decoded(self, hidden: Tensor, images: Tensor) -> dict[str, Tensor]:
        """What the heads read: patch tokens [B * N, patches, dim] under "point", "conf" and "camera"."""
        decoders = {"point": self.point_decoder, "conf": self.conf_decoder, "camera": self.camera_decoder}
        tables = self.tables(images, self.point_decoder.head_dim)
        return {name: decoder(hidden, tables)[:, self.special_tokens :] for name, decoder in decoders.items()}

    def outputs(self, parts: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
        """The heads, in float32, on what the head decoders made."""
        views = images.shape[:2]
        local = self.dense(self.point_head, parts["point"].float(), images).unflatten(0, views)
        z = self.log_depth(local[..., 2:]).exp()
        # The depth multiplies x and y too: what the head gives are slopes.
        local = torch.cat((local[..., :2] * z, z), dim=-1)
        poses = self.camera_head(parts["camera"].float()).unflatten(0, views)
        return {
            "points": to_world(local, poses),
            "local_points": local,
            "conf": self.dense(self.conf_head, parts["conf"].float(), images).unflatten(0, views),
            "camera_poses": poses,
        }

    def dense(self, head: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
        """A dense head on patch tokens [B * N, patches, dim]: [B * N, H, W, channels]."""
        found: Tensor = head(tokens, *self.grid(images))
        return found

    def log_depth(self, raw: Tensor) -> Tensor:
        """The logarithm of the depth, as the head gives it."""
        return raw

    def hidden(self, images: Tensor) -> Tensor:
        """What the head decoders read [B * N, tokens, 2 * dim]: the last block of one view beside the last of all."""
        *_, before, last = self.iterate(images)
        return torch.cat((before, last), dim=-1)

    def iterate(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the tokens [B * N, tokens, dim] after each block of the trunk, for ``images`` [B, N, 3, H, W]."""
        batch, views = images.shape[:2]
        head_dim = self.config.decoder.embed_dim // self.config.decoder.num_heads
        tokens, table = self.tokens(images), self.tables(images, head_dim)
        together = self.cross_frame and views > 1
        across = table.repeat(views) if together else table
        for index, block in enumerate(self.decoder):
            if index % 2 and together:
                sequence = tokens.unflatten(0, (batch, views)).flatten(1, 2)
                tokens = block(sequence, across).reshape(tokens.shape)
            else:
                tokens = block(tokens, table)
            yield tokens

    def tokens(self, images: Tensor) -> Tensor:
        """The trunk's input [B * N, registers + patches, dim]."""
        normalised = (images.flatten(0, 1) - self.image_mean) / self.image_std
        patches = self.encoder(normalised)
        registers = self.register_token[0].expand(len(patches), -1, -1)
        return torch.cat((registers.to(patches.dtype), patches), dim=1)

    def tables(self, images: Tensor, head_dim: int) -> RotaryTables:
        """The rotary tables of one view's tokens, in the dtype of the products."""
        device = images.device
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else images.dtype
        return frame_tables(*self.grid(images), self.special_tokens, head_dim, dtype, device)

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches."""
        patch = self.config.patch_size
        return images.shape[-2] // patch, images.shape[-1] // patch

    def execution_order(self) -> list[str]:
        """Module names in the order they run, for ``structure.describe``."""
        return ["encoder", *self._trunk(), *self._after_trunk()]

    def _trunk(self) -> list[str]:
        return [f"decoder.{index}" for index in range(len(self.decoder))]

    def _after_trunk(self) -> list[str]:
        decoders = ("point_decoder", "conf_decoder", "camera_decoder")
        return [*decoders, "point_head", "camera_head", "conf_head"]


def to_world(local: Tensor, poses: Tensor) -> Tensor:
    """Points [B, N, H, W, 3] of each camera's frame in the world of ``poses`` [B, N, 4, 4]."""
    turned = torch.einsum("bnij,bnhwj->bnhwi", poses[..., :3, :3], local)
    return turned + poses[..., None, None, :3, 3]
