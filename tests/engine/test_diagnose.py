"""Diagnosis against an oracle that quantizes by hand, one layer or branch at a time. No tables and no figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantlab.engine.calibrate import Calibration
from quantlab.engine.diagnose import JOINED, _Tail, diagnose
from quantlab.engine.quantize import Quantizer
from quantlab.engine.recipe import Recipe
from quantlab.engine.subject import subject_of
from quantlab.errors import JobCancelledError, NumericError, SceneError
from quantlab.jobs import Job
from quantlab.models.layers import Block

RTN = Recipe.preset("rtn", weights=3, activations=4, scope="linears")


class Network(nn.Module):
    """Two blocks; the second runs twice, as in a head that iterates."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(8, 2, layer_scale=0.5) for _ in range(2))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](x)
        for _ in range(2):
            x = self.blocks[1](x)
        return self.head(x)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(3)
    return Network().eval()


def scenes() -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(2, 5, 8, generator=generator) for _ in range(3)]


def quantizer_of(network: nn.Module, recipe: Recipe) -> Quantizer:
    subject = subject_of(network)
    quantizer = Quantizer(network, subject.structure, Calibration(scenes()))
    quantizer.apply(recipe)
    return quantizer


def ratio(y: np.ndarray, y_hat: np.ndarray, fraction: float) -> float:
    """TRE as the definition says, in numpy."""
    y, y_hat = y.astype(np.float64).ravel(), y_hat.astype(np.float64).ravel()
    tail = np.argsort(-np.abs(y))[: max(1, math.floor(fraction * y.size))]
    return float(((y - y_hat)[tail] ** 2).sum() / ((y[tail] ** 2).sum() + 1e-8))


def inputs_of(network: Network, name: str, scene: Tensor) -> list[Tensor]:
    seen: list[Tensor] = []
    handle = network.get_submodule(name).register_forward_pre_hook(
        lambda _, args: seen.append(args[0].clone())
    )
    with torch.no_grad():
        network(scene)
    handle.remove()
    return seen


@pytest.mark.parametrize("fraction", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("name", ["blocks.0.attn.qkv", "blocks.1.mlp.fc2", "head"])
def test_a_layers_error_is_that_of_the_layer_alone_on_full_precision_inputs(
    network: Network, name: str, fraction: float
) -> None:
    quantizer = quantizer_of(network, RTN)
    found = diagnose(subject_of(network), quantizer, scenes(), fraction=fraction).layers[name]
    expected = []
    for scene in scenes():
        x = torch.stack(inputs_of(network, name, scene))
        with torch.no_grad():
            exact, rounded = network.get_submodule(name)(x), quantizer.layer(name)(x)
        expected.append(ratio(exact.numpy(), rounded.numpy(), fraction))
    assert found == pytest.approx(np.mean(expected), rel=1e-4)
    assert found > 0


@pytest.mark.parametrize("which", ["blocks.0.attn", "blocks.1.mlp"])
def test_a_branchs_error_is_that_of_the_branch_alone_with_its_norm_and_gain(
    network: Network, which: str
) -> None:
    quantizer = quantizer_of(network, RTN)
    found = diagnose(subject_of(network), quantizer, scenes(), fraction=0.1).branches[which]
    block, kind = which.rsplit(".", 1)
    norm, gain = (f"{block}.norm1", f"{block}.ls1") if kind == "attn" else (f"{block}.norm2", f"{block}.ls2")

    def branch(of: nn.Module, x: Tensor) -> np.ndarray:
        with torch.no_grad():
            inner = of.get_submodule(which)(of.get_submodule(norm)(x))
            return of.get_submodule(gain)(inner).numpy()

    expected = []
    for scene in scenes():
        calls = inputs_of(network, norm, scene)
        exact = np.stack([branch(network, x) for x in calls])
        rounded = np.stack([branch(quantizer.network, x) for x in calls])
        expected.append(ratio(exact, rounded, 0.1))
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


def test_what_the_recipe_leaves_alone_has_no_error(network: Network) -> None:
    recipe = RTN.set("*", keep=True).set("blocks.1.mlp.fc1", keep=False)
    found = diagnose(subject_of(network), quantizer_of(network, recipe), scenes())
    assert {name for name, error in found.layers.items() if error} == {"blocks.1.mlp.fc1"}
    assert {name for name, error in found.branches.items() if error} == {"blocks.1.mlp"}
    assert set(found.branches) == {f"blocks.{block}.{kind}" for block in range(2) for kind in ("attn", "mlp")}


def test_along_the_trajectory_the_first_branch_sees_the_same_inputs_and_later_ones_do_not(
    network: Network,
) -> None:
    quantizer = quantizer_of(network, RTN)
    found = diagnose(subject_of(network), quantizer, scenes(), fraction=0.1, trajectory=True)
    along = found.trajectory_branches
    assert along is not None
    assert along["blocks.0.attn"] == pytest.approx(found.branches["blocks.0.attn"], rel=1e-5)
    later = "blocks.1.mlp"
    assert along[later] != pytest.approx(found.branches[later], rel=1e-5)
    assert along[later] > 0


def test_a_compensated_branch_is_judged_with_its_correction(network: Network) -> None:
    plain = quantizer_of(network, RTN)
    compensated = quantizer_of(network, RTN.set("blocks.0.mlp", compensation="on", rank=8))
    subject = subject_of(network)
    before, after = (
        diagnose(subject, quantizer, scenes(), fraction=1.0).branches for quantizer in (plain, compensated)
    )
    assert after["blocks.0.mlp"] < before["blocks.0.mlp"]
    assert after["blocks.0.attn"] == pytest.approx(before["blocks.0.attn"], rel=1e-6)


def test_diagnosing_changes_neither_network(network: Network) -> None:
    quantizer = quantizer_of(network, RTN)
    with torch.no_grad():
        before = quantizer.network(scenes()[0])
        diagnose(subject_of(network), quantizer, scenes(), trajectory=True)
        assert torch.equal(quantizer.network(scenes()[0]), before)
    for module in (*quantizer.network.modules(), *quantizer.reference.modules()):
        assert not module._forward_pre_hooks
        assert not module._forward_hooks


@pytest.mark.parametrize("error", [KeyboardInterrupt, JobCancelledError])
def test_hooks_are_removed_when_it_is_stopped(network: Network, error: type[BaseException]) -> None:
    def listen(job: Job) -> None:
        if "blocks.1" in job.progress.text:
            if error is KeyboardInterrupt:
                raise KeyboardInterrupt
            job.cancel()

    quantizer = quantizer_of(network, RTN)
    with pytest.raises(error):
        diagnose(subject_of(network), quantizer, scenes(), job=Job(listen))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in quantizer.reference.modules())
    assert diagnose(subject_of(network), quantizer, scenes()).branches


