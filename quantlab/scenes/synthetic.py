"""Built-in scenes: furnished rooms drawn at random, with exact depth, cameras and points. Not photo-realistic.

Every room is decided by (split, seed, index) alone, so held-out rooms never meet training rooms, and
room 5 of 8 is room 5 of 100.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quantlab.errors import SceneError
from quantlab.scenes.origin import Drawn
from quantlab.scenes.raytrace import Solids, shade, trace
from quantlab.scenes.scene import Scene, Truth
from quantlab.scenes.textures import make_textures

SPLITS = {"training": 1, "held-out": 2, "calibration": 3}
SHAPES = ("box", "box", "box", "sphere", "cylinder")
SIZES = ((0.22, 0.48, 0.22), (0.42, 0.20, 0.28), (0.19, 0.19, 0.19), (0.28, 0.28, 0.28), (0.16, 0.38, 0.16))
"""Half extents of the furniture: cabinet, table, crate, ball, column."""
WALL_HUES = (0.09, 0.58, 0.12, 0.07, 0.85, 0.40)
SOLID_HUES = (0.99, 0.12, 0.75, 0.50, 0.30)
DEGENERATE_KINDS = ("black", "blown-out", "no-baseline", "in-the-wall")


@dataclass(frozen=True, slots=True)
class World:
    """The range that rooms and cameras are drawn from; lengths in scene units, angles in degrees.

    ``own_textures`` and ``own_walls`` give each room its own colours and proportions; the world of the
    model ``mini`` keeps one decoration and moves the furniture and the cameras.
    """

    own_textures: bool = False
    own_walls: bool = False
    half: tuple[float, float, float] = (2.4, 1.3, 2.4)
    field_of_view: tuple[float, float] = (68.0, 68.0)
    azimuth: float = 55.0
    spacing: tuple[float, float] = (15.0, 30.0)
    elevation: tuple[float, float] = (12.0, 28.0)
    radius: tuple[float, float] = (1.75, 2.15)
    target_jitter: float = 0.15


MINI_WORLD = World()
FREE_WORLD = World(own_textures=True, own_walls=True, field_of_view=(50.0, 75.0), azimuth=90.0)


@dataclass(frozen=True, slots=True)
class RoomPlan:
    """One room before it is drawn: arrays over K furniture slots and S views (float64)."""

    half: np.ndarray
    center: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    camera_from_world: np.ndarray
    field_of_view: float
    texture_seed: int
    degenerate: str = ""


@dataclass(frozen=True, slots=True)
class Rendering:
    """B rooms drawn from S views: images uint8 [B,S,H,W,3], depth float32 [B,S,H,W], camera_from_world float64
    [B,S,4,4], intrinsics float64 [B,S,3,3]; pixel (u, v) looks along ((u - W/2)/fx, (v - H/2)/fy, 1).
    """

    images: Tensor
    depth: Tensor
    camera_from_world: Tensor
    intrinsics: Tensor


def rooms(
    count: int,
    *,
    views: int = 4,
    seed: int = 0,
    size: int | tuple[int, int] = 96,
    split: str = "held-out",
    world: World = MINI_WORLD,
    degenerate: float = 0.0,
) -> list[Scene]:
    """Draw ``count`` rooms with exact ground truth.

    Args:
        count: How many rooms.
        views: Pictures of each.
        seed: Chooses the rooms within the split.
        size: Side of a picture, or (height, width), in pixels.
        split: "held-out", "calibration" or "training"; rooms of two splits never coincide.
        world: The range rooms and cameras are drawn from.
        degenerate: Share of rooms made defective on purpose: black or blown-out frames, hardly any
            baseline, a camera in a wall.

    Raises:
        SceneError: A count, size or split that makes no sense.
    """
    if count < 1 or views < 1:
        raise SceneError(
            f"{count} rooms of {views} views cannot be drawn", remedy="Ask for at least one of each."
        )
    scenes = []
    for start in range(0, count, 8):
        plans = [
            plan_room(i, views=views, seed=seed, split=split, world=world, degenerate=degenerate)
            for i in range(start, min(start + 8, count))
        ]
        rendering = render(plans, size)
        for i, plan in enumerate(plans):
            drawn = Drawn(start + i, views, seed, *_sides(size), split, degenerate)
            own_world = None if world is not MINI_WORLD else drawn  # rooms of another world have no such spec
            scenes.append(_scene(drawn, rendering, i, plan.degenerate, own_world))
    return scenes


def room(
    index: int,
    *,
    views: int = 4,
    seed: int = 0,
    size: int | tuple[int, int] = 96,
    split: str = "held-out",
    degenerate: float = 0.0,
) -> Scene:
    """Room ``index`` of ``rooms`` alone; ``degenerate`` is its chance to be defective."""
    plan = plan_room(index, views=views, seed=seed, split=split, degenerate=degenerate)
    drawn = Drawn(index, views, seed, *_sides(size), split, degenerate)
    return _scene(drawn, render([plan], size), 0, plan.degenerate, drawn)


def plan_room(
    index: int,
    *,
    views: int = 4,
    seed: int = 0,
    split: str = "held-out",
    world: World = MINI_WORLD,
    degenerate: float = 0.0,
) -> RoomPlan:
    """Decide room ``index`` of a split: walls, furniture and a camera path of ``views`` cameras."""
    if split not in SPLITS:
        raise SceneError(f"unknown split {split!r}", remedy=f"Choose one of: {', '.join(SPLITS)}.")
    rng = np.random.default_rng([SPLITS[split], seed, index])
    half = np.array(world.half) * (rng.uniform(0.85, 1.2, 3) if world.own_walls else 1.0)
    size = np.array(SIZES) * (rng.uniform(0.7, 1.3, (len(SIZES), 1)) if world.own_walls else 1.0)
    center, size = _place_furniture(rng, size, half)
    kind = str(rng.choice(DEGENERATE_KINDS)) if rng.random() < degenerate else ""
    return RoomPlan(
        half=half,
        center=center,
        size=size,
        yaw=rng.uniform(0, np.pi, len(size)),
        camera_from_world=_camera_path(rng, views, world, half, kind),
        field_of_view=rng.uniform(*world.field_of_view),
        texture_seed=int(rng.integers(1, 2**31)) if world.own_textures else 0,
        degenerate=kind,
    )


def render(plans: list[RoomPlan], size: int | tuple[int, int], *, device: str = "cpu") -> Rendering:
    """Draw rooms with equal numbers of views; see Rendering for what comes back.

    Raises:
        SceneError: The size is not positive.
    """
    height, width = _sides(size)
    if height < 1 or width < 1:
        raise SceneError(
            f"a picture of {height} x {width} pixels cannot be drawn", remedy="Ask for a positive size."
        )
    cameras = torch.as_tensor(np.stack([plan.camera_from_world for plan in plans]))
    focal = torch.tensor([0.5 * width / np.tan(np.radians(plan.field_of_view) / 2) for plan in plans])
    batch, views = cameras.shape[:2]
    direction = _pixel_rays(height, width, focal).reshape(batch, 1, height * width, 3)
    rotation = cameras[..., :3, :3].to(torch.float32)
    origin = -(cameras[..., :3, :3].mT @ cameras[..., :3, 3:]).to(torch.float32)[..., 0]
    world_direction = (direction @ rotation).reshape(batch, -1, 3).to(device)
    origin = origin[:, :, None].expand(-1, -1, height * width, -1).reshape(batch, -1, 3).to(device)
    center, solid_size, yaw = (_stack(plans, name, device) for name in ("center", "size", "yaw"))
    solids = Solids(center, solid_size, yaw, SHAPES)
    hits = trace(origin, world_direction, _stack(plans, "half", device), solids)
    colors = shade(hits, _textures(tuple(plan.texture_seed for plan in plans)).to(device))
    images = (colors * 255).round().to(torch.uint8).reshape(batch, views, height, width, 3).cpu()
    for image, plan in zip(images, plans, strict=True):
        if plan.degenerate in ("black", "blown-out"):
            image[::2] = 0 if plan.degenerate == "black" else 255
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(batch, views, 1, 1)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal[:, None].to(torch.float64)
    intrinsics[..., 0, 2], intrinsics[..., 1, 2] = width / 2, height / 2
    depth = hits.distance.reshape(batch, views, height, width).cpu()
    return Rendering(images, depth, cameras, intrinsics)


def world_points(depth: Tensor, camera_from_world: Tensor, intrinsics: Tensor) -> Tensor:
    """Unproject depth [..., H, W] along its pixels into the world frame, [..., H, W, 3], in the dtype of the depth."""
    height, width = depth.shape[-2:]
    focal = intrinsics[..., 0, 0].to(depth.dtype)
    rays = _pixel_rays(height, width, focal.reshape(-1)).to(depth).reshape(*depth.shape, 3)
    camera = camera_from_world.to(depth.dtype)
    local = rays * depth[..., None] - camera[..., None, None, :3, 3]
    return torch.einsum("...hwi,...ij->...hwj", local, camera[..., :3, :3])


def _pixel_rays(height: int, width: int, focal: Tensor) -> Tensor:
    """Directions of the pixels of N cameras, [N, H, W, 3], with depth 1."""
    v, u = torch.meshgrid(torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij")
    plane = torch.stack([u, v], -1)[None] / focal[:, None, None, None]
    return torch.cat([plane, torch.ones_like(plane[..., :1])], -1).to(torch.float32)


def _place_furniture(
    rng: np.random.Generator, size: np.ndarray, half: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Stand three to five pieces on the floor without overlap; a piece that finds no place stays away."""
    footprint = np.hypot(size[:, 0], size[:, 2])
    wanted = rng.permutation(len(size)) < rng.integers(3, len(size) + 1)
    center, present = np.zeros_like(size), np.zeros(len(size), bool)
    for slot in np.flatnonzero(wanted):
        for _ in range(30):
            place = rng.uniform(-1, 1, 2) * (1.1, 0.9) + (0.0, 0.5)
            apart = np.hypot(*(center[present][:, [0, 2]] - place).T) > footprint[present] + footprint[slot]
            if apart.all():
                center[slot] = (place[0], half[1] - size[slot, 1], place[1])
                present[slot] = True
                break
    return center, size * present[:, None]


