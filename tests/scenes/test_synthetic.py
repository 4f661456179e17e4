"""Laws of the room generator: exact geometry, seeds that never collide, defects on demand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quantlab.errors import SceneError
from quantlab.scenes.raytrace import Solids, trace
from quantlab.scenes.synthetic import FREE_WORLD, MINI_WORLD, plan_room, render, rooms, world_points


def test_points_are_the_depth_unprojected_and_project_back_to_their_pixels() -> None:
    scene = rooms(1, views=2, seed=3, size=(24, 32))[0]
    truth = scene.truth
    assert truth is not None
    rows, columns = np.mgrid[0:24, 0:32]
    for view in range(2):
        local = (
            truth.points[view] @ truth.camera_from_world[view, :3, :3].T
            + truth.camera_from_world[view, :3, 3]
        )
        pixels = local @ truth.intrinsics[view].T
        assert np.allclose(pixels[..., 2], truth.depth[view], atol=1e-5)
        assert np.allclose(pixels[..., 0] / pixels[..., 2], columns, atol=1e-3)
        assert np.allclose(pixels[..., 1] / pixels[..., 2], rows, atol=1e-3)


def test_two_views_agree_on_the_surfaces_they_both_see() -> None:
    scene = rooms(1, views=2, seed=5, size=64)[0]
    truth = scene.truth
    assert truth is not None
    local = truth.points[0] @ truth.camera_from_world[1, :3, :3].T + truth.camera_from_world[1, :3, 3]
    pixels = (local @ truth.intrinsics[1].T)[local[..., 2] > 0.1]
    place = np.rint(pixels[:, :2] / pixels[:, 2:]).astype(int)
    inside = ((place >= 0) & (place < 64)).all(1)
    seen = truth.depth[1][place[inside, 1], place[inside, 0]]
    mine = pixels[inside, 2]
    # A point lies on what the other view sees there, or behind it; it is never in front by more than a pixel's slope.
    assert (abs(seen - mine) < 0.05).mean() > 0.5
    assert (mine < seen - 0.25).mean() < 0.03


def test_walls_are_hit_where_the_slab_equation_says() -> None:
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(1, 500, 3, generator=generator)
    origin = torch.rand(1, 500, 3, generator=generator) - 0.5
    half = torch.tensor([[1.0, 2.0, 3.0]])
    none = Solids(torch.zeros(1, 0, 3), torch.zeros(1, 0, 3), torch.zeros(1, 0), ())
    point = origin + trace(origin, direction, half, none).distance[..., None] * direction
    assert torch.allclose((point / half[:, None]).abs().amax(-1), torch.ones(1, 500), atol=1e-5)


@pytest.mark.parametrize("shape", ["box", "sphere", "cylinder"])
def test_every_hit_of_a_solid_lies_on_its_surface(shape: str) -> None:
    generator = torch.Generator().manual_seed(1)
    origin = torch.nn.functional.normalize(torch.randn(1, 2000, 3, generator=generator), dim=-1) * 4
    origin[..., 1] = -origin[..., 1].abs()
    direction = -origin + 0.5 * torch.randn(1, 2000, 3, generator=generator)
    size, yaw = torch.tensor([[[0.7, 0.5, 0.9]]]), torch.tensor([[0.6]])
    solids = Solids(torch.zeros(1, 1, 3), size, yaw, (shape,))
    hits = trace(origin, direction, torch.tensor([[9.0, 9.0, 9.0]]), solids)
    point = (origin + hits.distance[..., None] * direction)[hits.texture == 6]
    assert len(point) > 200
    cos, sin = np.cos(0.6), np.sin(0.6)
    local = torch.stack(
        [cos * point[:, 0] - sin * point[:, 2], point[:, 1], sin * point[:, 0] + cos * point[:, 2]], -1
    )
    radius = local[:, [0, 2]].norm(dim=-1)
    surface = {
        "box": (local.abs() / size[0]).amax(-1) - 1,
        "sphere": local.norm(dim=-1) - 0.7,
        "cylinder": torch.maximum(radius - 0.7, local[:, 1].abs() - 0.5),
    }[shape]
    assert surface.abs().max() < 1e-4


def test_a_room_is_decided_by_split_seed_and_index_alone() -> None:
    few, many = rooms(2, seed=9, size=16), rooms(10, seed=9, size=16)
    assert np.array_equal(few[1].images[0], many[1].images[0])
    assert not np.array_equal(many[0].images[0], many[9].images[0])


def test_no_two_splits_share_a_room() -> None:
    plans = {
        split: [
            plan_room(i, seed=seed, split=split).camera_from_world.tobytes()
            for i in range(30)
            for seed in range(3)
        ]
        for split in ("training", "held-out", "calibration")
    }
    every = [plan for split in plans.values() for plan in split]
    assert len(set(every)) == len(every)


def test_neighbouring_cameras_keep_their_distance() -> None:
    for index in range(40):
        plan = plan_room(index, views=4, seed=2)
        eye = -np.einsum("sij,si->sj", plan.camera_from_world[:, :3, :3], plan.camera_from_world[:, :3, 3])
        gaps = np.linalg.norm(eye[:, None] - eye[None], axis=-1)[np.triu_indices(4, 1)]
        assert gaps.min() > 0.25
        assert (abs(eye[:, [0, 2]]) < MINI_WORLD.half[0]).all()


def test_free_rooms_differ_in_colour_and_proportion() -> None:
    first, second = plan_room(0, world=FREE_WORLD), plan_room(1, world=FREE_WORLD)
    assert first.texture_seed != second.texture_seed
    assert not np.allclose(first.half, second.half)
    assert render([first, second], 16).images.float().std() > 10


def test_defective_rooms_have_the_defect_they_name() -> None:
    scenes = rooms(60, views=4, seed=4, size=16, degenerate=1.0)
    kinds = {
        kind: [s for s in scenes if f"({kind})" in s.name] for kind in ("black", "blown-out", "no-baseline")
    }
    assert all(len(found) > 3 for found in kinds.values())
    assert any("in-the-wall" in scene.name for scene in scenes)
    assert all(scene.images[0].max() == 0 for scene in kinds["black"])
    assert all(scene.images[0].min() == 255 for scene in kinds["blown-out"])
    for scene in kinds["no-baseline"]:
        assert scene.truth is not None
        assert np.ptp(scene.truth.camera_from_world[:, :3, 3], axis=0).max() < 0.1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "bad", [{"count": 0}, {"count": 1, "views": 0}, {"count": 1, "size": 0}, {"count": 1, "split": "test"}]
)
def test_senseless_requests_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(SceneError):
        rooms(**bad)  # type: ignore[arg-type]


def test_world_points_keeps_the_dtype_of_the_depth() -> None:
    depth = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    assert (
        world_points(depth, torch.eye(4).expand(1, 1, 4, 4), torch.eye(3).expand(1, 1, 3, 3)).dtype
        == torch.float64
    )
