"""How a Pi3 or Pi3X is fed and read: its tokens, and its outputs as a Prediction. The network is in pi3.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quantlab.geometry.cameras import invert
from quantlab.models.family import (
    FAMILIES,
    Family,
    Points,
    check_outputs,
    check_points,
    pictures_of,
    scene_array,
)
from quantlab.models.pi3_masks import intrinsics_from_rays
from quantlab.models.prediction import Prediction
from quantlab.models.tokens import VIT_SPECIALS, TokenLayout

DECODERS = ("point_decoder", "conf_decoder", "camera_decoder")
CONDITIONING = ("depth_encoder.", "depth_emb", "ray_embed.", "pose_inject_blk.")
"""Parts of Pi3X that read known depth, rays and poses; without such input they compute nothing."""


def decode_pi3(outputs: Mapping[str, Tensor], tensor: Tensor, name: str, points: Points) -> Prediction:
    """Turn outputs under Pi3's published names for ``tensor`` [1, S, 3, H, W] into a Prediction.

    The first camera becomes the identity, as a Prediction has it (Pi3's own world frame is arbitrary); intrinsics are
    those that fit the local points, and the confidence is the sigmoid of the network's, from 0 to 1.

    Args:
        outputs: By name, with a batch axis of 1.
        tensor: The network's input [1, S, 3, H, W].
        name: What people call the network, for errors.
        points: Pi3 has one kind of points, that of its head; both names mean these.

    Raises:
        SceneError: There are no such points.
        CheckpointError: An output is missing.
        NumericError: An output is not finite.
    """
    check_points(points)
    check_outputs(outputs, ("local_points", "camera_poses", "conf"), name)
    local = outputs["local_points"][0].double().cpu()
    poses = outputs["camera_poses"][0].double().cpu().numpy()
    camera_from_world = invert(poses) @ poses[:1]
    camera_from_world[0] = np.eye(4)  # not only nearly: the poses are orthonormal in float32
    world_from_camera = invert(camera_from_world)
    turned = np.einsum("sij,shwj->shwi", world_from_camera[:, :3, :3], local.numpy())
    cloud = turned + world_from_camera[:, None, None, :3, 3]
    return Prediction(
        images=pictures_of(tensor),
        points=cloud.astype(np.float32),
        confidence=scene_array(outputs["conf"].float().sigmoid())[..., 0],
        depth=local[..., 2].float().numpy(),
        camera_from_world=camera_from_world,
        intrinsics=intrinsics_from_rays(local).float().numpy(),
    )


def cloud_pi3(outputs: Mapping[str, Tensor], _tensor: Tensor) -> Tensor:
    """The local points through their poses, float64 [S, H, W, 3]; `decode_pi3` for gradients."""
    local, poses = outputs["local_points"][0].double(), outputs["camera_poses"][0].double()
    first_from_camera = torch.linalg.inv(poses[:1]) @ poses
    turned = torch.einsum("sij,shwj->shwi", first_from_camera[:, :3, :3], local)
    return turned + first_from_camera[:, None, None, :3, 3]


def pi3_layout(network: nn.Module, tensor: Tensor) -> TokenLayout | None:
    """How the tokens of an input [..., S, 3, H, W] lie in the streams of a Pi3; None for another network."""
    registers = getattr(network, "register_token", None)
    encoder: Any = getattr(network, "encoder", None)
    if not (
        isinstance(registers, Tensor) and hasattr(network, "decoder") and hasattr(encoder, "patch_embed")
    ):
        return None
    patch = encoder.patch_embed.proj.kernel_size[0]
    frames, (height, width) = tensor.shape[-4], tensor.shape[-2:]
    trunk = ("register",) * registers.shape[2]
    specials = dict.fromkeys(("frame", "global", *DECODERS), trunk)
    return TokenLayout(frames, height // patch, width // patch, {"vit": VIT_SPECIALS, **specials})


_PI3 = Family(
    mode="pixels",
    outputs=frozenset({"local_points", "camera_poses", "conf"}),
    marks=frozenset({"register_token", "point_head.proj.weight"}),
    decode=decode_pi3,
    cloud=cloud_pi3,
    layout=pi3_layout,
)
FAMILIES.register("pi3")(_PI3)
FAMILIES.register("pi3x")(
    replace(_PI3, marks=frozenset({"register_token", "metric_token"}), ignored=CONDITIONING)
)
