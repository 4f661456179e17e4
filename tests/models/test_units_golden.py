"""Single parts of the networks against published values: rotary tables, embeddings, activations, pose codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from quantlab.models.camera_head import activate_pose
from quantlab.models.dpt import activate_dense, embed_axis, uv_axes
from quantlab.models.pose_encoding import cameras_from_code, code_from_cameras, quaternion_from_rotation
from quantlab.models.rotary import grid_positions, rotary_tables, rotate
from quantlab.models.vit import interpolate_position

UNITS = load_file(Path(__file__).parent.parent / "golden" / "units.safetensors")


def relative(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


@pytest.mark.parametrize("name", ["rope", "rope_bf16"])
def test_rotation_equals_the_published_one_and_exactly_in_bfloat16(name: str) -> None:
    tokens, expected = UNITS[f"{name}.in.tokens"], UNITS[f"{name}.out"]
    tables = rotary_tables(UNITS["rope.in.pos_yx"], tokens.shape[-1], tokens.dtype)
    found = rotate(tokens, type(tables)(tables.cos[:, None], tables.sin[:, None]))
    assert found.dtype == expected.dtype
    if name == "rope_bf16":
        assert torch.equal(found, expected)
    assert relative(found, expected) <= 2e-6


def test_patch_positions_count_rows_then_columns() -> None:
    assert torch.equal(grid_positions(3, 4)[None], UNITS["rope.positions_3x4"])


@pytest.mark.parametrize("name", [name for name in UNITS if name.startswith("posembed.out.")])
def test_position_embedding_is_resampled_as_published(name: str) -> None:
    height, width = map(int, name.rsplit(".", 1)[1].split("x"))
    found = interpolate_position(UNITS["posembed.in"], height, width, 14)
    assert relative(found, UNITS[name]) <= 2e-6


@pytest.mark.parametrize("size", ["12x12", "4x7", "5x3"])
def test_uv_grid_and_embedding_equal_the_published_ones(size: str) -> None:
    columns, rows = map(int, size.split("x"))
    u, v = uv_axes(rows, columns, columns / rows)
    grid = torch.stack((u.expand(rows, -1), v[:, None].expand(-1, columns)), dim=-1)
    assert relative(grid, UNITS[f"uv.out.{size}"]) <= 2e-6
    across = embed_axis(u, 8).expand(rows, -1, -1)
    down = embed_axis(v, 8)[:, None].expand(-1, columns, -1)
    assert relative(torch.cat((across, down), -1), UNITS[f"uvembed16.out.{size}"]) <= 2e-6


def test_output_activations_equal_the_published_ones() -> None:
    raw = UNITS["act.in"]
    points, confidence = activate_dense(raw, "inv_log")
    assert relative(points, UNITS["act.inv_log.pts"]) <= 2e-6
    assert relative(confidence, UNITS["act.expp1.conf"]) <= 2e-6
    depth, _ = activate_dense(raw[:, [0, -1]], "exp")
    assert relative(depth, UNITS["act.exp.depth"]) <= 2e-6
    assert torch.equal(activate_pose(UNITS["act.pose.in"]), UNITS["act.pose.out"])


def test_pose_codes_and_cameras_convert_both_ways() -> None:
    height, width = UNITS["pose.in.hw"].tolist()
    pose, intrinsics = cameras_from_code(UNITS["pose.in.pose_enc"], height, width)
    assert relative(pose[..., :3, :], UNITS["pose.out.extrinsic"]) <= 2e-6
    assert relative(intrinsics, UNITS["pose.out.intrinsic"]) <= 2e-6
    code = code_from_cameras(pose, intrinsics, height, width)
    assert relative(code, UNITS["pose.out.roundtrip_pose_enc"]) <= 5e-6


def test_quaternions_equal_the_published_ones_also_at_half_turns() -> None:
    assert relative(quaternion_from_rotation(UNITS["quat.in.R"]), UNITS["quat.out.xyzw"]) <= 2e-6