def _camera_path(
    rng: np.random.Generator, views: int, world: World, half: np.ndarray, kind: str
) -> np.ndarray:
    """Cameras on an arc before the room, neighbours 15 to 30 degrees apart, in random order; [S, 4, 4]."""
    steps = np.radians(rng.uniform(*world.spacing, max(views - 1, 0)))
    limit = np.radians(world.azimuth)
    if steps.sum() > 2 * limit:
        steps *= 2 * limit / steps.sum()
    if kind == "no-baseline":
        steps *= 0.01
    path = np.concatenate([[0.0], np.cumsum(steps)])
    azimuth = rng.permutation(path - limit + rng.uniform(0, 1) * (2 * limit - path[-1]))
    calm = 0.01 if kind == "no-baseline" else 1.0
    elevation = np.radians(_spread(rng, world.elevation, views, calm))
    radius = _spread(rng, world.radius, views, calm) * half[2] / world.half[2]
    if kind == "in-the-wall":
        radius[-1] = 1.3 * half[2]
    target = rng.uniform(-1, 1, (views, 3)) * world.target_jitter * calm + (0.0, 0.55, 0.15)
    arm = np.stack(
        [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)], -1
    )
    return np.stack([_look_at(t + r * a, t) for t, r, a in zip(target, radius, arm, strict=True)])


