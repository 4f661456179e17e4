"""What `mini` is: VGGT's sizes, its fresh weights, its loss. The loop that trains it is train_mini.py.

The curriculum: first every pose is told in the frame of one fixed reference camera (a network can learn
that from each picture alone), then in the frame of the first camera, which is VGGT's task and needs the
other pictures. From scratch the second task stays at chance for longer than a laptop has patience.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pool import SIZE, as_input
from torch import Tensor, nn

from quantlab.models.networks import build_model
from quantlab.models.pose_encoding import cameras_from_code, code_from_cameras
from quantlab.scenes.synthetic import world_points

KIND = "vggt"
CONFIG = {
    "patch_size": 12,
    "aggregator": {"img_size": SIZE, "embed_dim": 192, "depth": 4, "num_heads": 6, "num_register_tokens": 4},
    "vit": {"embed_dim": 192, "depth": 2, "num_heads": 6},
    "camera_head": {"trunk_depth": 1, "num_heads": 6},
    "dpt": {"features": 32, "out_channels": [32, 48, 64, 96], "intermediate_layer_idx": [0, 1, 2, 3]},
}


def build() -> nn.Module:
    """The network with weights drawn for learning from scratch (released LayerScales, 0.01, learn slowly)."""
    torch.manual_seed(0)
    network = build_model(KIND, CONFIG)
    draw_weights(network)
    with torch.no_grad():
        # Begin near the middle of the poses: hardly turned, a field of view of some 70 degrees.
        network.camera_head.pose_branch.fc2.weight *= 0.1
        network.camera_head.pose_branch.fc2.bias[6] = 0.25
        network.camera_head.pose_branch.fc2.bias[7:] = 0.3
    network.depth_head.frames_per_chunk = network.point_head.frames_per_chunk = 64
    return network.train()


def draw_weights(network: nn.Module) -> None:
    """Weights that learn from scratch, for any network of this package."""
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
        elif name.endswith(("camera_token", "register_token", "register_tokens", "cls_token", "pos_embed")):
            nn.init.normal_(parameter, std=0.02 if "pos" in name else 0.5)
        elif parameter.dim() == 2:
            gain = 0.35 if name.endswith(("attn.proj.weight", "mlp.fc2.weight")) else 0.7
            nn.init.trunc_normal_(parameter, std=gain * parameter.shape[1] ** -0.5)
        elif name.endswith("bias") and "norm" not in name:
            nn.init.zeros_(parameter)


def loss_of(
    network: nn.Module,
    images: Tensor,
    depth: Tensor,
    cameras: Tensor,
    intrinsics: Tensor,
    reference: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and its parts; the dense heads see half of the frames, which halves their cost.

    Args:
        images: uint8 [B, S, H, W, 3]; depth [B, S, H, W], cameras [B, S, 4, 4] and intrinsics [3, 3] belong to them.
        reference: The camera [4, 4] whose frame is the world; None is the first camera of each room.
    """
    pose, points = targets(depth, cameras, intrinsics, reference)
    chosen = torch.randperm(images.shape[1], device=images.device)[: (images.shape[1] + 1) // 2]
    codes, dense = predict(network, as_input(images), chosen)
    poses = [F.smooth_l1_loss(code, pose, beta=0.05) * 0.7 ** (3 - i) for i, code in enumerate(codes)]
    depth_loss = confident_loss(dense[0], depth[:, chosen, ..., None], dense[1])
    points_loss = confident_loss(dense[2], points[:, chosen], dense[3])
    parts = {"pose": poses[-1], "depth": depth_loss, "points": points_loss}
    return 10 * torch.stack(poses).sum() + 0.5 * depth_loss + 0.5 * points_loss, parts


def predict(network: nn.Module, pictures: Tensor, chosen: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Pose codes after each iteration, and depth, its confidence, points, theirs, for the ``chosen`` frames."""
    device = pictures.device.type
    with torch.autocast(device, dtype=torch.bfloat16):
        tokens = network.aggregator(pictures)
    tokens = {index: value.float() for index, value in tokens.items()}
    codes = network.camera_head(tokens[max(tokens)])
    part = {index: value[:, chosen] for index, value in tokens.items()}
    specials = network.aggregator.special_tokens
    with torch.autocast(device, dtype=torch.bfloat16):
        dense = [
            *network.depth_head(part, pictures[:, chosen], specials),
            *network.point_head(part, pictures[:, chosen], specials),
        ]
    return codes, [value.float() for value in dense]


def confident_loss(value: Tensor, truth: Tensor, confidence: Tensor) -> Tensor:
    """The network may call a pixel hard, at a price (Kendall & Gal 2017); the plain error keeps it from giving up."""
    error = (value - truth).abs().mean(-1)
    return (error * confidence - 0.2 * confidence.log()).mean() + error.mean()


def targets(
    depth: Tensor, cameras: Tensor, intrinsics: Tensor, reference: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Pose codes [B, S, 9] and world points [B, S, H, W, 3] in the frame of ``reference``, or of the first camera."""
    world = cameras[:, :1] if reference is None else reference
    relative = cameras @ torch.linalg.inv(world)
    every = intrinsics.expand(*depth.shape[:2], 3, 3)
    code = code_from_cameras(relative, every, *depth.shape[-2:])
    return code.float(), world_points(depth, relative.float(), every)


@torch.no_grad()
def cameras_and_depth(network: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """camera_from_world [S, 4, 4] and depth [S, H, W] of one room [1, S, 3, H, W]."""
    codes, dense = predict(network, pictures, torch.arange(pictures.shape[1], device=pictures.device))
    return cameras_from_code(codes[-1][0].double(), SIZE, SIZE)[0], dense[0][0, ..., 0]
