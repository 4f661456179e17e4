"""Measured execution: what is timed is what is counted, what is simulated is said, and nothing in the lab changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

import quantlab as ql
from quantlab.engine.executable import changed, executable, nearest, simulated, widened
from quantlab.engine.measure import _race, _ratios, _Rival, held_bytes, layer_seconds
from quantlab.engine.settings import LayerSettings
from quantlab.engine.subject import subject_of
from quantlab.errors import JobCancelledError, RecipeError, SceneError
from quantlab.jobs import Job
from quantlab.kernels.onednn import OneDnn
from quantlab.kernels.reference import SimulatedLinear
from quantlab.models.model import Model

BLOCKS, WIDTH = 2, 64
SMALL = {
    "patch_size": 8,
    "aggregator": {"img_size": 32, "embed_dim": 32, "depth": 1, "num_heads": 2, "num_register_tokens": 1},
    "vit": {"embed_dim": 32, "depth": 1, "num_heads": 2},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "dpt": {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 0, 0]},
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 2 * WIDTH), "fc2": nn.Linear(2 * WIDTH, WIDTH)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp["fc2"](torch.relu(self.mlp["fc1"](self.norm1(x))))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


LAYERS = {f"blocks.{index}.mlp.{kind}" for index in range(BLOCKS) for kind in ("fc1", "fc2")}
W8A8 = ql.Recipe("plain", scope="all", defaults={"weights": 8, "activations": 8})


@pytest.fixture(scope="module")
def lab() -> ql.Lab:
    torch.manual_seed(0)
    scenes = [torch.randn(1, 12, WIDTH) for _ in range(2)]
    return ql.Lab(Net(), calibration=scenes, evaluation=scenes, recipe=W8A8)


@pytest.fixture(scope="module")
def measured(lab):
    return lab.measure()


def test_every_quantized_linear_has_a_kernel_and_every_layer_a_time(measured):
    assert set(measured.chosen) == LAYERS == set(measured.layers)
    assert sum(measured.kernels.values()) == len(LAYERS)
    assert all(seconds > 0 for seconds in measured.layers.values())
    assert min(measured.seconds, measured.full_seconds, measured.mixed_seconds) > 0
    assert measured.shares["blocks.0.mlp.fc1"] == measured.layers["blocks.0.mlp.fc1"] / measured.timed_seconds


def test_the_weights_as_executed_are_smaller_and_counted_once(measured):
    held = sum(parameter.nbytes for parameter in Net().parameters())
    assert measured.full_bytes == held
    assert measured.bytes < held / 2
    shared = nn.Sequential(first := nn.Linear(3, 3), first)
    assert held_bytes(shared) == 4 * (9 + 3)


def test_a_measurement_is_known_afterwards_and_changes_nothing(lab, measured):
    assert lab.measure() is measured
    assert lab.measured() is measured
    assert lab.measured(recipe=replace(W8A8, name="another")) is None
    assert lab.measured(1) is None
    evaluation = lab.evaluate()
    assert (evaluation.latency, evaluation.memory_bytes) == (measured.seconds, measured.bytes)
    assert lab.evaluate(recipe=replace(W8A8, seed=3)).latency is None
    assert type(lab.calibrated().layer("blocks.0.mlp.fc1")) is SimulatedLinear, (
        "the twin itself is not exchanged"
    )


def test_it_is_measured_again_where_that_is_asked(lab, measured):
    anew = lab.measure(again=True)
    assert anew is not measured
    assert anew is lab.measure()
    assert 0 < anew.fastest <= anew.seconds <= anew.slowest
    assert len(anew.ratios) == anew.runs
    low, high = anew.between
    assert min(anew.ratios) <= low <= anew.faster <= high <= max(anew.ratios)


def test_a_round_compares_what_this_thread_worked_and_the_wall_where_there_are_more(monkeypatch):
    full, own = _Rival("full", Net(), [4.0, 9.0], [2.0, 3.0]), _Rival("own", Net(), [1.0, 3.0], [1.0, 1.0])
    for threads, ratios in ((1, (2.0, 3.0)), (2, (4.0, 3.0))):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert _ratios(full, own) == ratios
    monkeypatch.undo()
    on_gpu = _Rival("own", Net(), [1.0, 3.0], [None, None])
    assert _ratios(full, on_gpu) == (4.0, 3.0), "nobody knows what this thread did for it"


def test_every_network_is_the_first_of_a_round_in_turn(monkeypatch):
    ran = []

    def run(rival, *_):
        ran.append(rival.name)
        rival.seconds.append(0.01)
        rival.worked.append(None)

    monkeypatch.setattr(_Rival, "run", run)
    names = ("full", "own", "mixed")
    runs = _race(None, None, [_Rival(name, Net()) for name in names], None)
    rounds = [ran[start : start + 3] for start in range(3, len(ran), 3)]
    assert len(rounds) == runs
    assert all(sorted(one) == sorted(names) for one in rounds)
    firsts = [one[0] for one in rounds]
    assert max(map(firsts.count, names)) - min(map(firsts.count, names)) <= 1


def test_what_bfloat16_between_the_layers_costs_is_measured_for_our_networks_and_refused_for_others(lab):
    with pytest.raises(RecipeError, match="bfloat16 stream"):
        lab.measure(compute="bfloat16")
    with pytest.raises(RecipeError, match="cannot compute"):
        lab.measure(compute="float12")
    torch.manual_seed(0)
    network = ql.build_model("vggt", SMALL)
    rooms = ql.rooms(1, views=2, size=32, seed=0, split="held-out")
    small = ql.Lab(Model(network, name="small"), calibration=rooms, evaluation=rooms, recipe=W8A8)
    exact, low = small.measure(), small.measure(compute="bfloat16")
    assert (exact.compute, low.compute) == ("float32", "bfloat16")
    simulated = small.evaluate().full_precision.outputs
    for name, error in exact.errors.items():
        assert error == pytest.approx(simulated[name], rel=0.2, abs=1e-3), (
            "what is executed is what is simulated"
        )
    assert set(low.errors) == set(exact.errors)
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters()), "a copy was lowered"


def test_a_cancelled_measurement_leaves_none_and_a_scene_that_is_not_there_is_refused(lab):
    job = Job()
    job.cancel()
    with pytest.raises(JobCancelledError):
        lab.measure(1, job=job)
    assert lab.measured(1) is None
    with pytest.raises(SceneError, match="no scene 7"):
        lab.measure(7)


def test_what_no_kernel_multiplies_is_marked_and_the_nearest_that_one_does_is_a_recipe(lab):
    weights_only = replace(W8A8, defaults={"weights": 4})
    found = lab.measure(recipe=weights_only)
    assert set(found.simulated) == LAYERS
    offered = executable(weights_only, lab.structure)
    assert offered.diff(replace(weights_only, defaults={"weights": 4})), "something changes"
    assert changed(weights_only, lab.structure) == {"activations": 8}
    assert not lab.measure(recipe=offered).simulated


def test_an_executable_recipe_is_its_own_nearest_and_kept_layers_stay_kept(lab):
    assert executable(W8A8, lab.structure) == W8A8
    mixed = replace(W8A8, defaults={"weights": 4}).set("blocks.0.mlp.fc1", keep=True)
    mixed = mixed.set("blocks.1.mlp.fc1", activations=6)
    offered = executable(mixed, lab.structure).layers(lab.structure)
    assert offered["blocks.0.mlp.fc1"].keep
    assert (offered["blocks.1.mlp.fc1"].activations, offered["blocks.1.mlp.fc2"].activations) == (6, 8)


@pytest.mark.parametrize(
    ("weights", "activations", "symmetric"), list(product((3, 4, 5, 8, 16), (4, 8, 16), (True, False)))
)
def test_what_settings_say_of_themselves_is_what_a_kernel_says_of_their_layer(
    weights, activations, symmetric
):
    own = LayerSettings(weights=weights, activations=activations, weight_symmetric=symmetric)
    near = replace(own, **nearest(own))
    assert simulated(near) == ""
    for settings in (own, near):
        if settings.quantized:
            assert bool(simulated(settings)) == bool(OneDnn().refuses(_layer(settings)))
    assert ("run as 8-bit codes" in widened(own)) == (activations < 8 and not simulated(own))


def _layer(settings: LayerSettings) -> SimulatedLinear:
    defaults = {
        "weights": settings.weights,
        "activations": settings.activations,
        "weight_symmetric": settings.weight_symmetric,
    }
    module = nn.Sequential(nn.Linear(16, 8), nn.ReLU())
    layer = ql.quantize(module, ql.Recipe("one", scope="all", defaults=defaults)).get_submodule("0")
    assert isinstance(layer, SimulatedLinear)
    return layer


def test_times_of_layers_add_up_over_calls():
    torch.manual_seed(0)
    layer = nn.Linear(WIDTH, WIDTH)
    twice = nn.Sequential(layer, nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    subject = subject_of(twice)
    seconds = layer_seconds(subject, twice, torch.randn(4, WIDTH))
    assert set(seconds.layers) == {"0", "2"}
    assert 0 < sum(seconds.layers.values()) < seconds.whole, "of one pass, something is left between layers"
    assert not twice[0]._forward_hooks, "no hook stays"


def test_a_network_without_blocks_is_measured_too():
    torch.manual_seed(0)
    net, inputs = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()), [torch.randn(4, WIDTH)]
    found = ql.Lab(net, calibration=inputs, evaluation=inputs, recipe=W8A8).measure()
    assert set(found.layers) == {"0"}
    assert not found.blocks
