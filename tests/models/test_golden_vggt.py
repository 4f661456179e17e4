"""VGGT against numbers the published implementation computed on a tiny random configuration. Not the preprocessing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from quantlab.models.pose_encoding import cameras_from_code
from quantlab.models.vggt import VGGT
from quantlab.models.zoo import build_model

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = ("c1_s1_sq", "c2_s2_wide", "c3_s3_tall_track", "c4_b2_s2_sq")


def relative(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


@pytest.fixture(scope="module")
def network() -> VGGT:
    path = GOLDEN / "vggt_weights.safetensors"
    with safe_open(path, "pt") as file:
        config: dict[str, Any] = json.loads(file.metadata()["config"])
    built = build_model("vggt", config)
    assert isinstance(built, VGGT)
    built.load_state_dict(load_file(path), strict=True)
    return built.eval()


@pytest.mark.parametrize("case", CASES)
def test_outputs_equal_the_published_ones(network: VGGT, case: str) -> None:
    golden = load_file(GOLDEN / f"vggt_{case}.safetensors")
    with torch.no_grad():
        outputs = network(golden["in.images"], golden.get("in.query_points"))
        height, width = golden["in.images"].shape[-2:]
        pose, intrinsics = cameras_from_code(outputs["pose_enc"], height, width)
    found = outputs | {"extrinsic": pose[..., :3, :], "intrinsic": intrinsics}
    for name in (
        "pose_enc",
        "depth",
        "depth_conf",
        "world_points",
        "world_points_conf",
        "extrinsic",
        "intrinsic",
    ):
        assert relative(found[name], golden[f"out.{name}"]) <= 2e-5, name
    if "in.query_points" in golden:
        assert relative(found["track"], golden["out.track"]) <= 2e-5
        assert relative(found["vis"], golden["out.vis"]) <= 5e-4
        assert relative(found["conf"], golden["out.conf"]) <= 5e-4


def test_one_tracker_iteration_and_its_features_equal_the_published_ones(network: VGGT) -> None:
    golden = load_file(GOLDEN / "vggt_c3_s3_tall_track.safetensors")
    images, head = golden["in.images"], network.track_head
    assert head is not None
    with torch.no_grad():
        tokens = network.aggregator(images)
        features = head.feature_extractor.maps(tokens, images, network.aggregator.special_tokens)
        track, vis, conf = head.tracker(features, golden["in.query_points"], 1)
    assert relative(features, golden["out.track_features"]) <= 2e-5
    assert relative(track, golden["out.track_iter1"]) <= 2e-5
    assert relative(vis, golden["out.vis_iter1"]) <= 5e-4
    assert relative(conf, golden["out.conf_iter1"]) <= 5e-4


@pytest.mark.parametrize("case", CASES)
def test_every_camera_iteration_equals_the_published_one(network: VGGT, case: str) -> None:
    golden = load_file(GOLDEN / f"vggt_{case}.safetensors")
    assert network.camera_head is not None
    with torch.no_grad():
        codes = network.camera_head(network.aggregator(golden["in.images"], keep=[3])[3])
    assert relative(torch.stack(codes), golden["out.pose_enc_iters"]) <= 2e-5


def test_the_camera_head_feeds_back_the_unclipped_field_of_view(network: VGGT) -> None:
    golden = load_file(GOLDEN / "vggt_camera_relu_unit.safetensors")
    head = network.camera_head
    assert head is not None
    bias = head.pose_branch.fc2.bias
    former = bias.detach().clone()
    with torch.no_grad():
        bias.copy_(golden["in.override.camera_head.pose_branch.fc2.bias"])
        codes = torch.stack(head(golden["in.last_tokens"]))
        bias.copy_(former)
    assert (codes[..., 7:] == 0).any()
    assert relative(codes, golden["out.pose_enc_iters"]) <= 2e-5


def test_block_outputs_equal_the_published_ones(network: VGGT) -> None:
    debug = load_file(GOLDEN / "vggt_c3_s3_tall_track_debug.safetensors")
    images = load_file(GOLDEN / "vggt_c3_s3_tall_track.safetensors")["in.images"]
    with torch.no_grad():
        assert relative(network.aggregator.tokens(images), debug["agg.tokens_in"]) <= 2e-5
        for index, (frame, across) in enumerate(network.aggregator.iterate(images)):
            assert relative(frame[0], debug[f"agg.frame{index}"]) <= 2e-5
            assert relative(across.flatten(1, 2), debug[f"agg.global{index}"]) <= 2e-5
