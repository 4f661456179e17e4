"""One block quantized alone, against doing it by hand; the loss by task, and the laws it obeys."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantlab.engine.build import build_layer
from quantlab.engine.calibrate import Calibration
from quantlab.engine.evaluate import relative_errors
from quantlab.engine.sensitivity import SCENES, BlockProbe
from quantlab.engine.settings import LayerSettings
from quantlab.engine.task_loss import Result, TaskLoss, mean_loss, task_loss
from quantlab.errors import JobCancelledError, RecipeError
from quantlab.geometry.cameras import unproject
from quantlab.jobs import Job
from quantlab.models.prediction import Prediction
from quantlab.models.structure import describe

CALLS: list[int] = []


class Block(nn.Module):
    def __init__(self, index: int, width: int = 8) -> None:
        super().__init__()
        self.index = index
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        CALLS.append(self.index)
        return x + self.mlp(self.norm(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(index) for index in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture
def case():
    torch.manual_seed(0)
    network = Net().eval()
    inputs = [torch.randn(1, 5, 8) for _ in range(SCENES + 2)]
    return network, describe(network), Calibration(inputs)


def rounded_layers(network: nn.Module, block: int, weights: int = 3) -> dict[str, nn.Module]:
    names = [f"blocks.{block}.mlp.{part}" for part in (0, 2)]
    settings = LayerSettings(weights=weights)
    return {name: build_layer(name, network.get_submodule(name), settings, seed=0).eval() for name in names}


def by_hand(network: Net, layers: dict[str, nn.Module], block: int, x: Tensor) -> tuple[Tensor, float]:
    """The network with one block exchanged, and the relative error of that block's output."""
    with torch.no_grad():
        for index, own in enumerate(network.blocks):
            if index == block:
                one, two = layers[f"blocks.{block}.mlp.0"], layers[f"blocks.{block}.mlp.2"]
                exact, made = own(x), x + two(nn.functional.gelu(one(own.norm(x))))
                error, x = float((made - exact).norm() / exact.norm()), made
            else:
                x = own(x)
    return x, error


@pytest.mark.parametrize("block", [0, 2, 3])
def test_the_loss_of_a_block_is_that_of_the_network_with_this_block_exchanged(case, block):
    network, structure, calibration = case
    layers = rounded_layers(network, block)
    loss = BlockProbe(network, structure, calibration).loss(f"blocks.{block}", layers)
    results = [by_hand(network, layers, block, x) for x in calibration.inputs[:SCENES]]
    expected = [
        relative_errors({"output": network(x).detach()}, {"output": result})["output"]
        for x, (result, _) in zip(calibration.inputs, results, strict=False)
    ]
    assert loss.distance == pytest.approx(np.mean(expected), rel=1e-5)
    assert loss.reconstruction == pytest.approx(np.mean([error for _, error in results]), rel=1e-4)
    assert loss.camera == loss.depth == loss.points == 0


def test_blocks_before_the_changed_one_do_not_run_again_and_the_network_is_as_before(case):
    network, structure, calibration = case
    probe = BlockProbe(network, structure, calibration)
    CALLS.clear()
    first = probe.loss("blocks.2", rounded_layers(network, 2))
    # Block 2 runs twice a scene: quantized, and in full precision on the same input to compare with.
    assert sorted(CALLS) == sorted([2, 2, 3] * SCENES)
    assert probe.loss("blocks.2", {}).distance == 0
    assert probe.loss("blocks.2", {}).reconstruction == 0
    assert probe.loss("blocks.2", rounded_layers(network, 2)) == first


def test_the_loss_falls_as_bits_rise(case):
    network, structure, calibration = case
    probe = BlockProbe(network, structure, calibration)
    losses = [probe.loss("blocks.1", rounded_layers(network, 1, bits)) for bits in (2, 4, 6, 8)]
    assert [loss.distance for loss in losses] == sorted((loss.distance for loss in losses), reverse=True)


