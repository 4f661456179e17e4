"""What `pi3-mini` is: Pi3's sizes, its fresh weights, its loss. The loop that trains it is train_mini.py.

Pi3 predicts poses in a world frame of its own choice, and relative poses are what counts. In rooms of one decoration
a network could give absolute poses from each picture alone, and attention across views would have nothing to do. So
the first part tells absolute poses in one fixed frame (each picture shows them), and then the world becomes the mean
of the cameras of a scene: still no view is preferred, but nobody can know that frame without the other views.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pool import SIZE, as_input
from torch import Tensor, nn
from vggt_task import draw_weights

from quantlab.models.networks import build_model

KIND = "pi3"
CONFIG = {
    "patch_size": 12,
    "encoder": {"img_size": SIZE, "embed_dim": 192, "depth": 2, "num_heads": 6},
    "decoder": {"embed_dim": 192, "depth": 10, "num_heads": 6},
    "heads": {"embed_dim": 192, "depth": 1, "num_heads": 6, "out_dim": 192, "camera_out_dim": 128},
}
SURE = 0.03
"""The relative error of a point at which its confidence should be 1/e."""


def build() -> nn.Module:
    """The network with weights drawn for learning from scratch."""
    torch.manual_seed(0)
    network = build_model(KIND, CONFIG)
    draw_weights(network)
    with torch.no_grad():
        # Begin near the middle of what is to be said: cameras that are hardly turned, points two units away.
        network.camera_head.fc_rot.weight *= 0.1
        network.camera_head.fc_t.weight *= 0.1
        network.camera_head.fc_rot.bias.copy_(torch.eye(3).flatten())
        network.point_head.proj.bias[2 * 144 :] = 0.7
    network.compute_dtype = torch.bfloat16
    return network.train()


def loss_of(
    network: nn.Module,
    images: Tensor,
    depth: Tensor,
    cameras: Tensor,
    intrinsics: Tensor,
    reference: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and its parts.

    Args:
        images: uint8 [B, S, H, W, 3]; depth [B, S, H, W], cameras [B, S, 4, 4] and intrinsics [3, 3] belong to them.
        reference: The camera [4, 4] whose frame is the world; None is the mean of each room's cameras.
    """
    outputs = network(as_input(images))
    poses = torch.linalg.inv(cameras)
    world = mean_pose(poses) if reference is None else torch.linalg.inv(reference)
    absolute = pose_error(outputs["camera_poses"], (torch.linalg.inv(world) @ poses).float())
    relative = pose_error(between(outputs["camera_poses"]), between(poses).float())
    local, confidence = point_losses(outputs, depth, intrinsics.float())
    parts = {"absolute": absolute, "relative": relative, "local": local, "confidence": confidence}
    return 2 * absolute + 2 * relative + 2 * local + 0.1 * confidence, parts


def pose_error(poses: Tensor, truth: Tensor) -> Tensor:
    """Mean distance of rotations (Frobenius) and of translations, both [..., 3 or 4, 4]; smooth near zero."""
    rotation = (poses[..., :3, :3] - truth[..., :3, :3]).square().sum((-1, -2))
    translation = (poses[..., :3, 3] - truth[..., :3, 3]).square().sum(-1)
    return sum(
        ((part + 1e-5).sqrt().mean() for part in (rotation, translation)), torch.zeros_like(poses.sum())
    )


def between(poses: Tensor) -> Tensor:
    """Of every ordered pair of different views, the pose of one in the camera of the other: [B, S * (S - 1), 3, 4]."""
    rotation, place = poses[..., :3, :3], poses[..., :3, 3]
    turned = rotation.mT[:, :, None] @ rotation[:, None]
    moved = torch.einsum("bixy,bijx->bijy", rotation, place[:, None] - place[:, :, None])
    top = torch.cat((turned, moved[..., None]), -1)
    different = ~torch.eye(poses.shape[1], dtype=torch.bool, device=poses.device)
    return top[:, different]


def mean_pose(poses: Tensor) -> Tensor:
    """The mean place and the chordal mean rotation of [B, S, 4, 4], as [B, 1, 4, 4]."""
    u, _, vh = torch.linalg.svd(poses[..., :3, :3].mean(1))
    world = torch.eye(4, dtype=poses.dtype, device=poses.device).repeat(len(poses), 1, 1)
    world[:, :3, :3], world[:, :3, 3] = u @ vh, poses[..., :3, 3].mean(1)
    return world[:, None]


def point_losses(outputs: dict[str, Tensor], depth: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """The mean error of local points as a share of the depth, and the cross-entropy of the confidence with it."""
    height, width = depth.shape[-2:]
    v, u = torch.meshgrid(
        torch.arange(height, device=depth.device), torch.arange(width, device=depth.device), indexing="ij"
    )
    rays = torch.stack(
        (
            (u - intrinsics[0, 2]) / intrinsics[0, 0],
            (v - intrinsics[1, 2]) / intrinsics[1, 1],
            torch.ones_like(u, dtype=torch.float32),
        ),
        -1,
    )
    error = (outputs["local_points"] - rays * depth[..., None]).abs().sum(-1) / depth
    target = torch.exp(-error.detach() / SURE)
    return error.mean(), F.binary_cross_entropy_with_logits(outputs["conf"][..., 0], target)


@torch.no_grad()
def cameras_and_depth(network: nn.Module, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """camera_from_world [S, 4, 4] and depth [S, H, W] of one room [1, S, 3, H, W]."""
    outputs = network(pictures)
    return torch.linalg.inv(outputs["camera_poses"][0].double()), outputs["local_points"][0, ..., 2]
