"""The shared pass over the calibration scenes: the same results as separate passes, and what it spares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantlab.calibration.capture import capture_profile
from quantlab.calibration.samples import collect_samples
from quantlab.engine.diagnose import diagnose
from quantlab.engine.recipe import Recipe
from quantlab.engine.survey import RECORDED
from quantlab.errors import JobCancelledError
from quantlab.jobs import Job
from quantlab.lab import Lab
from quantlab.models.layers import Block
from quantlab.models.structure import describe

RTN = Recipe.preset("rtn", scope="linears")
SMOOTH = Recipe.preset("quantvggt", scope="linears")
LAST = "blocks.3.mlp.fc2"


class Network(nn.Module):
    """Four blocks and a head; every call is counted, of the copies too."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(8, 2, layer_scale=0.5) for _ in range(4))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        Network.calls += 1
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def scenes(count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(1, 6, 8, generator=generator) for _ in range(count)]


@pytest.fixture
def network() -> Network:
    torch.manual_seed(1)
    Network.calls = 0
    return Network().eval()


@pytest.fixture
def lab(network: Network) -> Lab:
    return Lab(network, scenes(), recipe=RTN)


def test_one_pass_gives_the_profile_the_references_and_the_samples(lab: Lab) -> None:
    lab.profile()
    assert Network.calls == len(lab.calibration)
    lab.reference(0)
    lab.reference(1)
    lab.layer(LAST)
    assert Network.calls == len(lab.calibration)


def test_what_the_shared_pass_finds_is_what_separate_passes_find(lab: Lab, network: Network) -> None:
    shared, structure = lab.profile(), describe(network)
    alone = capture_profile(network, structure, None, scenes())
    assert shared.layers.keys() == alone.layers.keys()
    for name, layer in shared.layers.items():
        assert np.array_equal(layer.channel_max, alone.layers[name].channel_max)
        assert layer.all.kurtosis == alone.layers[name].all.kurtosis
    view = lab.layer(LAST)
    rows = collect_samples(network, structure, None, scenes()).rows(LAST)
    assert view.channel_absmax["raw"] == pytest.approx(rows.abs().amax(0).numpy())
    with torch.no_grad():
        assert torch.equal(lab.reference(1).outputs["output"], network(scenes()[1]))


def test_scenes_that_are_only_judged_on_are_run_on_their_own(network: Network) -> None:
    lab = Lab(network, calibration=scenes(), evaluation=[torch.ones(1, 6, 8)], recipe=RTN)
    lab.profile()
    before = Network.calls
    with torch.no_grad():
        expected = network(torch.ones(1, 6, 8))
    assert torch.equal(lab.reference().outputs["output"], expected)
    assert Network.calls == before + 2


def test_a_diagnosis_runs_only_blocks_in_which_it_measures_and_finds_the_same(lab: Lab) -> None:
    lab.recipe = Recipe.preset("full_precision", scope="linears").set(LAST, weights=3, activations=4)
    lab.profile()
    found = lab.diagnose()
    assert lab._blocks.skipped == ["blocks.0", "blocks.1", "blocks.2"]
    alone = diagnose(lab._subject, lab._quantizer, scenes())
    assert found.layers == alone.layers
    assert found.branches == alone.branches
    assert found.layers[LAST] > 0


def test_a_first_quantized_run_starts_at_the_first_quantized_block(lab: Lab) -> None:
    lab.recipe = Recipe.preset("full_precision", scope="linears").set("blocks.2.*", weights=3)
    fresh = Lab(lab.model, scenes(), recipe=lab.recipe)
    run = lab.quantized()
    assert run.replayed == 2
    assert list(run.begun)  # and what was skipped is told of too
    fresh._blocks.limit_bytes = 0
    assert torch.equal(fresh.quantized().outputs["output"], run.outputs["output"])


def test_what_is_remembered_does_not_grow_with_the_scenes(network: Network) -> None:
    held = []
    for count in (RECORDED, 3 * RECORDED):
        lab = Lab(network, calibration=scenes(count), evaluation=scenes(1), recipe=RTN)
        lab.profile()
        held.append(lab._blocks.bytes)
    assert held[0] == held[1] > 0


@pytest.mark.parametrize("recipe", [RTN, SMOOTH], ids=["rtn", "calibrated"])
@pytest.mark.parametrize(
    "work",
    [
        lambda lab, job: lab.profile(job=job),
        lambda lab, job: lab.quantized(job=job),
        lambda lab, job: lab.evaluate(job=job),
        lambda lab, job: lab.layer(LAST, job=job),
        lambda lab, job: lab.diagnose(job=job),
    ],
    ids=["profile", "quantized", "evaluate", "layer", "diagnose"],
)
def test_progress_moves_block_by_block_and_never_back(
    network: Network, recipe: Recipe, work: Callable[[Lab, Job], object]
) -> None:
    seen: list[tuple[float, str]] = []
    job = Job(lambda job: seen.append((job.fraction, job.progress.text)))
    work(Lab(network, scenes(), recipe=recipe), job)
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    for index in range(4):
        assert any(text.endswith(f"blocks.{index}") for _, text in seen)


def test_opening_a_layer_can_be_stopped_while_its_samples_are_taken(lab: Lab) -> None:
    job = Job(lambda job: job.cancel() if "blocks.1" in job.progress.text else None)
    with pytest.raises(JobCancelledError):
        lab.layer(LAST, job=job)
    assert lab.layer(LAST).output_error > 0


def test_a_stopped_profile_leaves_no_reference_behind(lab: Lab) -> None:
    job = Job(lambda job: job.cancel() if "weight of" in job.progress.text else None)
    with pytest.raises(JobCancelledError):
        lab.profile(job=job)
    assert not lab.estimate().measured
    assert lab.profile().layers
    assert lab.estimate().measured


def test_the_estimate_falls_with_the_depth_of_the_edit_and_is_nothing_for_what_is_known(lab: Lab) -> None:
    assert lab.estimate().blocks == 4
    assert not lab.estimate().measured
    lab.evaluate()
    assert lab.estimate().blocks == lab.estimate().seconds == 0
    costs = []
    for block in (0, 3):
        lab.set(f"blocks.{block}.mlp.fc2", keep=True)
        costs.append(lab.estimate())
        lab.undo()
    assert [cost.blocks for cost in costs] == [4, 1]
    assert 0 < costs[1].seconds < costs[0].seconds < lab.reference().seconds
    assert costs[1].diagnosis > 0
    assert lab.estimate().seconds == 0


def test_the_durations_of_a_run_add_up_to_the_time_since_its_first_block(lab: Lab) -> None:
    run = lab.reference()
    durations = run.durations()
    assert list(durations) == [f"blocks.{index}" for index in range(4)]
    assert sum(durations.values()) == pytest.approx(run.seconds - run.begun["blocks.0"])
