"""VGGT's camera head: refines one pose code per frame from the camera tokens. It does not turn codes into matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantlab.models.config import CameraHeadConfig
from quantlab.models.layers import MLP, Block, LayerNorm

ITERATIONS = 4
POSE_CODE = 9


class CameraHead(nn.Module):
    """Iterated refinement with adaptive normalisation; the trunk attends over the frames of a sequence.

    Source:
        Wang et al. 2025 (arXiv:2503.11651), section 3.3; the modulation is that of Peebles & Xie 2022.
    """

    def __init__(self, dim: int, config: CameraHeadConfig) -> None:
        super().__init__()
        self.token_norm = LayerNorm(dim)
        self.trunk = nn.ModuleList(Block(dim, config.num_heads) for _ in range(config.trunk_depth))
        self.trunk_norm = LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_CODE))
        self.embed_pose = nn.Linear(POSE_CODE, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.adaln_norm = LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.pose_branch = MLP(dim, dim // 2, POSE_CODE)

    def forward(self, tokens: Tensor, iterations: int = ITERATIONS) -> list[Tensor]:
        """Pose codes [B, S, 9] after each iteration, from the last layer's ``tokens`` [B, S, tokens, dim]."""
        camera = self.token_norm(tokens[:, :, 0])
        raw = self.empty_pose_tokens.expand(*camera.shape[:2], -1)
        codes: list[Tensor] = []
        for step in range(iterations):
            update = self._refine(camera, raw)
            # What is fed back is the raw sum: the activation of the field of view is only for the reader.
            raw = update if step == 0 else raw + update
            codes.append(activate_pose(raw))
        return codes

    def _refine(self, camera: Tensor, raw: Tensor) -> Tensor:
        shift, scale, gate = self.poseLN_modulation(self.embed_pose(raw)).chunk(3, dim=-1)
        x = gate * (self.adaln_norm(camera) * (1 + scale) + shift) + camera
        for block in self.trunk:
            x = block(x)
        update: Tensor = self.pose_branch(self.trunk_norm(x))
        return update


def activate_pose(raw: Tensor) -> Tensor:
    """[translation, quaternion xyzw, field of view h, w] (..., 9): only the fields of view are clipped at 0."""
    return torch.cat((raw[..., :7], F.relu(raw[..., 7:])), dim=-1)
