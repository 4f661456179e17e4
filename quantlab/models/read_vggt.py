"""How a VGGT is fed and read: its tokens, and its outputs as a Prediction. The network is in vggt.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quantlab.geometry.cameras import unproject
from quantlab.models.family import (
    FAMILIES,
    Family,
    Points,
    check_outputs,
    check_points,
    pictures_of,
    scene_array,
)
from quantlab.models.pose_encoding import cameras_from_code
from quantlab.models.prediction import Prediction
from quantlab.models.tokens import VIT_SPECIALS, TokenLayout


def decode_vggt(outputs: Mapping[str, Tensor], tensor: Tensor, name: str, points: Points) -> Prediction:
    """Turn outputs under VGGT's published names for ``tensor`` [1, S, 3, H, W] into a Prediction.

    Args:
        outputs: By name, with a batch axis of 1.
        tensor: The network's input [1, S, 3, H, W].
        name: What people call the network, for errors.
        points: "depth" unprojects the depth with the predicted cameras; "head" takes the point head's.

    Raises:
        SceneError: There are no such points.
        CheckpointError: An output is missing.
        NumericError: An output is not finite.
    """
    check_points(points)
    check_outputs(outputs, ("pose_enc", "depth", *(("world_points",) if points == "head" else ())), name)
    height, width = tensor.shape[-2:]
    code = outputs["pose_enc"][0].double().cpu()
    pose, intrinsics = (matrix.numpy() for matrix in cameras_from_code(code, height, width))
    depth = scene_array(outputs["depth"])[..., 0]
    if points == "head":
        cloud = scene_array(outputs["world_points"])
        confidence = scene_array(outputs["world_points_conf"])
    else:
        cloud, confidence = unproject(depth, intrinsics, pose), scene_array(outputs["depth_conf"])
    return Prediction(
        images=pictures_of(tensor),
        points=np.asarray(cloud, dtype=np.float32),
        confidence=confidence,
        depth=depth,
        camera_from_world=pose,
        intrinsics=intrinsics.astype(np.float32),
    )


def cloud_vggt(outputs: Mapping[str, Tensor], tensor: Tensor) -> Tensor:
    """The depth unprojected with the predicted cameras, float64 [S, H, W, 3]; `decode_vggt` for gradients."""
    depth = outputs["depth"][0, ..., 0].double()
    pose, intrinsics = cameras_from_code(outputs["pose_enc"][0].double(), *tensor.shape[-2:])
    rows, columns = (torch.arange(size, dtype=depth.dtype, device=depth.device) for size in depth.shape[-2:])
    focal_x, focal_y, centre_x, centre_y = (
        intrinsics[:, row, column, None, None] for row, column in ((0, 0), (1, 1), (0, 2), (1, 2))
    )
    x, y = (columns - centre_x) / focal_x * depth, (rows[:, None] - centre_y) / focal_y * depth
    in_camera = torch.stack((x, y, depth), dim=-1)
    return torch.einsum("shwi,sij->shwj", in_camera - pose[:, None, None, :3, 3], pose[:, :3, :3])


def vggt_layout(network: nn.Module, tensor: Tensor) -> TokenLayout | None:
    """How the tokens of an input [..., S, 3, H, W] lie in the streams of a VGGT; None for another network."""
    aggregator: Any = getattr(network, "aggregator", None)
    if not (hasattr(aggregator, "patch_size") and hasattr(aggregator, "register_token")):
        return None
    patch, registers = aggregator.patch_size, aggregator.register_token.shape[2]
    frames, (height, width) = tensor.shape[-4], tensor.shape[-2:]
    trunk = ("camera", *("register",) * registers)
    return TokenLayout(
        frames,
        height // patch,
        width // patch,
        specials={"vit": VIT_SPECIALS, "frame": trunk, "global": trunk},
        uniform={"camera_head": "camera"},
    )


FAMILIES.register("vggt")(
    Family(
        mode="crop",
        outputs=frozenset({"pose_enc", "depth", "depth_conf"}),
        marks=frozenset({"aggregator.camera_token"}),
        decode=decode_vggt,
        cloud=cloud_vggt,
        layout=vggt_layout,
        echoes=frozenset({"images"}),
    )
)
