"""VGGT's pose code against camera matrices, in torch and differentiable. No image geometry beyond the pinhole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

QUATERNION_FLOOR = 0.1


def cameras_from_code(code: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Poses and intrinsics from pose codes [tx, ty, tz, qx, qy, qz, qw, fov_h, fov_w] (radians).

    Args:
        code: (..., 9); the quaternion need not be normalised.
        height: Pixels of the images the network saw.
        width: As above.

    Returns:
        ``camera_from_world`` (..., 4, 4) in OpenCV axes, and ``intrinsics`` (..., 3, 3) with a centred principal
        point and no skew, in pixels.
    """
    pose = code.new_zeros(*code.shape[:-1], 4, 4)
    pose[..., :3, :3] = rotation_from_quaternion(code[..., 3:7])
    pose[..., :3, 3] = code[..., :3]
    pose[..., 3, 3] = 1
    intrinsics = code.new_zeros(*code.shape[:-1], 3, 3)
    intrinsics[..., 0, 0] = width / 2 / torch.tan(code[..., 8] / 2)
    intrinsics[..., 1, 1] = height / 2 / torch.tan(code[..., 7] / 2)
    intrinsics[..., 0, 2] = width / 2
    intrinsics[..., 1, 2] = height / 2
    intrinsics[..., 2, 2] = 1
    return pose, intrinsics


def code_from_cameras(camera_from_world: Tensor, intrinsics: Tensor, height: int, width: int) -> Tensor:
    """The pose code (..., 9) of poses (..., 3 or 4, 4) and intrinsics (..., 3, 3), with qw not negative."""
    fov_h = 2 * torch.atan(height / 2 / intrinsics[..., 1, 1])
    fov_w = 2 * torch.atan(width / 2 / intrinsics[..., 0, 0])
    quaternion = quaternion_from_rotation(camera_from_world[..., :3, :3])
    fov = torch.stack((fov_h, fov_w), dim=-1)
    return torch.cat((camera_from_world[..., :3, 3], quaternion, fov), dim=-1)


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4), scalar last, of any length."""
    x, y, z, w = quaternion.unbind(-1)
    s = 2 / (quaternion * quaternion).sum(-1)
    entries = (
        1 - s * (y * y + z * z),
        s * (x * y - z * w),
        s * (x * z + y * w),
        s * (x * y + z * w),
        1 - s * (x * x + z * z),
        s * (y * z - x * w),
        s * (x * z - y * w),
        s * (y * z + x * w),
        1 - s * (x * x + y * y),
    )
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def quaternion_from_rotation(rotation: Tensor) -> Tensor:
    """Unit quaternions (..., 4), scalar last and not negative, of rotation matrices (..., 3, 3).

    Of four algebraically equal candidates the one with the largest divisor is taken, so that turns of 180 degrees
    lose no digits.
    """
    m = rotation.flatten(-2).unbind(-1)
    squares = torch.stack(
        (1 + m[0] + m[4] + m[8], 1 + m[0] - m[4] - m[8], 1 - m[0] + m[4] - m[8], 1 - m[0] - m[4] + m[8]),
        dim=-1,
    )
    magnitude = squares.clamp(min=0).sqrt()
    w2, x2, y2, z2 = (magnitude**2).unbind(-1)
    zy, xz, yx = m[7] - m[5], m[2] - m[6], m[3] - m[1]
    xy, xz_sum, yz = m[3] + m[1], m[2] + m[6], m[5] + m[7]
    rows = (
        torch.stack((zy, xz, yx, w2), dim=-1),
        torch.stack((x2, xy, xz_sum, zy), dim=-1),
        torch.stack((xy, y2, yz, xz), dim=-1),
        torch.stack((xz_sum, yz, z2, yx), dim=-1),
    )
    candidates = torch.stack(rows, dim=-2) / (2 * magnitude.clamp(min=QUATERNION_FLOOR))[..., None]
    best = F.one_hot(magnitude.argmax(-1), 4).to(rotation.dtype)
    quaternion = (candidates * best[..., None]).sum(-2)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)
