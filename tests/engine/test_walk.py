"""Walking a network stage by stage: what a visitor sees is what an ordinary run would have shown it, at any depth."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantlab.calibration.samples import collect_samples
from quantlab.engine.twin import Places, twin
from quantlab.engine.walk import Call, StageCalls, collect, stages_of, walk
from quantlab.errors import JobCancelledError
from quantlab.jobs import Job
from quantlab.models.structure import TokenLayout, describe


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, *, gain: float = 1.0) -> Tensor:
        return x + gain * self.mlp(self.norm(x))


class Head(nn.Module):
    """A head that calls its own blocks several times, as a camera head does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = nn.ModuleList([Block(width)])
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = self.trunk[0](x)
        return self.out(x)


class Net(nn.Module):
    def __init__(self, width: int = 12, depth: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(10, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = Head(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x, gain=0.5)
        return self.head(x)


STAGES = ["blocks.0", "blocks.1", "blocks.2", "head"]


@pytest.fixture
def network() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 9, 10, generator=generator) for _ in range(3)]


def call(network: nn.Module, x: Tensor) -> Tensor:
    return network(x)


def states(network: Net, x: Tensor) -> dict[str, Tensor]:
    """By hand: what enters each stage."""
    with torch.no_grad():
        found, x = {}, network.embed(x)
        for index, block in enumerate(network.blocks):
            found[f"blocks.{index}"] = x
            x = block(x, gain=0.5)
        return {**found, "head": x}


def test_a_head_is_one_stage_with_all_blocks_in_it_and_what_is_outside_of_blocks_is_in_none(network):
    stages = stages_of(describe(network))
    assert list(stages) == STAGES
    assert set(stages["head"]) == {"head.trunk.0.mlp.0", "head.trunk.0.mlp.2", "head.out"}
    assert "embed" not in {layer for layers in stages.values() for layer in layers}


def test_each_stage_is_visited_once_with_what_enters_it_in_every_scene(network, inputs):
    seen: list[StageCalls] = []
    visited = walk(network, twin(network), STAGES[::-1], inputs, call, seen.append, quantized_inputs=False)
    assert [calls.stage for calls in seen] == list(visited) == STAGES
    for scene, x in enumerate(inputs):
        expected = states(network, x)
        for calls in seen:
            (only,) = calls.full[scene]
            assert torch.equal(only.args[0], expected[calls.stage])
            assert only.kwargs == ({} if calls.stage == "head" else {"gain": 0.5})
    assert all(calls.quantized is None for calls in seen)


def test_what_a_visit_puts_into_the_network_is_what_later_stages_of_it_receive(network, inputs):
    quantized = twin(network)
    places, seen = Places(quantized), {}

    def visit(calls: StageCalls) -> None:
        seen[calls.stage] = calls
        if calls.stage == "blocks.1":
            places.put("blocks.1.mlp.2", Doubled(network.blocks[1].mlp[2]))

    walk(network, quantized, STAGES, inputs, call, visit, quantized_inputs=True)
    for scene in range(len(inputs)):
        plain = {name: calls.full[scene][0].args[0] for name, calls in seen.items()}
        other = {name: calls.quantized[scene][0].args[0] for name, calls in seen.items()}
        assert torch.equal(plain["blocks.1"], other["blocks.1"])
        with torch.no_grad():
            doubled = network.blocks[1].mlp[:2](network.blocks[1].norm(plain["blocks.1"]))
            expected = plain["blocks.1"] + 0.5 * 2 * network.blocks[1].mlp[2](doubled)
        torch.testing.assert_close(other["blocks.2"], expected)
        assert torch.equal(plain["blocks.2"], states(network, inputs[scene])["blocks.2"])


