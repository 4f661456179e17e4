"""Fisher weights: against gradients in closed form, the paper's normalisation, and kinds of tokens told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantlab.calibration.fisher import FLOOR, combine, importance, projections


class Head(nn.Module):
    """A block of gains, then two tasks that read different channels of it."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Linear(4, 4, bias=False)
        self.gain = torch.tensor([3.0, 1.0, 0.0, 0.0])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.block(x)
        return {"pose_enc": h * self.gain, "depth": h[..., 2:3] * 100.0, "depth_conf": h * 1e6}


def call(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    result: dict[str, Tensor] = network(x)
    return result


def weights_of(inputs: list[Tensor], **more: object) -> Tensor:
    torch.manual_seed(0)
    return importance(Head(), call, inputs, ["block"], seed=0, **more)["block"]


def test_weights_follow_the_squared_gain_of_each_task_and_no_task_drowns_another():
    scenes = [torch.randn(1, 400, 4, generator=torch.Generator().manual_seed(s)) for s in range(4)]
    weights = weights_of(scenes)
    assert weights.shape == (1, 4)
    # Camera 9 : 1 of its share, depth all of its own; each task counts the same however large its numbers are.
    expected = torch.tensor([[1.8, 0.2, 2.0, FLOOR]])
    torch.testing.assert_close(weights, expected, rtol=0.2, atol=1e-6)


def test_a_kind_of_token_has_weights_of_its_own_and_one_that_never_occurs_counts_plainly():
    class First(Head):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"pose_enc": self.block(x)[:, :1], "depth": self.block(x)[:, :1]}

    kinds = np.array([0, 2, 2, 2], dtype=np.uint8)
    found = importance(
        First(), call, [torch.randn(8, 4, 4)], ["block"], seed=0, kinds=lambda _block, _scene, _tokens: kinds
    )["block"]
    assert found[0].mean() == pytest.approx(
        4.0, rel=1e-3
    )  # a quarter of the tokens has all of it: the mean is 1
    assert (found[2] == FLOOR).all()
    assert (found[1] == 1).all()


def test_a_task_without_gradient_is_left_out_and_each_block_has_mean_one():
    sums = {
        ("camera", "a"): torch.tensor([[2.0, 6.0]]),
        ("camera", "b"): torch.tensor([[0.5, 0.5]]),
        ("depth", "a"): torch.zeros(1, 2),
        ("depth", "b"): torch.zeros(1, 2),
    }
    found = combine(sums, {key: torch.tensor([4.0]) for key in sums})
    torch.testing.assert_close(found["a"], torch.tensor([[0.5, 1.5]]))
    torch.testing.assert_close(found["b"], torch.tensor([[1.0, 1.0]]))


def test_directions_depend_on_seed_and_scene_and_on_nothing_else():
    outputs = {"depth": torch.randn(2, 3), "pose_enc": torch.randn(2)}
    first = projections(3)(outputs, 1)["depth"]
    assert projections(3)(outputs, 1)["depth"] == first
    assert projections(3)(outputs, 2)["depth"] != first
    assert projections(9)(outputs, 1)["depth"] != first