def test_a_block_that_breaks_the_network_is_infinitely_sensitive(case):
    network, structure, calibration = case
    broken = nn.Linear(8, 16)
    nn.init.constant_(broken.weight, torch.inf)
    loss = BlockProbe(network, structure, calibration).loss("blocks.0", {"blocks.0.mlp.0": broken})
    assert loss.distance == float("inf")


def test_a_measurement_can_be_stopped_and_leaves_the_probe_usable(case):
    network, structure, calibration = case
    probe, job = BlockProbe(network, structure, calibration), Job()
    expected = probe.loss("blocks.1", rounded_layers(network, 1))
    job.cancel()
    with pytest.raises(JobCancelledError):
        probe.loss("blocks.1", rounded_layers(network, 1), job)
    assert probe.loss("blocks.3", {}).distance == 0
    assert probe.loss("blocks.1", rounded_layers(network, 1)) == expected


def test_nothing_is_measured_without_scenes(case):
    network, structure, _ = case
    with pytest.raises(RecipeError, match="calibration"):
        BlockProbe(network, structure, Calibration())


def scene(*, moved: float = 0.0, size: float = 1.0) -> Result:
    """Two views of a slanted plane; the second camera and the depth moved by a share of the scene's size."""
    depth = (np.linspace(1, 2, 16).reshape(1, 4, 4).repeat(2, axis=0) + moved) * size
    pose = np.tile(np.eye(4), (2, 1, 1))
    pose[1, 0, 3] = (0.5 + moved) * size
    intrinsics = np.tile(np.array([[4.0, 0, 2], [0, 4, 2], [0, 0, 1]], dtype=np.float32), (2, 1, 1))
    points = unproject(depth, intrinsics, pose)
    prediction = Prediction(
        images=np.zeros((2, 4, 4, 3), dtype=np.uint8),
        points=points.astype(np.float32),
        confidence=np.ones((2, 4, 4), dtype=np.float32),
        depth=depth.astype(np.float32),
        camera_from_world=pose,
        intrinsics=intrinsics,
    )
    return Result({}, prediction)


def test_a_result_has_no_distance_from_itself_and_every_task_from_a_moved_one():
    assert task_loss(scene(), scene()).distance == 0
    assert task_loss(scene(), scene()).consistency == pytest.approx(0, abs=1e-6)
    loss = task_loss(scene(), scene(moved=0.1))
    assert min(loss.camera, loss.depth, loss.points) > 0
    assert loss.depth == pytest.approx(0.1 / 1.5, rel=1e-5)


def test_the_loss_does_not_depend_on_the_unit_of_length():
    one, other = (task_loss(scene(size=k), scene(size=k, moved=0.05)) for k in (1.0, 30.0))
    assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(other), rel=1e-4, abs=1e-7)


def test_points_of_a_head_of_their_own_are_held_against_the_unprojected_depth():
    result = scene()
    assert result.prediction is not None
    head = torch.from_numpy(result.prediction.points)[None] + torch.tensor([0.0, 0.0, 0.2])
    loss = task_loss(result, Result({"world_points": head}, result.prediction))
    assert loss.points == pytest.approx(loss.consistency, rel=1e-4)
    assert loss.camera == loss.depth == 0


def test_terms_count_in_units_of_those_of_another_loss():
    plain = TaskLoss(reconstruction=0.5, depth=0.1, points=0.0)
    assert plain.relative_to(plain) == 2
    assert TaskLoss(reconstruction=0.25, depth=0.2, points=9).relative_to(plain) == pytest.approx(2.5)
    assert mean_loss([plain, TaskLoss(depth=0.3)]) == TaskLoss(reconstruction=0.25, depth=0.2)


def test_an_infinite_focal_length_is_equal_to_itself_and_far_from_a_finite_one():
    exact = scene()
    wide = exact.prediction.intrinsics.copy()
    wide[:, 0, 0] = wide[:, 1, 1] = np.inf
    blind = Result(exact.outputs, dataclasses.replace(exact.prediction, intrinsics=wide))
    assert task_loss(blind, blind).camera == 0
    assert 0 < task_loss(exact, blind).camera < np.inf
