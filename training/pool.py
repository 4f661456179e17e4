"""The pictures `mini` is trained on: a ring of rendered rooms, and what the network should say about them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quantlab.models.pose_encoding import code_from_cameras
from quantlab.scenes.synthetic import MINI_WORLD, plan_room, render, world_points

SIZE = 96
VIEWS = 6
ROOMS = 3000
REUSE = 4


class Pool:
    """Each batch replaces some rooms, so that a room is used about REUSE times, in other orders.

    Args:
        rank: Of this process among ``world_size``; processes never draw the same room.
        start: Where a resumed run goes on in the sequence of rooms.
    """

    def __init__(self, *, rank: int, world_size: int, start: int) -> None:
        self.next, self.stride = start * world_size + rank, world_size
        self.rng = np.random.default_rng([rank, start, 5])
        self.images = torch.zeros(ROOMS, VIEWS, SIZE, SIZE, 3, dtype=torch.uint8)
        self.depth = torch.zeros(ROOMS, VIEWS, SIZE, SIZE, dtype=torch.float16)
        self.cameras = torch.zeros(ROOMS, VIEWS, 4, 4, dtype=torch.float64)
        self.intrinsics = torch.zeros(3, 3, dtype=torch.float64)
        self.filled = self.cursor = 0

    def add(self, count: int) -> None:
        """Render the next ``count`` rooms over the oldest ones."""
        indices = range(self.next, self.next + count * self.stride, self.stride)
        plans = [plan_room(i, views=VIEWS, seed=0, split="training", world=MINI_WORLD) for i in indices]
        self.next = indices.stop
        drawn = render(plans, SIZE)
        where = (self.cursor + torch.arange(count)) % ROOMS
        self.images[where], self.depth[where] = drawn.images, drawn.depth.half()
        self.cameras[where], self.intrinsics = drawn.camera_from_world, drawn.intrinsics[0, 0]
        self.cursor = (self.cursor + count) % ROOMS
        self.filled = min(self.filled + count, ROOMS)

    def batch(self, frames: int, views: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images uint8 [B, S, H, W, 3], depth [B, S, H, W] and cameras [B, S, 4, 4] of about ``frames`` pictures."""
        count = max(1, frames // views)
        self.add(max(1, round(frames / VIEWS / REUSE)) if self.filled > 200 else 64)
        rooms = torch.as_tensor(self.rng.integers(self.filled, size=count))[:, None]
        chosen = torch.as_tensor(np.stack([self.rng.permutation(VIEWS)[:views] for _ in range(count)]))
        return self.images[rooms, chosen], self.depth[rooms, chosen].float(), self.cameras[rooms, chosen]


def targets(
    depth: Tensor, cameras: Tensor, intrinsics: Tensor, reference: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Pose codes [B, S, 9] and world points [B, S, H, W, 3] in the frame of ``reference``, or of the first camera."""
    world = cameras[:, :1] if reference is None else reference
    relative = cameras @ torch.linalg.inv(world)
    every = intrinsics.expand(*depth.shape[:2], 3, 3)
    code = code_from_cameras(relative, every, *depth.shape[-2:])
    return code.float(), world_points(depth, relative.float(), every)


def reference_camera() -> Tensor:
    """The fixed world frame of the first part, [4, 4]: a camera in the middle of the range that the rooms use."""
    camera = torch.eye(4, dtype=torch.float64)
    tilt = np.radians(20.0)
    camera[1:3, 1:3] = torch.tensor([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    camera[2, 3] = 1.95
    return camera
