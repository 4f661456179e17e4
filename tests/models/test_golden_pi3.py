"""Pi3 against numbers the published implementation computed on a tiny random configuration. Not the preprocessing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from quantlab.models.networks import build_model
from quantlab.models.pi3 import Pi3
from quantlab.models.pi3_heads import PatchHead, rotation_from_nine
from quantlab.models.pi3_masks import (
    default_mask,
    depth_edge,
    depth_normal_edge,
    intrinsics_from_rays,
    points_to_normals,
)
from quantlab.models.read_pi3 import CONDITIONING

GOLDEN = Path(__file__).parent.parent / "golden"
UNITS = load_file(GOLDEN / "units.safetensors")
CASES = ("c1_s1_sq", "c2_s2_wide", "c3_s3_tall", "c4_b2_s2_sq")
OUTPUTS = ("points", "local_points", "conf", "camera_poses")
PLACES = {"vit.block": "encoder.blocks.", "vit.patch_proj": "encoder.patch_embed", "vit.norm": "encoder.norm"}
DERIVED = ("dec.tokens_in", "vit.tokens_in", "camera_head.avgpool")


def relative(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


@pytest.fixture(scope="module")
def network() -> Pi3:
    path = GOLDEN / "pi3_weights.safetensors"
    with safe_open(path, "pt") as file:
        config: dict[str, Any] = json.loads(file.metadata()["config"])
    built = build_model("pi3", config)
    assert isinstance(built, Pi3)
    built.load_state_dict(load_file(path), strict=True)
    return built.eval()


@pytest.mark.parametrize("case", CASES)
def test_outputs_equal_the_published_ones(network: Pi3, case: str) -> None:
    golden = load_file(GOLDEN / f"pi3_{case}.safetensors")
    with torch.no_grad():
        found = network(golden["in.images"])
    assert set(found) == set(OUTPUTS)
    for name in OUTPUTS:
        assert relative(found[name], golden[f"out.{name}"]) <= 2e-5, name


def module_of(name: str) -> str:
    """The module whose output the golden file stores under ``name``."""
    for prefix, module in PLACES.items():
        if name.startswith(prefix):
            return name.replace(prefix, module)
    return name.replace("dec.block", "decoder.")


def test_the_output_of_every_module_equals_the_published_one(network: Pi3) -> None:
    debug = load_file(GOLDEN / "pi3_c3_s3_tall_debug.safetensors")
    images = load_file(GOLDEN / "pi3_c3_s3_tall.safetensors")["in.images"]
    seen: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(lambda _m, _i, out: seen.update({name: out}))

    names = [name for name in debug if name not in DERIVED]
    handles = [watch(name, network.get_submodule(module_of(name))) for name in names]
    with torch.no_grad():
        network(images)
        seen["dec.tokens_in"] = network.tokens(images)
    for handle in handles:
        handle.remove()
    assert len(names) > 30
    for name, found in seen.items():
        assert relative(found, debug[name]) <= 2e-5, name


@pytest.mark.parametrize("kind", ["pi3", "pi3x"])
def test_names_and_shapes_at_released_size_equal_the_published_checkpoint_both_ways(kind: str) -> None:
    lines = gzip.decompress((GOLDEN / f"{kind}_keys.txt.gz").read_bytes()).decode().splitlines()
    published = dict(line.split() for line in lines)
    wanted = {name: shape for name, shape in published.items() if not name.startswith(CONDITIONING)}
    assert (kind == "pi3x") == (wanted != published)
    state = build_model(kind, device="meta").state_dict()
    assert {name: "x".join(map(str, tensor.shape)) for name, tensor in state.items()} == wanted


def test_nine_numbers_become_the_published_rotation() -> None:
    assert relative(rotation_from_nine(UNITS["svd.in"]), UNITS["svd.out"]) <= 2e-5


def test_the_patch_head_lays_out_its_channels_as_published() -> None:
    weight, bias = UNITS["linpts.in.weight"], UNITS["linpts.in.bias"]
    head = PatchHead(weight.shape[1], 14, weight.shape[0] // 196)
    head.load_state_dict({"proj.weight": weight, "proj.bias": bias})
    with torch.no_grad():
        found = head(UNITS["linpts.in.tokens"], 2, 3)
    assert relative(found, UNITS["linpts.out.28x42"]) <= 2e-6


def test_edges_and_normals_equal_the_published_ones() -> None:
    points, mask = UNITS["edge.in.points"], UNITS["edge.in.mask"]
    assert torch.equal(depth_edge(points[..., 2]), UNITS["edge.depth_edge_rtol0.03"])
    assert torch.equal(depth_edge(points[..., 2], mask), UNITS["edge.depth_edge_rtol0.03_masked"])
    normals, known = points_to_normals(points, mask)
    assert torch.equal(known, UNITS["edge.normal_mask"])
    assert relative(normals, UNITS["edge.normals"]) <= 2e-6
    assert torch.equal(depth_normal_edge(points, mask), UNITS["edge.depth_normal_edge"])


def test_the_default_mask_wants_confidence_and_no_edge() -> None:
    points = UNITS["edge.in.points"]
    sure = torch.full(points.shape[:-1], 5.0)
    kept = default_mask(points, sure)
    assert torch.equal(kept, ~depth_normal_edge(points, torch.ones_like(kept)))
    assert not default_mask(points, sure - 10).any()


@pytest.mark.parametrize("name", ["center_pp", "free_pp"])
def test_intrinsics_from_rays_equal_the_published_ones(name: str) -> None:
    found = intrinsics_from_rays(UNITS["intr.in.rays"], centred=name == "center_pp")
    assert relative(found, UNITS[f"intr.out.{name}"]) <= 2e-5