def test_no_scene_is_refused(network: Network) -> None:
    with pytest.raises(SceneError):
        diagnose(subject_of(network), quantizer_of(network, RTN), [])


@pytest.mark.bad_input
def test_a_quantized_layer_that_overflows_is_named(network: Network) -> None:
    quantizer = quantizer_of(network, RTN)
    layer = quantizer.layer("blocks.1.mlp.fc2")
    assert layer is not None
    layer.weight[0, 0] = float("inf")
    with pytest.raises(NumericError, match=r"blocks\.1\.mlp"):
        diagnose(subject_of(network), quantizer, scenes())


def test_large_outputs_in_chunks_are_summed_and_small_ones_joined() -> None:
    y = torch.cat((torch.full((100,), 10.0), torch.ones(JOINED)))
    joined, apart = _Tail(0.001), _Tail(0.001)
    joined.add(y[:100], y[:100] + 1)
    joined.add(y[100 : 100 + 900], y[100 : 100 + 900] + 1)
    assert joined.error() == pytest.approx(ratio(y[:1000].numpy(), y[:1000].numpy() + 1, 0.001))
    for _ in range(2):
        apart.add(y, y + 1)
    assert not apart.held
    assert apart.error() == pytest.approx(ratio(y.numpy(), y.numpy() + 1, 0.001), rel=1e-5)


def test_the_worst_come_first(network: Network) -> None:
    found = diagnose(subject_of(network), quantizer_of(network, RTN), scenes())
    errors = [error for _, error in found.worst_layers(4)]
    assert len(errors) == 4
    assert errors == sorted(found.layers.values(), reverse=True)[:4]


def test_cancelling_is_heard_inside_a_quantized_branch(network: Network) -> None:
    quantizer, job, ran = quantizer_of(network, RTN), Job(), []
    twin = quantizer.network
    twin.blocks[0].norm2.register_forward_hook(lambda *_: job.cancel())
    twin.blocks[0].mlp.act.register_forward_hook(lambda *_: ran.append(1))
    with pytest.raises(JobCancelledError):
        diagnose(subject_of(network), quantizer, scenes(), job=job)
    assert not ran
