"""What pi3-mini is taught: relative poses, the mean camera as the world, points along the true rays. No training."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from quantlab.scenes.synthetic import Rendering, plan_room, render

FOLDER = Path(__file__).resolve().parents[2] / "training"


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("pi3_task")


@pytest.fixture(scope="module")
def drawn() -> Rendering:
    return render([plan_room(index, views=3, split="training") for index in range(2)], 24)


def test_between_gives_every_pair_of_different_views(task: ModuleType, drawn: Rendering) -> None:
    poses = torch.linalg.inv(drawn.camera_from_world)
    found = task.between(poses)
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    assert found.shape == (2, len(pairs), 3, 4)
    for place, (i, j) in enumerate(pairs):
        expected = torch.linalg.inv(poses[:, i]) @ poses[:, j]
        torch.testing.assert_close(found[:, place], expected[:, :3])


def test_the_mean_camera_prefers_no_view_and_moves_with_the_world(task: ModuleType, drawn: Rendering) -> None:
    poses = torch.linalg.inv(drawn.camera_from_world)
    mean = task.mean_pose(poses)
    torch.testing.assert_close(task.mean_pose(poses.flip(1)), mean)
    torch.testing.assert_close(task.mean_pose(poses[:, :1]), poses[:, :1])
    torch.testing.assert_close(task.mean_pose(poses[:1, :1] @ poses), poses[:1, :1] @ mean)


def test_true_points_cost_nothing_and_should_be_sure(task: ModuleType, drawn: Rendering) -> None:
    intrinsics = drawn.intrinsics[0, 0].float()
    v, u = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    pixels = torch.stack((u, v, torch.ones_like(u)), -1)
    local = (pixels @ torch.linalg.inv(intrinsics).mT) * drawn.depth[..., None]
    outputs = {"local_points": local, "conf": torch.full((*drawn.depth.shape, 1), 20.0)}
    error, confidence = task.point_losses(outputs, drawn.depth, intrinsics)
    assert float(error) < 1e-5
    assert float(confidence) < 1e-3
    further, _ = task.point_losses(outputs | {"local_points": 1.1 * local}, drawn.depth, intrinsics)
    assert float(further) >= 0.1
