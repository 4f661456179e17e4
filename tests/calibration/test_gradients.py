"""Gradients at watched modules: against finite differences, the law at full precision, memory and errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quantlab.calibration.gradients import distances, gradients, take_gradients, task_of
from quantlab.errors import DeviceError, JobCancelledError, RecipeError
from quantlab.jobs import Job
from quantlab.kernels.activations import DynamicActivations
from quantlab.numerics.formats import QuantSpec


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 3)
        self.shift = torch.zeros(6)

    def forward(self, x):
        return {"pose": self.second(torch.tanh(self.first(x) + self.shift)), "conf": x}


def run(network, x):
    return network(x)


def noisy(network):
    other = Net()
    with torch.no_grad():
        for ours, theirs in zip(other.parameters(), network.parameters(), strict=True):
            ours.copy_(theirs + 0.1 * torch.randn_like(theirs))
    return other


def seen_by(network, losses, inputs, **options):
    found = []
    gradients(network, run, inputs, ["first"], losses, lambda *seen: found.append(seen), **options)
    return found


def test_the_gradient_is_that_of_finite_differences():
    exact, other = Net().double(), noisy(Net()).double()
    inputs = [torch.randn(4, 5, dtype=torch.float64) for _ in range(2)]
    losses = distances(exact, run, inputs)
    for task, name, output, gradient, scene in seen_by(other, losses, inputs):
        assert (task, name, output.shape) == ("output", "first", (4, 6))
        numeric = torch.zeros_like(gradient)
        for row in range(4):
            for channel in range(6):
                sides = []
                for sign in (1, -1):
                    other.shift = torch.zeros(4, 6, dtype=torch.float64)
                    other.shift[row, channel] = sign * 1e-2
                    sides.append(float(losses(run(other, inputs[scene]), scene)["output"].detach()))
                numeric[row, channel] = (sides[0] - sides[1]) / 2e-2
        other.shift = torch.zeros(6, dtype=torch.float64)
        torch.testing.assert_close(gradient, numeric, rtol=2e-3, atol=1e-6)


def test_at_full_precision_the_gradient_is_zero():
    network, inputs = Net(), [torch.randn(4, 5)]
    found = seen_by(network, distances(network, run, inputs), inputs)
    assert len(found) == 1
    assert float(found[0][3].abs().max()) == 0.0


def test_rounding_passes_gradients_straight_through_and_values_bit_for_bit():
    x = torch.randn(7, 16, requires_grad=True)
    rounding = DynamicActivations(QuantSpec(3, granularity="token"), "layer")
    y = rounding(x)
    with torch.no_grad():
        assert torch.equal(y, rounding(x))
    weights = torch.randn(7, 16)
    (y * weights).sum().backward()
    assert torch.equal(x.grad, weights)


def test_nothing_is_left_on_the_network():
    network = noisy(Net())
    network.first.weight.requires_grad_(requires_grad=True)
    inputs = [torch.randn(4, 5)]
    seen_by(network, distances(Net(), run, inputs), inputs)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert not network.first._forward_hooks


def test_a_repeated_module_hands_each_call_its_own_gradient():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            return {"y": self.inner(self.inner(x)) * 2}

    network, pairs = Twice(), []
    x = torch.randn(2, 3)

    def take(_name, given, output, _scene):
        return lambda _task, gradient: pairs.append((given, output, gradient))

    take_gradients(network, run, [x], ["inner"], lambda out, _: {"t": out["y"].sum()}, take)
    (later, _, g_later), (first, _, g_first) = pairs
    assert torch.equal(first, x)
    torch.testing.assert_close(later, network.inner(x).detach())
    assert torch.equal(g_later, torch.full((2, 3), 2.0))
    torch.testing.assert_close(g_first, g_later @ network.inner.weight.detach())


def test_a_tuple_and_an_output_changed_in_place_are_followed():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Both()

        def forward(self, x):
            y, _ = self.inner(x)
            return {"y": y.relu_().sum(1)}

    class Both(nn.Module):
        def forward(self, x):
            return x * 3, x

    found = []
    x = torch.tensor([[1.0, -1.0]])
    gradients(Pair(), run, [x], ["inner"], lambda o, _: {"t": o["y"].sum()}, lambda *seen: found.append(seen))
    assert found[0][3].tolist() == [[1.0, 0.0]]


def test_tasks_are_told_apart_and_each_takes_its_own_gradient():
    assert [task_of(n) for n in ("pose_enc", "depth", "depth_conf", "world_points", "camera_poses", "x")] == [
        "camera",
        "depth",
        "",
        "points",
        "camera",
        "output",
    ]
    exact, other, inputs = Net(), noisy(Net()), [torch.randn(4, 5)]
    tasks = {seen[0] for seen in seen_by(other, distances(exact, run, inputs, by_task=True), inputs)}
    assert tasks == {"camera"}
    both = seen_by(other, lambda out, _: {"a": out["pose"].sum(), "b": 3 * out["pose"].sum()}, inputs)
    torch.testing.assert_close(3 * both[0][3], both[1][3])


def test_a_backward_pass_that_would_not_fit_says_what_to_do():
    inputs = [torch.randn(64, 5)]
    with pytest.raises(DeviceError) as caught:
        seen_by(noisy(Net()), distances(Net(), run, inputs), inputs, limit=100)
    assert "search_loss 'output'" in caught.value.remedy


def test_outputs_without_gradients_and_a_cancelled_job_say_so():
    inputs = [torch.randn(4, 5)]
    with pytest.raises(RecipeError, match="gradients can follow"):
        seen_by(Net(), lambda out, _: {"t": out["conf"].sum()}, inputs)
    job = Job()
    job.cancel()
    with pytest.raises(JobCancelledError):
        seen_by(Net(), distances(Net(), run, inputs), inputs, job=job)
