"""The pictures the built-in models are trained on: rendered rooms kept on the device. It knows no network."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from quantlab.scenes.synthetic import MINI_WORLD, RoomPlan, plan_room, render

SIZE = 96
VIEWS = 6
REUSE = 4
CHUNK = 64
FIRST = 200
"""Rooms that must be there before the first batch is drawn."""


class Pool:
    """A ring of rendered rooms. On a CPU each batch replaces some, so that a picture is used about REUSE times;
    on an accelerator, which renders faster than it plans, all rooms are drawn at the start and kept.

    Args:
        rooms: How many are kept.
        device: Where they are drawn and kept, and where batches come out.
        rank: Of this process among ``world_size``; processes never draw the same room.
        start: Where a resumed run goes on in the sequence of rooms.
    """

    def __init__(self, *, rooms: int, device: str, rank: int, world_size: int, start: int) -> None:
        self.next, self.stride = start * world_size + rank, world_size
        self.device = device
        self.rng = np.random.default_rng([rank, start, 5])
        self.images = torch.zeros(rooms, VIEWS, SIZE, SIZE, 3, dtype=torch.uint8, device=device)
        self.depth = torch.zeros(rooms, VIEWS, SIZE, SIZE, dtype=torch.float16, device=device)
        self.cameras = torch.zeros(rooms, VIEWS, 4, 4, dtype=torch.float64, device=device)
        self.intrinsics = torch.zeros(3, 3, dtype=torch.float64, device=device)
        self.filled = self.cursor = 0

    @property
    def replaces(self) -> bool:
        """Whether rooms are replaced while the network trains."""
        return self.device == "cpu"

    def fill(self, workers: int) -> None:
        """Draw all rooms now; ``workers`` processes plan them while this one renders."""
        rooms = len(self.images)
        indices = range(self.next, self.next + rooms * self.stride, self.stride)
        self.next = indices.stop
        chunks = [indices[i : i + CHUNK] for i in range(0, rooms, CHUNK)]
        with ProcessPoolExecutor(workers) as processes:
            for plans in processes.map(_plans, chunks):
                self._draw(plans)

    def add(self, count: int) -> None:
        """Render the next ``count`` rooms over the oldest ones."""
        indices = range(self.next, self.next + count * self.stride, self.stride)
        self.next = indices.stop
        self._draw(_plans(indices))

    def _draw(self, plans: list[RoomPlan]) -> None:
        drawn = render(plans, SIZE, device=self.device)
        where = (self.cursor + torch.arange(len(plans), device=self.device)) % len(self.images)
        self.images[where] = drawn.images.to(self.device)
        self.depth[where] = drawn.depth.to(self.device).half()
        self.cameras[where] = drawn.camera_from_world.to(self.device)
        self.intrinsics = drawn.intrinsics[0, 0].to(self.device)
        self.cursor = (self.cursor + len(plans)) % len(self.images)
        self.filled = min(self.filled + len(plans), len(self.images))

    def batch(self, frames: int, views: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images uint8 [B, S, H, W, 3], depth [B, S, H, W] and cameras [B, S, 4, 4] of about ``frames`` pictures."""
        count = max(1, frames // views)
        if self.replaces:
            self.add(max(1, round(frames / VIEWS / REUSE)) if self.filled > FIRST else CHUNK)
        rooms = self.rng.integers(self.filled, size=count)[:, None]
        chosen = self.rng.permuted(np.tile(np.arange(VIEWS), (count, 1)), axis=1)[:, :views]
        where = (torch.as_tensor(rooms).to(self.device), torch.as_tensor(chosen).to(self.device))
        return self.images[where], self.depth[where].float(), self.cameras[where]


def held_out_rooms(count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rooms of four views for watching a training: neither trained on nor held out for the published figures.

    Yields:
        Pictures float32 [1, 4, 3, H, W] in [0, 1], cameras [4, 4, 4] and depth [4, H, W] of one room.
    """
    for index in range(count):
        drawn = render([plan_room(index, views=4, seed=999, split="calibration")], SIZE)
        yield as_input(drawn.images), drawn.camera_from_world[0], drawn.depth[0]


def as_input(images: Tensor) -> Tensor:
    """uint8 [B, S, H, W, 3] as a network's input, float32 [B, S, 3, H, W]."""
    return images.permute(0, 1, 4, 2, 3).float() / 255


def reference_camera() -> Tensor:
    """The fixed world frame of the first part, [4, 4]: a camera in the middle of the range that the rooms use."""
    camera = torch.eye(4, dtype=torch.float64)
    tilt = np.radians(20.0)
    camera[1:3, 1:3] = torch.tensor([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    camera[2, 3] = 1.95
    return camera


_plan = partial(plan_room, views=VIEWS, seed=0, split="training", world=MINI_WORLD)


def _plans(indices: range) -> list[RoomPlan]:
    return [_plan(index) for index in indices]