def _spread(rng: np.random.Generator, bounds: tuple[float, float], count: int, calm: float) -> np.ndarray:
    low, high = bounds
    middle = (low + high) / 2
    return middle + (rng.uniform(low, high, count) - middle) * calm


def _look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """camera_from_world of an upright camera at ``eye``; world y is down."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ eye
    return matrix


_PAINTED: dict[int, Tensor] = {}


def _textures(seeds: tuple[int, ...]) -> Tensor:
    """Textures of walls and furniture for each seed, [B or 1, 11, size, size, 3]; the shared decoration is kept."""
    if 0 not in _PAINTED:
        _PAINTED[0] = torch.from_numpy(make_textures(np.array(WALL_HUES + SOLID_HUES), 0))
    if not any(seeds):
        return _PAINTED[0][None]
    hues = [np.random.default_rng(seed).uniform(size=len(WALL_HUES + SOLID_HUES)) for seed in seeds]
    return torch.stack([torch.from_numpy(make_textures(h, s)) for h, s in zip(hues, seeds, strict=True)])


def _stack(plans: list[RoomPlan], name: str, device: str) -> Tensor:
    return torch.as_tensor(
        np.stack([getattr(plan, name) for plan in plans]), dtype=torch.float32, device=device
    )


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else size


def _scene(drawn: Drawn, rendering: Rendering, index: int, degenerate: str, origin: Drawn | None) -> Scene:
    depth, camera = rendering.depth[index], rendering.camera_from_world[index]
    points = world_points(depth, camera, rendering.intrinsics[index])
    truth = Truth(
        camera_from_world=camera.numpy(),
        intrinsics=rendering.intrinsics[index].numpy(),
        depth=depth.numpy(),
        points=points.numpy(),
    )
    name = f"room {drawn.split} {drawn.seed}.{drawn.index}"
    label = f"{name} ({degenerate})" if degenerate else name
    images = tuple(image.numpy() for image in rendering.images[index])
    return Scene(name=label, images=images, truth=truth, split=drawn.split, origin=origin)
