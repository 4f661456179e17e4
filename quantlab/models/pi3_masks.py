"""What Pi3's users compute from its local points: intrinsics, normals, edges, the default mask. No network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CONFIDENT = 0.1
EDGE = 0.03
EDGE_DEGREES = 5.0
TINY = 1e-10


def intrinsics_from_rays(rays: Tensor, *, centred: bool = False) -> Tensor:
    """The pinhole cameras that fit points or rays best, by least squares: [..., 3, 3] in pixels.

    Args:
        rays: [..., H, W, 3] in the camera's frame; only their directions count.
        centred: Put the principal point at ((W - 1) / 2, (H - 1) / 2) instead of fitting it.
    """
    height, width = rays.shape[-3:-1]
    plane = rays[..., :2] / (rays[..., 2:].abs() + TINY)
    pixels = {
        0: torch.arange(width, device=rays.device, dtype=rays.dtype).expand(height, width),
        1: torch.arange(height, device=rays.device, dtype=rays.dtype)[:, None].expand(height, width),
    }
    found = torch.eye(3, dtype=rays.dtype, device=rays.device).repeat(*rays.shape[:-3], 1, 1)
    for axis, pixel in pixels.items():
        slope, target = plane[..., axis].flatten(-2), pixel.flatten()
        if centred:
            middle = (pixel.max() / 2).expand(slope.shape[:-1])
            focal = (slope * (target - middle[..., None])).sum(-1) / slope.square().sum(-1)
        else:
            spread = slope - slope.mean(-1, keepdim=True)
            focal = (spread * target).sum(-1) / spread.square().sum(-1)
            middle = target.mean() - focal * slope.mean(-1)
        found[..., axis, axis], found[..., axis, 2] = focal, middle
    return found


def default_mask(local_points: Tensor, confidence: Tensor) -> Tensor:
    """The pixels that Pi3's authors keep: confident, and on no edge of depth and normals: bool [N, H, W].

    Args:
        local_points: [N, H, W, 3] in each camera's frame.
        confidence: Logits [N, H, W].
    """
    sure = confidence.sigmoid() > CONFIDENT
    return sure & ~depth_normal_edge(local_points, sure)


def depth_normal_edge(points: Tensor, mask: Tensor | None = None) -> Tensor:
    """Where both the depth jumps and a known normal turns: bool [N, H, W] of ``points`` [N, H, W, 3]."""
    normals, known = points_to_normals(points, mask)
    return depth_edge(points[..., 2], mask) & normal_edge(normals, known) & known


def depth_edge(depth: Tensor, mask: Tensor | None = None, tolerance: float = EDGE) -> Tensor:
    """Where the depth [N, H, W] of a 3 x 3 neighbourhood spans more than ``tolerance`` of it: bool [N, H, W]."""
    high, low = depth, -depth
    if mask is not None:
        nothing = torch.full_like(depth, -torch.inf)
        high, low = torch.where(mask, high, nothing), torch.where(mask, low, nothing)
    span = _largest_near(high) + _largest_near(low)
    return (span / depth).nan_to_num(nan=0.0) > tolerance


def points_to_normals(points: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Unit normals [N, H, W, 3] of a grid of points, and where one is known: bool [N, H, W].

    The mean of the normals of the up to four triangles with two neighbours in turn; points outside ``mask`` and
    outside the picture are no neighbours.
    """
    valid = torch.ones_like(points[..., 0], dtype=torch.bool) if mask is None else mask
    padded = F.pad(points, (0, 0, 1, 1, 1, 1))
    there = F.pad(valid, (1, 1, 1, 1))
    # Up, left, down, right, and up again.
    shifts = ((0, 1), (1, 0), (2, 1), (1, 2), (0, 1))
    height, width = valid.shape[-2:]
    sides = [padded[:, y : y + height, x : x + width] - points for y, x in shifts]
    present = [there[:, y : y + height, x : x + width] & valid for y, x in shifts]
    total, known = torch.zeros_like(points), torch.zeros_like(valid)
    for index in range(4):
        both = present[index] & present[index + 1]
        normal = F.normalize(torch.linalg.cross(sides[index], sides[index + 1]), dim=-1)
        total = total + torch.where(both[..., None], normal, torch.zeros_like(normal))
        known = known | both
    return F.normalize(total, dim=-1), known


def normal_edge(normals: Tensor, mask: Tensor | None = None, degrees: float = EDGE_DEGREES) -> Tensor:
    """Where the normals [N, H, W, 3] near a pixel turn by more than ``degrees``: bool [N, H, W]."""
    height, width = normals.shape[1:3]
    around = F.pad(normals.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate").permute(0, 2, 3, 1)
    known = None if mask is None else F.pad(mask, (1, 1, 1, 1))
    angle = torch.zeros_like(normals[..., 0])
    for y in range(3):
        for x in range(3):
            cosine = (normals * around[:, y : y + height, x : x + width]).sum(-1)
            turned = cosine.clamp(-1, 1).acos()
            if known is not None:
                turned = torch.where(
                    known[:, y : y + height, x : x + width], turned, torch.zeros_like(turned)
                )
            angle = torch.maximum(angle, turned)
    return _largest_near(angle) > degrees * torch.pi / 180


def _largest_near(values: Tensor) -> Tensor:
    """The largest of each 3 x 3 neighbourhood of [N, H, W]."""
    return F.max_pool2d(values[:, None], 3, stride=1, padding=1)[:, 0]
