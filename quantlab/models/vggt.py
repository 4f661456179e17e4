"""VGGT: images in, cameras, depth, points and tracks out, with the published names. No files, no pictures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from quantlab.models.aggregator import Aggregator
from quantlab.models.camera_head import CameraHead
from quantlab.models.config import VGGTConfig
from quantlab.models.dpt import DPTHead
from quantlab.models.precision import check_images, precision
from quantlab.models.reconstruction import Reconstruction
from quantlab.models.tracker import TrackHead


class VGGT(Reconstruction):
    """Visual geometry grounded transformer.

    ``compute_dtype`` bfloat16 runs the trunk as the published mixed precision does (products in bfloat16, norms and
    residual stream in float32). The heads stay in float32 then and under any autocast around the call, unless
    ``heads_in_float32`` is set to False (a trainer's shortcut). A head that is None is skipped.

    Source:
        Wang et al. 2025 (arXiv:2503.11651).
    """

    kind = "vggt"
    kept_in_float32 = ("camera_head", "track_head")
    config: VGGTConfig

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        self.config = config
        self.heads_in_float32 = True
        dim, patch = 2 * config.aggregator.embed_dim, config.aggregator.patch_size
        self.aggregator = Aggregator(config.aggregator, config.vit)
        camera, dpt, track = config.camera_head, config.dpt, config.track
        self.camera_head = CameraHead(dim, camera) if camera else None
        self.depth_head: DPTHead | None = None
        self.point_head: DPTHead | None = None
        if dpt:
            shape = (dim, patch, dpt.features, dpt.out_channels, config.layers)
            self.depth_head = DPTHead(*shape, "exp")
            self.point_head = DPTHead(*shape, "inv_log")
        self.track_head = TrackHead(dim, patch, config.layers, track) if track else None

    def forward(self, images: Tensor, query_points: Tensor | None = None) -> dict[str, Tensor]:
        """Reconstruct a sequence.

        Args:
            images: [S, 3, H, W] or [B, S, 3, H, W] in [0, 1]; H and W are multiples of the patch size.
            query_points: [N, 2] or [B, N, 2], pixels (x, y) of frame 0 to track; None tracks nothing.

        Returns:
            ``pose_enc`` [B,S,9], ``depth`` [B,S,H,W,1], ``depth_conf`` [B,S,H,W], ``world_points`` [B,S,H,W,3],
            ``world_points_conf`` [B,S,H,W], with query points ``track`` [B,S,N,2], ``vis`` and ``conf`` [B,S,N],
            and ``images`` [B,S,3,H,W]. Entries of absent heads are left out.
        """
        images = images[None] if images.dim() == 4 else images
        check_images(images, self.config.aggregator.patch_size)
        device = images.device.type
        with precision(device, self.compute_dtype):
            tokens = self.aggregator(images, keep=self._layers_needed(query_points))
        with torch.autocast(device, enabled=False) if self.heads_in_float32 else nullcontext():
            outputs = self._dense_outputs(
                {index: t.to(self.stream_dtype) for index, t in tokens.items()}, images
            )
        if self.track_head is not None and query_points is not None:
            query = query_points[None] if query_points.dim() == 2 else query_points
            with precision(device, self.compute_dtype):
                wide = {index: t.float() for index, t in tokens.items()}
                found = self.track_head(wide, images, self.aggregator.special_tokens, query)
            outputs |= dict(zip(("track", "vis", "conf"), found, strict=True))
        return outputs | {"images": images}

    def _dense_outputs(self, tokens: Mapping[int, Tensor], images: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        specials = self.aggregator.special_tokens
        if self.camera_head is not None:
            outputs["pose_enc"] = self.camera_head(tokens[self._last_layer][:, :, :1].float())[-1]
        for name, head in (("depth", self.depth_head), ("world_points", self.point_head)):
            if head is not None:
                outputs[name], outputs[f"{name}_conf"] = head(tokens, images, specials)
        return outputs

    @property
    def cross_frame(self) -> bool:
        """Whether the global blocks see all frames; False cuts them down to one frame each."""
        return self.aggregator.cross_frame

    @cross_frame.setter
    def cross_frame(self, across: bool) -> None:
        self.aggregator.cross_frame = across

    def execution_order(self) -> list[str]:
        """Module names in the order they run, for ``structure.describe``: frame and global blocks alternate."""
        depth = range(len(self.aggregator.frame_blocks))
        pairs = [f"aggregator.{stream}_blocks.{index}" for index in depth for stream in ("frame", "global")]
        return ["aggregator.patch_embed", *pairs, "camera_head", "depth_head", "point_head", "track_head"]

    @property
    def _last_layer(self) -> int:
        return len(self.aggregator.frame_blocks) - 1

    def _layers_needed(self, query_points: Tensor | None) -> set[int]:
        tracking = self.track_head is not None and query_points is not None
        dense = tracking or self.depth_head is not None or self.point_head is not None
        needed = set(self.config.layers) if dense else set()
        return needed | {self._last_layer} if self.camera_head is not None else needed