class Doubled(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.layer(x)


def test_a_stage_run_inside_a_visit_fires_no_hook_and_gives_what_the_run_gives(network, inputs):
    outputs = {}

    def visit(calls: StageCalls) -> None:
        with torch.no_grad():
            outputs[calls.stage] = [scene[0].on(network.get_submodule(calls.stage)) for scene in calls.full]

    walk(network, twin(network), STAGES, inputs, call, visit, quantized_inputs=False)
    with torch.no_grad():
        for scene, x in enumerate(inputs):
            assert torch.equal(outputs["blocks.0"][scene], states(network, x)["blocks.1"])
            assert torch.equal(outputs["head"][scene], network(x))


def test_stages_that_no_scene_reaches_are_left_out_and_nothing_stays_hooked(network, inputs):
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Block(10), Block(10)])

        def forward(self, x: Tensor) -> Tensor:
            return self.blocks[0](x)

    lazy = Lazy().eval()
    assert walk(
        lazy, twin(lazy), ["blocks.0", "blocks.1"], inputs, call, lambda _: None, quantized_inputs=True
    ) == ("blocks.0",)
    assert not any(module._forward_pre_hooks for module in lazy.modules())
    assert walk(network, network, [], inputs, call, lambda _: None, quantized_inputs=False) == ()


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_walk_that_ends_early_leaves_no_hook_and_no_thread(how, network, inputs):
    job = Job()

    def visit(calls: StageCalls) -> None:
        if calls.stage == "blocks.1":
            if how == "failed":
                raise KeyError("visit")
            job.cancel()

    quantized = twin(network)
    with pytest.raises(JobCancelledError if how == "cancelled" else KeyError):
        walk(network, quantized, STAGES, inputs, call, visit, quantized_inputs=True, job=job)
    for module in (*network.modules(), *quantized.modules()):
        assert not module._forward_pre_hooks
    assert not any(thread.name == "quantlab-lockstep" for thread in threading.enumerate())


def test_a_walk_reports_every_stage(network, inputs):
    told: list[tuple[int, int, str]] = []
    job = Job(lambda running: told.append(tuple(running.progress)))
    walk(network, twin(network), STAGES, inputs, call, lambda _: None, quantized_inputs=False, job=job)
    assert told == [(index, 4, f"calibrate {stage}") for index, stage in enumerate(STAGES)]


def all_data(network: Net, inputs: list[Tensor], layouts=(), **options):
    structure, found = describe(network), {}

    def visit(calls: StageCalls) -> None:
        found.update(
            collect(network, structure, calls, stages_of(structure)[calls.stage], layouts, **options)
        )

    walk(network, twin(network), STAGES, inputs, call, visit, quantized_inputs=False)
    return found


def test_collected_data_are_those_of_an_ordinary_pass_with_second_moments_of_all_tokens(network, inputs):
    structure, received = describe(network), {}
    data = all_data(network, inputs)
    samples = collect_samples(network, structure, None, inputs, layers=data)
    hooks = [
        network.get_submodule(name).register_forward_pre_hook(
            lambda _m, args, name=name: received.setdefault(name, []).append(args[0].flatten(0, -2))
        )
        for name in data
    ]
    with torch.no_grad():
        for x in inputs:
            network(x)
    for hook in hooks:
        hook.remove()
    assert set(data) == set(structure.layers) - {"embed"}
    for name, found in data.items():
        tokens = torch.cat(received[name]).double()
        assert found.tokens == len(tokens) == (216 if "trunk" in name else 54)
        torch.testing.assert_close(found.gram, tokens.T @ tokens, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.absmax, samples.absmax(name), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.rows, samples.rows(name), rtol=1e-5, atol=1e-5)
        assert np.array_equal(found.kinds, samples.kinds(name))


def test_patch_tokens_alone_are_seen_where_that_is_asked_for(network, inputs):
    layout = TokenLayout(1, 2, 4, {"": ("camera",)})
    name = "blocks.0.mlp.0"
    everything = all_data(network, inputs, [layout] * 3)[name]
    patches = all_data(network, inputs, [layout] * 3, patches_only=[name])[name]
    with torch.no_grad():
        tokens = torch.cat(
            [network.blocks[0].norm(network.embed(x))[:, 1:].flatten(0, 1) for x in inputs]
        ).double()
    assert everything.tokens == 54
    assert patches.tokens == len(tokens) == len(patches.rows) == 48
    torch.testing.assert_close(patches.gram, tokens.T @ tokens, rtol=1e-5, atol=1e-5)
    assert patches.only("patch") is patches


def test_second_moments_are_left_out_where_nobody_asks_for_them(network, inputs):
    assert all(
        found.gram is None and not found.tokens for found in all_data(network, inputs, grams=False).values()
    )


def test_second_moments_of_many_tokens_are_not_summed_in_float32():
    """31 squared 40001 times is odd and above 2^24: no float32 number."""
    network = nn.Module()
    network.blocks = nn.ModuleList([Block(2)])
    with torch.no_grad():
        network.blocks[0].norm.weight.fill_(0)
        network.blocks[0].norm.bias.fill_(31.0)
    calls = StageCalls("blocks.0", [[Call((torch.zeros(1, 40001, 2),), {})]], None)
    found = collect(network, describe(network), calls, ["blocks.0.mlp.0"])["blocks.0.mlp.0"]
    assert (found.gram == 40001 * 31.0**2).all()
