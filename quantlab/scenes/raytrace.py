"""A vectorised ray tracer for box rooms with boxes, spheres and cylinders. Geometry and colour; no randomness.

World axes: x right, y down, z away from the viewer (OpenCV), in scene units; the room is an axis-aligned box around the
origin whose floor is the plane of greatest y.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FAR = 1e6
LIGHT = (0.35, -0.8, -0.48)


@dataclass(frozen=True, slots=True)
class Solids:
    """Objects of B rooms, K slots of one shape each; an absent object has size 0.

    Attributes:
        center: [B, K, 3].
        size: [B, K, 3] half extents (box), radius in x (sphere), radius in x and half height in y (cylinder).
        yaw: [B, K] rotation about the vertical, radians.
        shape: One of "box", "sphere", "cylinder" for each of the K slots.
    """

    center: Tensor
    size: Tensor
    yaw: Tensor
    shape: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hits:
    """What each ray met: distance along the ray, surface normal, texture number and texture coordinates in [0, 1]."""

    distance: Tensor
    normal: Tensor
    texture: Tensor
    uv: Tensor


def trace(origin: Tensor, direction: Tensor, half: Tensor, solids: Solids) -> Hits:
    """Intersect rays with rooms and their objects.

    Args:
        origin: [B, R, 3] inside or outside the room.
        direction: [B, R, 3], any length; distances are in units of it.
        half: [B, 3] half extents of the rooms.
        solids: The objects.

    Returns:
        Hits of shape [B, R]; textures 0..5 are the walls (-x, +x, -y, +y, -z, +z), 6.. the slots.
    """
    hits = _walls(origin, direction, half)
    for slot, shape in enumerate(solids.shape):
        center, size, yaw = solids.center[:, slot], solids.size[:, slot], solids.yaw[:, slot]
        local_origin = _turn(origin - center[:, None], yaw)
        local_direction = _turn(direction, yaw)
        distance, normal, uv = _SHAPES[shape](local_origin, local_direction, size[:, None])
        nearer = (distance < hits.distance) & (distance > 1e-4) & (size[:, None, 0] > 0)
        hits = Hits(
            torch.where(nearer, distance, hits.distance),
            torch.where(nearer[..., None], _turn(normal, -yaw), hits.normal),
            torch.where(nearer, torch.full_like(hits.texture, 6 + slot), hits.texture),
            torch.where(nearer[..., None], uv, hits.uv),
        )
    return hits


def shade(hits: Hits, textures: Tensor) -> Tensor:
    """Look up the texture and light it from above.

    Args:
        hits: Shape [B, R].
        textures: [B or 1, T, size, size, 3].

    Returns:
        Colours [B, R, 3] in [0, 1].
    """
    size = textures.shape[2]
    place = (hits.uv.clamp(0, 1) * (size - 1)).clamp(0, size - 1.001)
    low = place.floor().long()
    part = place - low
    scene = torch.arange(hits.texture.shape[0], device=hits.uv.device)[:, None] % textures.shape[0]
    flat = textures.reshape(-1, 3)
    base = ((scene * textures.shape[1] + hits.texture) * size + low[..., 0]) * size + low[..., 1]
    down, right = part[..., :1], part[..., 1:]
    top = flat[base] * (1 - right) + flat[base + 1] * right
    bottom = flat[base + size] * (1 - right) + flat[base + size + 1] * right
    light = torch.tensor(LIGHT, device=hits.normal.device)
    lit = 0.72 + 0.28 * (hits.normal * light).sum(-1, keepdim=True)
    return ((top * (1 - down) + bottom * down) * lit).clamp(0, 1)


def _walls(origin: Tensor, direction: Tensor, half: Tensor) -> Hits:
    """Leave the room: the first wall ahead along each axis."""
    safe = torch.where(direction.abs() < 1e-9, torch.full_like(direction, 1e-9), direction)
    exits = (torch.sign(safe) * half[:, None] - origin) / safe
    distance, axis = exits.min(-1)
    positive = torch.gather(safe, -1, axis[..., None])[..., 0] > 0
    normal = -torch.nn.functional.one_hot(axis, 3).to(origin.dtype) * torch.sign(safe)
    point = (origin + distance[..., None] * direction) / half[:, None] * 0.5 + 0.5
    along = torch.where(axis == 1, torch.full_like(axis, 2), torch.ones_like(axis))
    across = torch.where(axis == 0, torch.full_like(axis, 2), torch.zeros_like(axis))
    uv = torch.stack([torch.gather(point, -1, i[..., None])[..., 0] for i in (along, across)], -1)
    return Hits(distance, normal, axis * 2 + positive.long(), uv)


def _box(origin: Tensor, direction: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    safe = torch.where(direction.abs() < 1e-9, torch.full_like(direction, 1e-9), direction)
    enter = (-torch.sign(safe) * size - origin) / safe
    leave = (torch.sign(safe) * size - origin) / safe
    near, axis = enter.max(-1)
    hit = (near < leave.min(-1).values) & (near > 0)
    normal = -torch.nn.functional.one_hot(axis, 3).to(origin.dtype) * torch.sign(safe)
    point = (origin + near[..., None] * direction) / size.clamp_min(1e-6) * 0.5 + 0.5
    down = torch.where(axis == 1, point[..., 2], point[..., 1])
    right = torch.where(axis == 0, point[..., 2], point[..., 0])
    return torch.where(hit, near, torch.full_like(near, FAR)), normal, torch.stack([down, right], -1)


def _sphere(origin: Tensor, direction: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    radius = size[..., 0]
    distance = _quadratic(origin, direction, radius)
    normal = (origin + distance[..., None] * direction) / radius[..., None].clamp_min(1e-6)
    down = normal[..., 1] * 0.5 + 0.5
    return distance, normal, torch.stack([down, _angle(normal)], -1)


def _cylinder(origin: Tensor, direction: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A standing cylinder with a lid; nobody sees its foot."""
    radius, height = size[..., 0], size[..., 1]
    flat = torch.tensor([1.0, 0.0, 1.0], device=origin.device)
    side = _quadratic(origin * flat, direction * flat, radius)
    point = origin + side[..., None] * direction
    side = torch.where(point[..., 1].abs() <= height, side, torch.full_like(side, FAR))
    slope = torch.where(direction[..., 1].abs() < 1e-9, torch.full_like(side, 1e-9), direction[..., 1])
    lid = (-height - origin[..., 1]) / slope
    top = origin + lid[..., None] * direction
    on_lid = (top[..., 0] ** 2 + top[..., 2] ** 2 <= radius**2) & (lid > 0) & (lid < side)
    distance = torch.where(on_lid, lid, side)
    round_normal = point * flat / radius[..., None].clamp_min(1e-6)
    lid_normal = torch.zeros_like(point)
    lid_normal[..., 1] = -1
    normal = torch.where(on_lid[..., None], lid_normal, round_normal)
    down = torch.where(on_lid, top[..., 2] / radius, point[..., 1] / height) * 0.5 + 0.5
    right = torch.where(on_lid, top[..., 0] / radius * 0.5 + 0.5, _angle(round_normal))
    return distance, normal, torch.stack([down, right], -1)


_SHAPES = {"box": _box, "sphere": _sphere, "cylinder": _cylinder}


def _quadratic(origin: Tensor, direction: Tensor, radius: Tensor) -> Tensor:
    """Nearest positive t with |origin + t direction| = radius; FAR where there is none."""
    a = (direction * direction).sum(-1).clamp_min(1e-9)
    b = (origin * direction).sum(-1)
    c = (origin * origin).sum(-1) - radius**2
    root = b * b - a * c
    distance = (-b - root.clamp_min(0).sqrt()) / a
    return torch.where((root > 0) & (distance > 0), distance, torch.full_like(distance, FAR))


def _angle(normal: Tensor) -> Tensor:
    """Position around the vertical axis as a coordinate that rises and falls again, so that no seam shows."""
    return torch.atan2(normal[..., 0], normal[..., 2]).abs() / torch.pi


def _turn(vector: Tensor, yaw: Tensor) -> Tensor:
    """Rotate [B, R, 3] about the vertical by -yaw [B], that is into the frame of an object turned by yaw."""
    cos, sin = torch.cos(yaw)[:, None], torch.sin(yaw)[:, None]
    x, y, z = vector.unbind(-1)
    return torch.stack([cos * x - sin * z, y, sin * x + cos * z], -1)
